-- What was taken from each payment of a player and not given back, in minor units: from the player's money, and what waits
-- in suspense. By `payment's event id:currency`.
ALTER TABLE player_state ADD COLUMN reversals jsonb NOT NULL DEFAULT '{}';
