-- What people did with dead letters, and what waits behind them. Neither changes the ledger: what is redriven or goes
-- on comes to it through the log. Numbered with a gap, so that it depends on no other file.
CREATE SCHEMA dead_letters;

-- Who had which dead letter redriven or dropped, and why. `to_part` and `to_offset` are where its bytes were appended;
-- while they are null nobody knows whether they were, and the next redrive does it (again).
CREATE TABLE dead_letters.action (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic         text    NOT NULL,
    part          integer NOT NULL,
    source_offset bigint  NOT NULL,
    action        text    NOT NULL CHECK (action IN ('REDRIVE', 'DROP')),
    code          text    NOT NULL,
    actor         text    NOT NULL CHECK (actor <> ''),
    reason        text    NOT NULL CHECK (reason <> ''),
    is_forced     boolean NOT NULL,
    asked_at      timestamptz NOT NULL DEFAULT now(),
    is_done       boolean NOT NULL DEFAULT false,
    to_part       integer,
    to_offset     bigint
);
CREATE INDEX action_source ON dead_letters.action (topic, part, source_offset, id);

-- A record for auditors: rows are added, completed once, and never changed or removed by a statement of ours.
CREATE FUNCTION dead_letters.keep_action() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NOT OLD.is_done AND NEW.is_done
       AND (NEW.id, NEW.topic, NEW.part, NEW.source_offset, NEW.action, NEW.code, NEW.actor, NEW.reason, NEW.is_forced,
            NEW.asked_at)
         = (OLD.id, OLD.topic, OLD.part, OLD.source_offset, OLD.action, OLD.code, OLD.actor, OLD.reason, OLD.is_forced,
            OLD.asked_at) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'what was done with a dead letter stays on record: % is refused', TG_OP;
END $$;
CREATE TRIGGER keep_action BEFORE UPDATE OR DELETE ON dead_letters.action
    FOR EACH ROW EXECUTE FUNCTION dead_letters.keep_action();
CREATE TRIGGER keep_actions BEFORE TRUNCATE ON dead_letters.action
    FOR EACH STATEMENT EXECUTE FUNCTION dead_letters.keep_action();

-- A raw key whose records wait from one offset of their partition to another. See streams/dead_letters/jams.py.
CREATE TABLE dead_letters.jam (
    topic        text    NOT NULL,
    part         integer NOT NULL,
    from_offset  bigint  NOT NULL,
    key          bytea   NOT NULL,
    waits_for    bigint  NOT NULL,
    moved_at     bigint  NOT NULL,
    since_ms     bigint  NOT NULL,
    code         text    NOT NULL,
    until_offset bigint,
    ended_by     text CHECK (ended_by IN ('READ', 'DROP', 'EXPIRY')),
    full_from    bigint,
    PRIMARY KEY (topic, part, from_offset),
    CHECK ((until_offset IS NULL) = (ended_by IS NULL))
);
-- What a worker asks when it takes a partition over: few rows of all that ever were.
CREATE INDEX jam_live ON dead_letters.jam (topic, part, (coalesce(until_offset, 9223372036854775807)));

-- A raw record that waits, and afterwards the trace that it did.
CREATE TABLE dead_letters.parked (
    topic         text    NOT NULL,
    part          integer NOT NULL,
    source_offset bigint  NOT NULL,
    jam_from    bigint  NOT NULL,
    timestamp_ms  bigint  NOT NULL,
    body          bytea,
    headers       bytea   NOT NULL,
    parked_at     timestamptz NOT NULL DEFAULT now(),
    released_at   timestamptz,
    PRIMARY KEY (topic, part, source_offset)
);
CREATE INDEX parked_waiting ON dead_letters.parked (topic, part, jam_from, source_offset) WHERE released_at IS NULL;
