-- The fraud agents' own schema: where each partition's detectors stand, and which rules judged which stretch of the log.

CREATE TABLE fraud.snapshot (
    consumer    text    NOT NULL,
    topic       text    NOT NULL,
    part        integer NOT NULL CHECK (part >= 0),
    -- Counted up by every claim; only the worker that has the current one may write.
    epoch       bigint  NOT NULL DEFAULT 1,
    -- The state has seen every record below this offset and none at or above it.
    next_offset bigint  NOT NULL DEFAULT 0 CHECK (next_offset >= 0),
    rule_set    text,
    state       bytea,
    claimed_at  timestamptz NOT NULL DEFAULT now(),
    saved_at    timestamptz,
    PRIMARY KEY (consumer, topic, part),
    CHECK ((state IS NULL) = (rule_set IS NULL)),
    CHECK (state IS NOT NULL OR next_offset = 0)
);

-- Rewritten every half a minute and mostly random ids: compressing it would only cost the server's time.
ALTER TABLE fraud.snapshot ALTER COLUMN state SET STORAGE EXTERNAL;

-- From which offset on a partition is judged by which rules; a replay changes rules at the same records.
CREATE TABLE fraud.activation (
    consumer     text    NOT NULL,
    topic        text    NOT NULL,
    part         integer NOT NULL,
    from_offset  bigint  NOT NULL CHECK (from_offset >= 0),
    rule_set     text    NOT NULL,
    activated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, topic, part, from_offset)
);
