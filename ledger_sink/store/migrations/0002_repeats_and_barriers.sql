-- Tables that grow for ever are never read whole on the way of an event.

-- An attempt that comes again hears its answer again, also where that was the answer to a retry.
CREATE INDEX repeat_attempt ON repeat (event_id, attempt_offset);

-- What has to be reached before "not found" is final, for all that was first seen together.
CREATE TABLE barrier (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    raw_ends jsonb NOT NULL,
    log_ends jsonb
);

-- The resolver looks ten times a second at what is open: a handful among all that was ever parked.
DROP INDEX parked_open;
ALTER TABLE parked DROP COLUMN raw_ends, DROP COLUMN log_ends, ADD COLUMN barrier bigint;
CREATE INDEX parked_waiting ON parked (part, source_offset) WHERE state = 'WAITING';
CREATE INDEX parked_unappended ON parked (part, source_offset) WHERE NOT appended;
CREATE INDEX parked_event ON parked (event_id);
