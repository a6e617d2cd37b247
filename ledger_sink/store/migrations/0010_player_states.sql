-- What may stop a player, by source and currency, each with the time it was said; and the wagering requirement of bonus
-- money. Rows are there only for players who have any of it, so nobody else's bet pays for it.
ALTER TABLE player_state
    ADD COLUMN standings jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN limits    jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN wagering  jsonb NOT NULL DEFAULT '{}';
UPDATE player_state SET standings = '{"operator": ["BLOCKED", 0]}' WHERE is_blocked;
UPDATE player_state SET limits = jsonb_build_object(bet_limit_currency, jsonb_build_array(bet_limit_minor, 0))
 WHERE bet_limit_currency IS NOT NULL;
ALTER TABLE player_state DROP COLUMN is_blocked, DROP COLUMN bet_limit_currency, DROP COLUMN bet_limit_minor;

-- Adjustments that wait for a second person.
CREATE TABLE proposal (
    event_id       uuid   PRIMARY KEY,
    player_id      text   NOT NULL,
    currency       text   NOT NULL,
    amount_minor   bigint NOT NULL,
    actor          text   NOT NULL,
    reason         text   NOT NULL,
    brand          text   NOT NULL,
    id             text   NOT NULL,
    occurred_at_ms bigint NOT NULL
);

-- Whether the provider said that its round ends here: what the view of open rounds goes by. No index: it is a report.
ALTER TABLE entry ADD COLUMN round_closed boolean NOT NULL DEFAULT false;
