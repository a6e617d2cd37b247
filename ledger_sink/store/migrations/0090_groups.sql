-- Events that are decided together, when each was decided, whether its provider invoices it, and fractions of jackpot
-- contributions. Each column is added without touching a row.

-- contribution_rest: what the event contributed less what was moved for it, in minor units of its currency.
ALTER TABLE entry
    ADD COLUMN group_id          uuid,
    ADD COLUMN is_billable       boolean NOT NULL DEFAULT true,
    ADD COLUMN decided_at_ms     bigint,
    ADD COLUMN contribution_rest numeric;

-- The first record of a group answers for all of its events, so one place in the log may have several answers.
ALTER TABLE repeat ADD COLUMN decided_at_ms bigint;
ALTER TABLE repeat DROP CONSTRAINT repeat_pkey;
ALTER TABLE repeat ADD PRIMARY KEY (part, source_offset, attempt_index);

-- What a player has contributed to jackpots and was not moved yet, by provider and currency, in minor units.
ALTER TABLE player_state ADD COLUMN fractions jsonb NOT NULL DEFAULT '{}';
