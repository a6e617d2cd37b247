-- Tables that grow for ever are never read whole on the way of an event.

-- An attempt that comes again hears its answer again, also where that was the answer to a retry.
CREATE INDEX repeat_attempt ON repeat (event_id, attempt_offset);

-- The resolver looks ten times a second at what is open: a handful among all that was ever parked.
DROP INDEX parked_open;
CREATE INDEX parked_waiting ON parked (part, source_offset) WHERE state = 'WAITING';
CREATE INDEX parked_unappended ON parked (part, source_offset) WHERE NOT appended;
CREATE INDEX parked_event ON parked (event_id);
