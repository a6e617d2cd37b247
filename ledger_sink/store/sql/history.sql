-- Read by operators, never while an event is booked. Each statement finds its rows by the key of a table, however long
-- it is.

-- The wallets of a player as they are now.
-- name: wallets
SELECT currency, scale, version, cash_minor, bonus_minor, held_minor, event_id::text, part, source_offset
  FROM wallet
 WHERE player_id = %(player)s
 ORDER BY currency

-- What they held when the log had been booked up to an offset of their partition: offsets rise with versions, so the last
-- version before it is found by halving, one probe a step. Versions whose month was moved away are passed over: a probe
-- takes the next one that is there. Where the version behind the one found is not there, it is not known whether it was
-- booked by then, unless the one found is of the very last offset: `is_known` is false. A wallet that had not moved yet
-- comes with version 0.
-- name: wallets_at
WITH RECURSIVE halving (currency, scale, last, low, high) AS (
    SELECT currency, scale, version, 0::bigint, version FROM wallet WHERE player_id = %(player)s
    UNION ALL
    SELECT currency, scale, last,
           CASE WHEN is_before THEN version ELSE low END,
           CASE WHEN is_before THEN high ELSE middle - 1 END
      FROM (SELECT h.*, probed.version, coalesce(probed.source_offset < %(next_offset)s, false) AS is_before
              FROM (SELECT *, (low + high + 1) / 2 AS middle FROM halving WHERE low < high) AS h
              LEFT JOIN LATERAL (
                   SELECT t.version, t.source_offset
                     FROM transfer t
                    WHERE t.player_id = %(player)s AND t.currency = h.currency AND t.version BETWEEN h.middle AND h.high
                    ORDER BY t.version LIMIT 1) AS probed ON true) AS step
)
SELECT h.low = h.last OR t.source_offset = %(next_offset)s - 1 OR EXISTS (
           SELECT FROM transfer n WHERE n.player_id = %(player)s AND n.currency = h.currency AND n.version = h.low + 1
       ) AS is_known,
       h.currency, h.scale, h.low, t.cash_minor, t.bonus_minor, t.held_minor, t.event_id::text, t.part, t.source_offset
  FROM halving h
  LEFT JOIN transfer t ON t.player_id = %(player)s AND t.currency = h.currency AND t.version = h.low
 WHERE h.low = h.high
 ORDER BY h.currency

-- The months whose transfers are not in the tables.
-- name: months_away
SELECT month FROM month_away ORDER BY month

-- A wallet's movements, newest first, each with the event that moved it: of a span of event time, and of some kinds or,
-- with NULL, of any. Event time does not rise with versions, so a span is a filter over the wallet's rows.
-- name: movements
SELECT t.version, t.debit, t.credit, t.amount_minor, t.cash_minor, t.bonus_minor, t.held_minor, t.event_id::text,
       t.part, t.source_offset, t.occurred_at_ms, e.kind, e.provider, e.operation, e.provider_tx_id, e.round_id,
       e.outcome, e.reason
  FROM transfer t
  JOIN entry e ON e.event_id = t.event_id AND e.decision = t.decision
 WHERE t.player_id = %(player)s AND t.currency = %(currency)s AND t.version < %(before)s
   AND t.occurred_at_ms >= %(since_ms)s AND t.occurred_at_ms < %(until_ms)s
   AND (%(kinds)s::text[] IS NULL OR e.kind = ANY (%(kinds)s::text[]))
 ORDER BY t.version DESC
 LIMIT %(count)s

-- name: entries
SELECT event_id::text, decision, brand, provider, provider_version, region, operation, provider_tx_id, kind, player_id,
       round_id, game_id, reference_event_id::text, attempt_topic, attempt_part, attempt_offset, attempt_index, part,
       source_offset, occurred_at_ms, outcome, reason, currency, available_minor, version, transfers
  FROM entry
 WHERE event_id = %(event_id)s::uuid
 ORDER BY decision

-- The operations of a provider among its first entries, to name them where one was mistyped.
-- name: operations
SELECT DISTINCT operation
  FROM (SELECT operation FROM entry WHERE provider = %(provider)s LIMIT 100000) AS first_entries
 ORDER BY operation

-- What one decision moved in a wallet: the versions up to the one that it was answered with.
-- name: movements_of
SELECT version, debit, credit, amount_minor, cash_minor, bonus_minor, held_minor
  FROM transfer
 WHERE player_id = %(player)s AND currency = %(currency)s AND version BETWEEN %(first)s AND %(last)s
   AND event_id = %(event_id)s::uuid AND decision = %(decision)s
 ORDER BY version

-- name: closings
SELECT player_id, action, by_event_id::text, part, source_offset FROM closing WHERE event_id = %(event_id)s::uuid

-- name: repeats
SELECT attempt_topic, attempt_part, attempt_offset, attempt_index, part, source_offset, outcome, reason, redelivered
  FROM repeat
 WHERE event_id = %(event_id)s::uuid
 ORDER BY part, source_offset
 LIMIT %(count)s

-- The events of a round, from all entries: an index of rounds would make booking every event a tenth slower.
-- name: round
SELECT e.event_id::text, e.decision, e.provider, e.operation, e.provider_tx_id, e.kind, e.player_id, e.part,
       e.source_offset, e.occurred_at_ms, e.outcome, e.reason, e.currency, e.available_minor, e.version, e.transfers,
       e.round_closed, c.action
  FROM entry e
  LEFT JOIN closing c ON c.event_id = e.event_id AND c.player_id = e.player_id
 WHERE e.round_id = %(round_id)s
   AND (%(provider)s::text IS NULL OR e.provider = %(provider)s)
 ORDER BY e.part, e.source_offset
 LIMIT %(count)s

-- The events of a round that moved one player's money: from the chain of that player's wallets, by key.
-- name: round_of_player
WITH moved AS MATERIALIZED (
    SELECT DISTINCT event_id, decision FROM transfer WHERE player_id = %(player)s
)
SELECT e.event_id::text, e.decision, e.provider, e.operation, e.provider_tx_id, e.kind, e.player_id, e.part,
       e.source_offset, e.occurred_at_ms, e.outcome, e.reason, e.currency, e.available_minor, e.version, e.transfers,
       e.round_closed, c.action
  FROM moved
  JOIN entry e USING (event_id, decision)
  LEFT JOIN closing c ON c.event_id = e.event_id AND c.player_id = e.player_id
 WHERE e.round_id = %(round_id)s AND (%(provider)s::text IS NULL OR e.provider = %(provider)s)
 ORDER BY e.part, e.source_offset
 LIMIT %(count)s

-- What the ledger refused of a player, newest first, from all entries: an index of players would make booking every event
-- slower. Its amounts are in the log only.
-- name: refused
SELECT event_id::text, decision, provider, operation, provider_tx_id, kind, round_id, game_id, part, source_offset,
       occurred_at_ms, outcome, reason, currency, available_minor
  FROM entry
 WHERE player_id = %(player)s AND outcome LIKE 'REFUSED%%'
   AND occurred_at_ms >= %(since_ms)s AND occurred_at_ms < %(until_ms)s
   AND (%(kinds)s::text[] IS NULL OR kind = ANY (%(kinds)s::text[]))
   AND (%(currency)s::text IS NULL OR currency = %(currency)s)
 ORDER BY occurred_at_ms DESC, part, source_offset DESC
 LIMIT %(count)s

-- The number of partitions of the log.
-- name: partitions
SELECT partitions FROM installation
