-- Events that name no player: parked, matched with what they refer to, appended to the log.

-- name: park
INSERT INTO parked (part, source_offset, event_id, reference_event_id, body, provider)
SELECT * FROM unnest(%(parts)s::int[], %(offsets)s::bigint[], %(event_ids)s::uuid[], %(references)s::uuid[],
                     %(bodies)s::bytea[], %(providers)s::text[])

-- name: follow
-- A repeated attempt is appended under the key of the first one, even if its player could be found only now: it must
-- get the same answer. The same bytes are the same attempt.
UPDATE parked AS p
   SET state = other.state, player_id = other.player_id
  FROM parked other
 WHERE p.state = 'WAITING' AND p.part = ANY(%(parts)s)
   AND other.event_id = p.event_id AND other.body = p.body AND other.state <> 'WAITING'

-- name: match
-- Matched: the transaction referred to is in the ledger and has a player.
UPDATE parked AS p
   SET state = 'RESOLVED', player_id = e.player_id
  FROM entry e
 WHERE p.state = 'WAITING' AND p.part = ANY(%(parts)s)
   AND e.event_id = p.reference_event_id AND e.player_id IS NOT NULL
   -- Checked here too: a resolver may be frozen between the two statements while another continues.
   AND NOT EXISTS (SELECT FROM parked other
                    WHERE other.event_id = p.event_id AND other.body = p.body AND other.state <> 'WAITING')

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
-- By partition and provider: the number of waiting events, and the last offset of those without a barrier.
SELECT part, provider, count(*), max(source_offset) FILTER (WHERE barrier IS NULL)
  FROM parked
 WHERE state = 'WAITING' AND part = ANY(%(parts)s)
 GROUP BY part, provider

-- name: raise_barrier
-- Only for events that were seen before the ends were read: later ones may be beyond them.
WITH raised AS (INSERT INTO barrier (raw_ends) VALUES (%(ends)s) RETURNING id)
UPDATE parked AS p
   SET barrier = raised.id
  FROM raised, unnest(%(parts)s::int[], %(lasts)s::bigint[]) AS u (part, last_offset)
 WHERE p.state = 'WAITING' AND p.barrier IS NULL AND p.part = u.part AND p.source_offset <= u.last_offset
   AND p.provider IS NOT DISTINCT FROM %(provider)s

-- name: open_barriers
SELECT id, raw_ends, log_ends, extract(epoch FROM now() - raised_at)::float8, waiting.events
  FROM barrier
  JOIN (SELECT barrier AS id, count(*) AS events
          FROM parked
         WHERE state = 'WAITING' AND part = ANY(%(parts)s)
         GROUP BY barrier) AS waiting USING (id)
 ORDER BY id

-- name: old_barriers
-- Those of every partition.
SELECT id, raw_ends, log_ends, extract(epoch FROM now() - raised_at)::float8, waiting.events
  FROM barrier
  JOIN (SELECT barrier AS id, count(*) AS events
          FROM parked
         WHERE state = 'WAITING'
         GROUP BY barrier) AS waiting USING (id)
 WHERE raised_at < now() - %(older_than_s)s * interval '1 second'
 ORDER BY raised_at

-- name: about_to_be_appended
-- How many parked events come next, if any: what they refer to is known, or it was not found.
SELECT count(*)
  FROM parked p
 WHERE NOT p.appended
   AND (p.state <> 'WAITING'
        OR EXISTS (SELECT FROM entry e WHERE e.event_id = p.reference_event_id AND e.player_id IS NOT NULL))
HAVING count(*) > 0

-- name: set_log_ends
UPDATE barrier SET log_ends = %(ends)s WHERE id = ANY(%(barriers)s)

-- name: positions
SELECT topic, part, next_offset FROM stream_position WHERE topic IN (%(log)s, %(unresolved)s)

-- name: finalise
-- Finally not found: no such transaction with a player is booked, and none is parked and about to be. The age counts
-- from the event's first attempt: a caller gives each attempt only seconds, and sends another one.
UPDATE parked AS p
   SET state = 'FINAL'
 WHERE p.state = 'WAITING' AND p.part = ANY(%(parts)s) AND p.barrier = ANY(%(barriers)s)
   AND extract(epoch FROM now() - (SELECT min(attempt.parked_at) FROM parked attempt
                                    WHERE attempt.event_id = p.event_id)) * 1000 >= %(min_age_ms)s
   AND NOT EXISTS (SELECT FROM entry e WHERE e.event_id = p.reference_event_id AND e.player_id IS NOT NULL)
   AND NOT EXISTS (SELECT FROM parked other
                    WHERE other.event_id = p.reference_event_id AND other.event_id <> p.event_id
                      AND NOT EXISTS (SELECT FROM entry e WHERE e.event_id = other.event_id))

-- name: drop_barriers
DELETE FROM barrier b WHERE NOT EXISTS (SELECT FROM parked p WHERE p.barrier = b.id AND p.state = 'WAITING')
