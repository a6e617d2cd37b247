-- The offsets of all records that moved a hold: none of them waited, so none is parked when it is read again. What
-- moved a hold before this is known for its last move only.

ALTER TABLE dead_letters.jam ADD COLUMN moves bigint[] NOT NULL DEFAULT '{}';
UPDATE dead_letters.jam SET moves = ARRAY[moved_at] WHERE moved_at <> from_offset;
