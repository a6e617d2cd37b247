-- Redrives and drops of dead letters. Rows are added and completed; a trigger refuses everything else.

-- name: lock
SELECT pg_try_advisory_xact_lock(hashtextextended('pitboss.dead_letters.action', 0))

-- name: all
SELECT id, topic, part, source_offset, action, code, actor, reason, is_forced,
       (extract(epoch FROM asked_at) * 1000)::bigint, is_done, to_part, to_offset
  FROM dead_letters.action
 WHERE topic LIKE %(prefix)s
 ORDER BY id

-- name: begin
INSERT INTO dead_letters.action (topic, part, source_offset, action, code, actor, reason, is_forced)
SELECT topic, part, source_offset, %(action)s, code, %(actor)s, %(reason)s, %(is_forced)s
  FROM unnest(%(topics)s::text[], %(parts)s::int[], %(offsets)s::bigint[], %(codes)s::text[])
       WITH ORDINALITY AS u (topic, part, source_offset, code, place)
 ORDER BY place
RETURNING id

-- name: complete
UPDATE dead_letters.action AS a SET is_done = true, to_part = u.to_part, to_offset = u.to_offset
  FROM unnest(%(ids)s::bigint[], %(to_parts)s::int[], %(to_offsets)s::bigint[]) AS u (id, to_part, to_offset)
 WHERE a.id = u.id

-- name: before_rebind
-- What the last rebind found of the raw topics and their dead letters.
SELECT id, (extract(epoch FROM finished_at) * 1000)::bigint, report -> 'raw'
  FROM recovery
 WHERE id = (SELECT max(id) FROM recovery WHERE kind = 'REBIND' AND finished_at IS NOT NULL)
