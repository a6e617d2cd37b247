-- Checks of the ledger's tables against themselves. Each returns the offending rows, worst first; no rows: it holds.

-- name: conserved
-- Players' and house accounts sum to zero in every currency: no money was made or lost.
WITH movement AS (
    SELECT currency, credit AS account, amount_minor::numeric AS amount FROM transfer
    UNION ALL
    SELECT currency, debit, -amount_minor::numeric FROM transfer
), house AS (
    SELECT currency, sum(amount) AS total FROM movement WHERE account NOT LIKE 'player:%' GROUP BY currency
), players AS (
    SELECT currency, sum(cash_minor::numeric + bonus_minor + held_minor) AS total FROM wallet GROUP BY currency
)
SELECT currency, coalesce(players.total, 0) AS players, coalesce(house.total, 0) AS house
  FROM players FULL JOIN house USING (currency)
 WHERE coalesce(players.total, 0) + coalesce(house.total, 0) <> 0
 ORDER BY currency

-- name: balances_match
-- A wallet is the fold of its transfers.
WITH movement AS (
    SELECT player_id, currency, credit AS account, amount_minor::numeric AS amount FROM transfer WHERE player_id IS NOT NULL
    UNION ALL
    SELECT player_id, currency, debit, -amount_minor::numeric FROM transfer WHERE player_id IS NOT NULL
), folded AS (
    SELECT player_id, currency,
           coalesce(sum(amount) FILTER (WHERE account = 'player:' || player_id || ':cash'), 0) AS cash,
           coalesce(sum(amount) FILTER (WHERE account = 'player:' || player_id || ':bonus'), 0) AS bonus,
           coalesce(sum(amount) FILTER (WHERE account = 'player:' || player_id || ':held'), 0) AS held
      FROM movement GROUP BY player_id, currency
)
SELECT player_id, currency, folded.cash, wallet.cash_minor, folded.bonus, wallet.bonus_minor, folded.held,
       wallet.held_minor
  FROM folded FULL JOIN wallet USING (player_id, currency)
 WHERE (folded.cash, folded.bonus, folded.held)
       IS DISTINCT FROM (wallet.cash_minor::numeric, wallet.bonus_minor::numeric, wallet.held_minor::numeric)
 ORDER BY player_id, currency

-- name: chain_broken
-- Each transfer's balances follow from those before it.
WITH step AS (
    SELECT player_id, currency, version, cash_minor, bonus_minor, held_minor,
           lag(cash_minor, 1, 0::bigint) OVER wallet_order AS cash_before,
           lag(bonus_minor, 1, 0::bigint) OVER wallet_order AS bonus_before,
           lag(held_minor, 1, 0::bigint) OVER wallet_order AS held_before,
           amount_minor::numeric AS amount, debit, credit, 'player:' || player_id || ':' AS own
      FROM transfer WHERE player_id IS NOT NULL
    WINDOW wallet_order AS (PARTITION BY player_id, currency ORDER BY version)
)
SELECT player_id, currency, version FROM step
 WHERE cash_minor <> cash_before + amount * ((credit = own || 'cash')::int - (debit = own || 'cash')::int)
    OR bonus_minor <> bonus_before + amount * ((credit = own || 'bonus')::int - (debit = own || 'bonus')::int)
    OR held_minor <> held_before + amount * ((credit = own || 'held')::int - (debit = own || 'held')::int)
 ORDER BY player_id, currency, version

-- name: movements_missing
-- Each decision has the number of movements that it states, and each movement has its decision.
WITH moved AS (SELECT event_id, decision, count(*) AS movements FROM transfer GROUP BY event_id, decision)
SELECT event_id::text, decision, e.transfers, coalesce(moved.movements, 0)
  FROM entry e FULL JOIN moved USING (event_id, decision)
 WHERE coalesce(e.transfers, -1) <> coalesce(moved.movements, 0)
 ORDER BY event_id, decision

