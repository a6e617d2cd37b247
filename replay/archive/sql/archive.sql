-- name: lock
SELECT pg_try_advisory_lock(%(key)s)

-- name: positions
SELECT topic, part, max(next_offset) FROM archive_file GROUP BY topic, part

-- name: unfinished
SELECT topic, part, from_offset, next_offset FROM archive_file WHERE sha256 IS NULL ORDER BY topic, part, from_offset

-- name: plan
INSERT INTO archive_file (topic, part, from_offset, next_offset)
VALUES (%(topic)s, %(part)s, %(from)s, %(next)s)

-- name: finish
UPDATE archive_file SET records = %(records)s, sha256 = %(sha256)s
 WHERE topic = %(topic)s AND part = %(part)s AND from_offset = %(from)s AND next_offset = %(next)s

-- name: status
SELECT topic, part, count(*), coalesce(sum(records), 0)::bigint, min(from_offset), max(next_offset),
       count(*) FILTER (WHERE sha256 IS NULL)
  FROM archive_file GROUP BY topic, part ORDER BY topic, part
