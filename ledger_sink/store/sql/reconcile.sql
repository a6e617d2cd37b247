-- Read by operators, never while an event is booked.

-- name: wallets
SELECT player_id, currency, scale, cash_minor, bonus_minor, held_minor, version, event_id::text, part, source_offset
  FROM wallet

-- The offset up to which each partition's balances are known to be on their topic.
-- name: published
SELECT part, published_offset FROM stream_position WHERE consumer = %(consumer)s AND topic = %(topic)s

-- Booked events, each with the amount that it moved between its player and the house.
-- name: booked
SELECT e.event_id::text, e.operation, e.provider_tx_id, e.player_id, e.outcome, e.reason, e.currency,
       coalesce((SELECT sum(t.amount_minor)
                   FROM transfer t
                  WHERE t.player_id = e.player_id AND t.currency = e.currency
                    AND t.version BETWEEN e.version - e.transfers + 1 AND e.version
                    AND t.event_id = e.event_id AND t.decision = e.decision
                    AND (t.debit NOT LIKE 'player:%%' OR t.credit NOT LIKE 'player:%%')), 0)
  FROM unnest(%(event_ids)s::uuid[]) AS wanted (event_id)
  JOIN entry e ON e.event_id = wanted.event_id
   AND e.decision = (SELECT max(last.decision) FROM entry last WHERE last.event_id = wanted.event_id)

-- A provider's events of a span of event time that moved money: they should be on its statement.
-- name: moved_by
SELECT e.event_id::text, e.operation, e.provider_tx_id, e.player_id, e.outcome, e.reason, e.currency, 0
  FROM entry e
 WHERE e.provider = %(provider)s AND e.brand = %(brand)s AND e.outcome = 'POSTED' AND e.transfers > 0
   AND e.operation = ANY(%(operations)s)
   AND e.occurred_at_ms >= %(from_ms)s AND e.occurred_at_ms < %(until_ms)s
 ORDER BY e.part, e.source_offset