-- name: versions_gapless
-- A version that occurs twice, which no key forbids across two months, could hide a missing one.
WITH chain AS (
    SELECT player_id, currency, count(*) AS transfers, count(DISTINCT version) AS versions, min(version) AS first,
           max(version) AS last
      FROM transfer WHERE player_id IS NOT NULL GROUP BY player_id, currency
)
SELECT player_id, currency, chain.transfers, chain.versions, chain.first, chain.last, wallet.version
  FROM chain FULL JOIN wallet USING (player_id, currency)
 WHERE chain.first IS DISTINCT FROM 1 OR chain.last IS DISTINCT FROM chain.transfers
    OR chain.versions IS DISTINCT FROM chain.transfers OR wallet.version IS DISTINCT FROM chain.last
 ORDER BY player_id, currency

-- name: size
SELECT (SELECT count(*) FROM transfer), (SELECT count(*) FROM wallet)

-- name: entries
SELECT count(*) FROM entry

-- name: wallets
SELECT player_id, currency, scale, cash_minor, bonus_minor, held_minor, version, event_id::text, part, source_offset
  FROM wallet ORDER BY player_id, currency

-- name: answers
-- The answer to every record of the log, by its place. The first record of a group has those of all of its events.
SELECT part, source_offset, event_id::text, outcome, reason, currency, available_minor, version,
       attempt_topic, attempt_part, attempt_offset, attempt_index, brand, provider, operation, provider_tx_id, player_id,
       decided_at_ms
  FROM entry
UNION ALL
SELECT part, source_offset, event_id::text, outcome, reason, currency, available_minor, version,
       attempt_topic, attempt_part, attempt_offset, attempt_index, brand, provider, operation, provider_tx_id, player_id,
       decided_at_ms
  FROM repeat
 ORDER BY part, source_offset, attempt_index

-- name: provider_moves
-- What each transaction moved in or out of its player's wallet; a rollback or cancel counts for what it takes back.
SELECT e.provider, coalesce(CASE WHEN e.kind IN ('ROLLBACK', 'CANCEL') THEN e.reference_event_id END, e.event_id)::text,
       sum(t.amount_minor * ((t.credit LIKE 'player:%%')::int - (t.debit LIKE 'player:%%')::int))
  FROM transfer t JOIN entry e USING (event_id, decision)
 WHERE t.player_id IS NOT NULL AND e.provider = ANY(%(providers)s)
 GROUP BY 1, 2
HAVING sum(t.amount_minor * ((t.credit LIKE 'player:%%')::int - (t.debit LIKE 'player:%%')::int)) <> 0

-- name: digests
-- Every column of every row that the log alone determines, by its record; two ledgers are compared by it.
SELECT 'entry ' || part || '@' || source_offset,
       hashtextextended(string_agg(t::text, E'\n' ORDER BY event_id, decision), 0)
  FROM entry t GROUP BY part, source_offset
UNION ALL
SELECT 'repeat ' || part || '@' || source_offset,
       hashtextextended(string_agg(t::text, E'\n' ORDER BY attempt_index), 0)
  FROM repeat t GROUP BY part, source_offset
UNION ALL
SELECT 'transfer ' || part || '@' || source_offset,
       hashtextextended(string_agg(t::text, E'\n' ORDER BY player_id, currency, version, debit, credit), 0)
  FROM transfer t GROUP BY part, source_offset
UNION ALL
SELECT 'closing ' || part || '@' || source_offset,
       hashtextextended(string_agg(t::text, E'\n' ORDER BY event_id), 0)
  FROM closing t GROUP BY part, source_offset
UNION ALL
SELECT 'state of player ' || player_id, hashtextextended(t::text, 0) FROM player_state t
UNION ALL
SELECT 'proposal ' || event_id, hashtextextended(t::text, 0) FROM proposal t

-- name: parked_offsets
SELECT part, source_offset, appended FROM parked

-- name: quarantined
-- Where the ledger went on behind a record that it could not book.
SELECT part, source_offset FROM closing WHERE action = 'QUARANTINED'

-- name: batches
SELECT part, from_offset, next_offset FROM batch ORDER BY sequence

-- name: waiting_raw
-- Raw records that wait behind a dead letter of their player: they were read and are not normalised yet.
SELECT topic, part, source_offset FROM dead_letters.parked WHERE released_at IS NULL
