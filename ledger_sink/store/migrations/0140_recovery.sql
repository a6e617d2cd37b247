-- What was done after a restore: the ledger booked again from its log, or bound to the log of another cluster. While a row is
-- not finished, no worker of the ledger starts.
CREATE TABLE recovery (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- RECOVER or REBIND.
    kind        text        NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    actor       text        NOT NULL,
    -- Of the cluster and of the log's topic that the ledger belongs to afterwards; the topic's is null where the broker tells none.
    cluster_id  text        NOT NULL,
    topic_id    text,
    -- Positions by "consumer topic-partition", when it began.
    starts      jsonb       NOT NULL,
    report      jsonb
);
CREATE UNIQUE INDEX recovery_unfinished ON recovery ((1)) WHERE finished_at IS NULL;

-- Which offsets of an earlier log, those that rows of the ledger name, are which offsets of the log of today: a run of
-- records each, `next_offset` behind its last one. Empty for a ledger that still has its first log.
CREATE TABLE log_mapping (
    part        integer NOT NULL,
    from_offset bigint  NOT NULL,
    next_offset bigint  NOT NULL CHECK (next_offset > from_offset),
    -- Of the run's first record in the log of today.
    new_offset  bigint  NOT NULL CHECK (new_offset >= 0),
    recovery    bigint  NOT NULL,
    PRIMARY KEY (recovery, part, from_offset)
);
