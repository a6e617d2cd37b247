-- What waits for a person or for another record. Every statement reads tables or partial indexes that hold only what is
-- open, and looks entries up by their key: none reads a month.

-- name: item_totals
SELECT CASE WHEN o.in_suspense THEN 'suspense' WHEN e.reason = 'QUARANTINED' THEN 'quarantine' ELSE 'unresolved' END,
       e.reason, o.currency, count(*), sum(o.amount_minor)::numeric::text, count(*) FILTER (WHERE o.amount_minor IS NULL),
       min(o.opened_at_ms)
  FROM open_item o
  JOIN entry e ON e.event_id = o.event_id AND e.decision = o.decision
 GROUP BY 1, 2, 3
 ORDER BY 1, 2, 3

-- name: items
SELECT CASE WHEN o.in_suspense THEN 'suspense' WHEN e.reason = 'QUARANTINED' THEN 'quarantine' ELSE 'unresolved' END,
       e.reason, o.event_id::text, o.provider, e.brand, e.operation, e.provider_tx_id, o.player_id, o.currency,
       o.amount_minor, o.opened_at_ms, e.part, e.source_offset
  FROM open_item o
  JOIN entry e ON e.event_id = o.event_id AND e.decision = o.decision
 ORDER BY o.opened_at_ms, o.event_id
 LIMIT %(limit)s

-- name: item
SELECT CASE WHEN o.in_suspense THEN 'suspense' WHEN e.reason = 'QUARANTINED' THEN 'quarantine' ELSE 'unresolved' END,
       e.reason, o.event_id::text, o.provider, e.brand, e.operation, e.provider_tx_id, o.player_id, o.currency,
       o.amount_minor, o.opened_at_ms, e.part, e.source_offset
  FROM open_item o
  JOIN entry e ON e.event_id = o.event_id AND e.decision = o.decision
 WHERE o.event_id = %(event_id)s::uuid

-- name: parked
-- Events that wait for the record that they refer to: by the index of those that wait.
SELECT body, (extract(epoch FROM parked_at) * 1000)::bigint, count(*) OVER ()
  FROM parked
 WHERE state = 'WAITING'
 ORDER BY parked_at
 LIMIT %(limit)s

-- name: barriers
-- A barrier is as old as the first event that waits behind it.
SELECT b.id, b.log_ends IS NULL, count(*), (extract(epoch FROM min(p.parked_at)) * 1000)::bigint
  FROM parked p
  JOIN barrier b ON b.id = p.barrier
 WHERE p.state = 'WAITING'
 GROUP BY b.id
HAVING extract(epoch FROM now() - min(p.parked_at)) >= %(min_age_s)s
 ORDER BY b.id

-- name: held_records
-- Raw records that wait behind a dead letter of their player.
SELECT p.topic, j.code, j.part, j.waits_for, count(*), (extract(epoch FROM min(p.parked_at)) * 1000)::bigint
  FROM dead_letters.parked p
  JOIN dead_letters.jam j ON j.topic = p.topic AND j.part = p.part AND j.from_offset = p.jam_from
 WHERE p.released_at IS NULL
 GROUP BY 1, 2, 3, 4
 ORDER BY 6

-- name: limits
SELECT currency, amount_minor, event_id::text FROM operator_limit ORDER BY currency
