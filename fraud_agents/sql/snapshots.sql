-- The owner of a partition, the offset at which it continues, and its state.

-- name: claim
INSERT INTO fraud.snapshot AS s (consumer, topic, part)
SELECT %(consumer)s, %(topic)s, part FROM unnest(%(parts)s::int[]) AS part ORDER BY part
    ON CONFLICT (consumer, topic, part) DO UPDATE SET epoch = s.epoch + 1, claimed_at = now()
RETURNING part, epoch, next_offset, rule_set, state

-- name: activate
-- A worker that died between its claim and its first snapshot may come back with other rules: the last ones apply.
INSERT INTO fraud.activation (consumer, topic, part, from_offset, rule_set)
SELECT %(consumer)s, %(topic)s, part, from_offset, %(rule_set)s
  FROM unnest(%(parts)s::int[], %(from_offsets)s::bigint[]) AS u (part, from_offset)
 ORDER BY part
    ON CONFLICT (consumer, topic, part, from_offset)
    DO UPDATE SET rule_set = EXCLUDED.rule_set, activated_at = now()
        WHERE fraud.activation.rule_set <> EXCLUDED.rule_set

-- name: save
UPDATE fraud.snapshot
   SET next_offset = %(next_offset)s, rule_set = %(rule_set)s, state = %(state)s, saved_at = now()
 WHERE consumer = %(consumer)s AND topic = %(topic)s AND part = %(part)s AND epoch = %(epoch)s
   AND next_offset <= %(next_offset)s

-- name: stored_position
SELECT epoch, next_offset FROM fraud.snapshot WHERE consumer = %(consumer)s AND topic = %(topic)s AND part = %(part)s
