-- What waits for a person: decisions that were UNRESOLVED and were neither answered nor decided again. A row goes with
-- its answer, so the table stays as small as the work that is left; entries and closings keep the history.
CREATE TABLE open_item (
    event_id     uuid     PRIMARY KEY,
    decision     smallint NOT NULL,
    provider     text     NOT NULL,
    player_id    text,
    currency     text,
    -- What suspense holds for it (below zero: what it is owed) where in_suspense, else what the event is about.
    amount_minor bigint,
    in_suspense  boolean  NOT NULL,
    opened_at_ms bigint   NOT NULL,
    CHECK (NOT in_suspense OR (currency IS NOT NULL AND amount_minor IS NOT NULL AND amount_minor <> 0))
);

-- What is open in a ledger that has booked before this. One pass over entries and transfers.
INSERT INTO open_item (event_id, decision, provider, player_id, currency, amount_minor, in_suspense, opened_at_ms)
SELECT e.event_id, e.decision, e.provider, e.player_id, coalesce(held.currency, e.currency), held.amount_minor,
       held.amount_minor IS NOT NULL, coalesce(e.decided_at_ms, e.occurred_at_ms)
  FROM entry e
  LEFT JOIN (SELECT event_id, decision, currency,
                    sum(CASE WHEN credit LIKE 'suspense:%' THEN amount_minor ELSE -amount_minor END)::bigint AS amount_minor
               FROM transfer
              WHERE credit LIKE 'suspense:%' OR debit LIKE 'suspense:%'
              GROUP BY event_id, decision, currency) held
    ON held.event_id = e.event_id AND held.decision = e.decision AND held.amount_minor <> 0
 WHERE e.outcome = 'UNRESOLVED'
   AND NOT EXISTS (SELECT FROM entry later WHERE later.event_id = e.event_id AND later.decision > e.decision)
   AND NOT EXISTS (SELECT FROM closing c WHERE c.event_id = e.event_id AND c.player_id = '' AND c.action <> 'SETTLED');

-- Proposals of other acts than adjustments: to whom an item's money goes, or a new limit. `player_id` is empty where no
-- player is concerned. `signed_by_key` is for the key of the operator who signed it, once operators have keys.
ALTER TABLE proposal
    ADD COLUMN act           text NOT NULL DEFAULT 'ADJUST' CHECK (act IN ('ADJUST', 'ASSIGN', 'RETURN', 'LIMIT')),
    ADD COLUMN item_id       uuid,
    ADD COLUMN signed_by_key text;

-- The most that one operator may move alone, by currency; a currency without a row has the limit zero.
CREATE TABLE operator_limit (
    currency      text   PRIMARY KEY,
    amount_minor  bigint NOT NULL CHECK (amount_minor >= 0),
    event_id      uuid   NOT NULL,
    signed_by_key text
);
