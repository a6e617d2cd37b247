-- Tamper evidence: a seal says what the rows of a stretch of one log partition were, and continues the one before it.
-- Written by `pitboss ledger seal` behind the ledger, so that no bet waits for it.
CREATE TABLE seal (
    part        integer  NOT NULL,
    number      bigint   NOT NULL CHECK (number > 0),
    form        smallint NOT NULL,
    from_offset bigint   NOT NULL,
    next_offset bigint   NOT NULL CHECK (next_offset > from_offset),
    digests     bytea    NOT NULL,
    hash        bytea    NOT NULL,
    PRIMARY KEY (part, number)
);

-- A stretch of the log is read by its offsets; see 0003 for the kind of index. New ranges are summarised as they fill.
CREATE INDEX transfer_source ON transfer USING brin (source_offset int8_minmax_multi_ops (values_per_range = 64))
    WITH (pages_per_range = 16, autosummarize = on);
