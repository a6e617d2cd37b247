-- Events that name no player: parked, matched with what they refer to, appended to the log.

-- name: park
INSERT INTO parked (part, source_offset, event_id, reference_event_id, body)
SELECT * FROM unnest(%(parts)s::int[], %(offsets)s::bigint[], %(event_ids)s::uuid[], %(references)s::uuid[],
                     %(bodies)s::bytea[])

-- name: match
-- Found: the transaction referred to is in the ledger and has a player.
UPDATE parked AS p
   SET state = 'RESOLVED', player_id = e.player_id
  FROM entry e
 WHERE p.state = 'WAITING' AND p.part = ANY(%(parts)s)
   AND e.event_id = p.reference_event_id AND e.player_id IS NOT NULL

-- name: unappended
SELECT part, source_offset, body, player_id
  FROM parked
 WHERE NOT appended AND state <> 'WAITING' AND part = ANY(%(parts)s)
 ORDER BY part, source_offset
 LIMIT 1000

-- name: appended
UPDATE parked AS p
   SET appended = true
  FROM unnest(%(parts)s::int[], %(offsets)s::bigint[]) AS u (part, source_offset)
 WHERE p.part = u.part AND p.source_offset = u.source_offset

-- name: waiting
SELECT part, source_offset, raw_ends, log_ends,
       extract(epoch FROM now() - parked_at) * 1000 >= %(min_age_ms)s AS old_enough,
       EXISTS (SELECT FROM parked other
                WHERE other.event_id = parked.reference_event_id AND NOT other.appended) AS reference_waits
  FROM parked
 WHERE state = 'WAITING' AND part = ANY(%(parts)s)

-- name: set_raw_ends
UPDATE parked SET raw_ends = %(ends)s WHERE state = 'WAITING' AND raw_ends IS NULL AND part = ANY(%(parts)s)

-- name: set_log_ends
UPDATE parked AS p
   SET log_ends = %(ends)s
  FROM unnest(%(parts)s::int[], %(offsets)s::bigint[]) AS u (part, source_offset)
 WHERE p.part = u.part AND p.source_offset = u.source_offset

-- name: lock_all_positions
-- With every position locked no batch is half-way between what it has read and what it will write.
SELECT part, next_offset FROM stream_position
 WHERE consumer = %(consumer)s AND topic = %(topic)s ORDER BY part FOR UPDATE

-- name: finalise
UPDATE parked AS p
   SET state = 'FINAL'
  FROM unnest(%(parts)s::int[], %(offsets)s::bigint[]) AS u (part, source_offset)
 WHERE p.part = u.part AND p.source_offset = u.source_offset AND p.state = 'WAITING'
   AND NOT EXISTS (SELECT FROM entry e WHERE e.event_id = p.reference_event_id AND e.player_id IS NOT NULL)
