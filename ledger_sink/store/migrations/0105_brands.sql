-- The brand of each wallet: a player belongs to one brand, that of the first event that moved the player's money.
-- '' only of a wallet that is older than its entry in these tables.
ALTER TABLE wallet ADD COLUMN brand text NOT NULL DEFAULT '';

UPDATE wallet AS w SET brand = e.brand FROM entry e WHERE e.event_id = w.event_id AND e.decision = 0;
