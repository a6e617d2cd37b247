-- The ledger's first schema. Entries, repeats and transfers are only ever inserted; wallets, closings of
-- events and player states are projections of them that decisions read.

-- One row: what this database belongs to. A worker with another broker or partition count refuses to start.
CREATE TABLE installation (
    only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    cluster_id   text    NOT NULL,
    partitions   integer NOT NULL CHECK (partitions > 0)
);

-- How far each consumer has come, and who may go on. The checksum and time of the last record tie it to its log.
CREATE TABLE stream_position (
    consumer          text   NOT NULL,
    topic             text   NOT NULL,
    part              integer NOT NULL,
    next_offset       bigint NOT NULL DEFAULT 0 CHECK (next_offset >= 0),
    published_offset  bigint NOT NULL DEFAULT 0 CHECK (published_offset >= 0),
    epoch             bigint NOT NULL DEFAULT 0,
    last_timestamp_ms bigint,
    last_checksum     bigint,
    PRIMARY KEY (consumer, topic, part)
);

-- The order of commits: replay follows it, so what crosses partitions comes out alike.
CREATE TABLE batch (
    sequence     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    part         integer NOT NULL,
    from_offset  bigint  NOT NULL,
    next_offset  bigint  NOT NULL
);

-- One row a decided event. `decision` counts up only where a dialect lets a refused id be decided anew.
CREATE TABLE entry (
    event_id           uuid     NOT NULL,
    decision           smallint NOT NULL,
    brand              text     NOT NULL,
    provider           text     NOT NULL,
    provider_version   text     NOT NULL,
    region             text     NOT NULL,
    operation          text     NOT NULL,
    provider_tx_id     text     NOT NULL,
    kind               text     NOT NULL,
    player_id          text,
    round_id           text,
    game_id            text,
    reference_event_id uuid,
    fingerprint        text     NOT NULL,
    attempt_topic      text     NOT NULL,
    attempt_part       integer  NOT NULL,
    attempt_offset     bigint   NOT NULL,
    attempt_index      integer  NOT NULL,
    part               integer  NOT NULL,
    source_offset      bigint   NOT NULL,
    occurred_at_ms     bigint   NOT NULL,
    outcome            text     NOT NULL,
    reason             text     NOT NULL,
    currency           text,
    available_minor    bigint,
    version            bigint,
    transfers          smallint NOT NULL,
    PRIMARY KEY (event_id, decision)
);
-- Only a publisher's restart and the proofs read by place in the log, so the cheapest index there is will do.
CREATE INDEX entry_source ON entry USING brin (source_offset) WITH (pages_per_range = 16);

-- Every further attempt of an event: EXISTS, CONFLICT, or the first answer again. Moves nothing.
CREATE TABLE repeat (
    part            integer NOT NULL,
    source_offset   bigint  NOT NULL,
    event_id        uuid    NOT NULL,
    brand           text    NOT NULL,
    provider        text    NOT NULL,
    operation       text    NOT NULL,
    provider_tx_id  text    NOT NULL,
    player_id       text,
    fingerprint     text    NOT NULL,
    attempt_topic   text    NOT NULL,
    attempt_part    integer NOT NULL,
    attempt_offset  bigint  NOT NULL,
    attempt_index   integer NOT NULL,
    redelivered     boolean NOT NULL,
    outcome         text    NOT NULL,
    reason          text    NOT NULL,
    currency        text,
    available_minor bigint,
    version         bigint,
    PRIMARY KEY (part, source_offset)
);

-- One row a movement, balanced by construction: one amount, one debit, one credit. A wallet's rows are a chain of
-- gap-free versions that carry the balances after them; rows between house accounts have no wallet.
CREATE TABLE transfer (
    player_id      text,
    currency       text     NOT NULL,
    version        bigint,
    debit          text     NOT NULL,
    credit         text     NOT NULL,
    amount_minor   bigint   NOT NULL CHECK (amount_minor > 0),
    cash_minor     bigint,
    bonus_minor    bigint,
    held_minor     bigint,
    event_id       uuid     NOT NULL,
    decision       smallint NOT NULL,
    part           integer  NOT NULL,
    source_offset  bigint   NOT NULL,
    occurred_at_ms bigint   NOT NULL,
    CHECK (debit <> credit),
    CHECK (player_id IS NULL OR (version IS NOT NULL AND cash_minor IS NOT NULL AND bonus_minor IS NOT NULL
                                 AND held_minor IS NOT NULL)),
    UNIQUE (player_id, currency, version)
);

-- The latest state of each wallet: what decisions and the balance topic read.
CREATE TABLE wallet (
    player_id     text     NOT NULL,
    currency      text     NOT NULL,
    scale         smallint NOT NULL,
    cash_minor    bigint   NOT NULL,
    bonus_minor   bigint   NOT NULL,
    held_minor    bigint   NOT NULL CHECK (held_minor >= 0),
    version       bigint   NOT NULL,
    event_id      uuid     NOT NULL,
    part          integer  NOT NULL,
    source_offset bigint   NOT NULL,
    PRIMARY KEY (player_id, currency)
);

-- An event can be closed once: rolled back, cancelled, paid out or refused. The row may come before the event.
CREATE TABLE closing (
    event_id      uuid    NOT NULL,
    player_id     text    NOT NULL,
    action        text    NOT NULL,
    by_event_id   uuid    NOT NULL,
    part          integer NOT NULL,
    source_offset bigint  NOT NULL,
    PRIMARY KEY (event_id, player_id)
);

CREATE TABLE player_state (
    player_id          text    PRIMARY KEY,
    is_blocked         boolean NOT NULL,
    bet_limit_currency text,
    bet_limit_minor    bigint,
    event_id           uuid    NOT NULL
);

-- Events that name no player, until the transaction they refer to is found or all positions have passed the barrier.
CREATE TABLE parked (
    part               integer  NOT NULL,
    source_offset      bigint   NOT NULL,
    event_id           uuid     NOT NULL,
    reference_event_id uuid,
    body               bytea    NOT NULL,
    parked_at          timestamptz NOT NULL DEFAULT now(),
    raw_ends           jsonb,
    log_ends           jsonb,
    state              text     NOT NULL DEFAULT 'WAITING' CHECK (state IN ('WAITING', 'RESOLVED', 'FINAL')),
    player_id          text,
    appended           boolean  NOT NULL DEFAULT false,
    PRIMARY KEY (part, source_offset)
);
CREATE INDEX parked_open ON parked (reference_event_id) WHERE NOT appended;
