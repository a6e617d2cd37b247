-- Records that wait behind dead letters. Every statement may be repeated, also by an old owner of the partition.

-- name: load
-- Open holds of a partition, and those that ended at or after the offset where the reading begins.
SELECT b.key, b.from_offset, b.waits_for, b.moved_at, b.since_ms, b.code, b.until_offset, b.ended_by, b.full_from,
       count(p.source_offset) FILTER (WHERE p.released_at IS NULL) AS waiting,
       coalesce(sum(length(p.body)) FILTER (WHERE p.released_at IS NULL), 0)::bigint AS waiting_bytes,
       coalesce(max(p.source_offset), -1) AS last_parked, b.moves
  FROM dead_letters.jam b
  LEFT JOIN dead_letters.parked p ON p.topic = b.topic AND p.part = b.part AND p.jam_from = b.from_offset
 WHERE b.topic = %(topic)s AND b.part = %(part)s
   AND coalesce(b.until_offset, 9223372036854775807) >= %(from_offset)s
 GROUP BY b.topic, b.part, b.from_offset

-- name: waiting
SELECT p.source_offset, p.timestamp_ms, b.key, p.body, p.headers
  FROM dead_letters.parked p JOIN dead_letters.jam b
    ON b.topic = p.topic AND b.part = p.part AND b.from_offset = p.jam_from
 WHERE p.topic = %(topic)s AND p.part = %(part)s AND p.jam_from = %(jam_from)s AND p.released_at IS NULL
 ORDER BY p.source_offset

-- name: save_hold
-- A hold only moves on: what a late writer says of an earlier offset changes nothing. A record that was rejected, and is
-- not when it is read again, moves its hold a second time: from itself to the first of the waiting that cannot be read.
INSERT INTO dead_letters.jam AS b
       (topic, part, from_offset, key, waits_for, moved_at, since_ms, code, until_offset, ended_by, full_from,
        moves)
VALUES (%(topic)s, %(part)s, %(from_offset)s, %(key)s, %(waits_for)s, %(moved_at)s, %(since_ms)s, %(code)s,
        %(until_offset)s, %(ended_by)s, %(full_from)s, %(moves)s)
ON CONFLICT (topic, part, from_offset) DO UPDATE
   SET (waits_for, code) = (
           SELECT s.waits_for, s.code
             FROM (VALUES (b.waits_for, b.code, b.moved_at),
                          (excluded.waits_for, excluded.code, excluded.moved_at)) AS s (waits_for, code, moved_at)
            ORDER BY s.moved_at DESC, s.waits_for <> s.moved_at DESC, s.waits_for DESC
            LIMIT 1),
       moved_at = greatest(b.moved_at, excluded.moved_at),
       until_offset = coalesce(b.until_offset, excluded.until_offset),
       ended_by = coalesce(b.ended_by, excluded.ended_by),
       full_from = coalesce(b.full_from, excluded.full_from),
       moves = CASE WHEN excluded.moves <@ b.moves THEN b.moves
                    ELSE ARRAY(SELECT unnest(b.moves) UNION SELECT unnest(excluded.moves)) END

-- name: park
INSERT INTO dead_letters.parked (topic, part, source_offset, jam_from, timestamp_ms, body, headers)
SELECT %(topic)s, %(part)s, * FROM unnest(%(offsets)s::bigint[], %(holds)s::bigint[], %(timestamps)s::bigint[],
                                          %(bodies)s::bytea[], %(headers)s::bytea[])
ON CONFLICT DO NOTHING

-- name: release
-- The bytes are in the raw topic, and their events are in the log: only the row without its bytes stays.
UPDATE dead_letters.parked SET released_at = now(), body = NULL
 WHERE topic = %(topic)s AND part = %(part)s AND source_offset = ANY(%(offsets)s::bigint[]) AND released_at IS NULL

-- name: open_holds
SELECT b.topic, b.part, b.key, b.waits_for, b.code, b.since_ms, b.full_from, count(p.source_offset) AS waiting,
       coalesce(sum(length(p.body)), 0)::bigint AS waiting_bytes, min(p.timestamp_ms) AS first_ms,
       max(p.timestamp_ms) AS last_ms
  FROM dead_letters.jam b
  LEFT JOIN dead_letters.parked p ON p.topic = b.topic AND p.part = b.part AND p.jam_from = b.from_offset
                                 AND p.released_at IS NULL
 WHERE b.until_offset IS NULL AND b.topic LIKE %(prefix)s
 GROUP BY b.topic, b.part, b.from_offset
 ORDER BY b.since_ms, b.topic, b.part
