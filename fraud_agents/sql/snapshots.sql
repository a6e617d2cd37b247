-- The owner of a partition, the offset at which it continues, and its state.

-- name: claim
INSERT INTO fraud.snapshot AS s (consumer, topic, part)
SELECT %(consumer)s, topic, part FROM unnest(%(topics)s::text[], %(parts)s::int[]) AS place (topic, part) ORDER BY topic, part
    ON CONFLICT (consumer, topic, part) DO UPDATE SET epoch = s.epoch + 1, claimed_at = now()
RETURNING topic, part, epoch, next_offset, rule_set, state

-- name: markers
SELECT topic, part, from_offset, rules_position, rule_set FROM fraud.activation
 WHERE consumer = %(consumer)s AND (topic, part) IN (SELECT * FROM unnest(%(topics)s::text[], %(parts)s::int[]))
 ORDER BY topic, part, from_offset

-- name: activate
-- Only the owner adds a marker. One at an offset of which no record was judged yet may be replaced.
INSERT INTO fraud.activation (consumer, topic, part, from_offset, rule_set, rules_position)
SELECT s.consumer, s.topic, s.part, %(from_offset)s, %(rule_set)s, %(rules_position)s
  FROM fraud.snapshot AS s
 WHERE s.consumer = %(consumer)s AND s.topic = %(topic)s AND s.part = %(part)s AND s.epoch = %(epoch)s
   FOR UPDATE
    ON CONFLICT (consumer, topic, part, from_offset)
    DO UPDATE SET rule_set = EXCLUDED.rule_set, rules_position = EXCLUDED.rules_position, activated_at = now()

-- name: save
UPDATE fraud.snapshot
   SET next_offset = %(next_offset)s, rule_set = %(rule_set)s, state = %(state)s, saved_at = now()
 WHERE consumer = %(consumer)s AND topic = %(topic)s AND part = %(part)s AND epoch = %(epoch)s
   AND next_offset <= %(next_offset)s

-- name: discard
-- A state that this release cannot read: the log is watched again. The markers stay, so the same rules judge the same records.
UPDATE fraud.snapshot SET next_offset = 0, rule_set = NULL, state = NULL
 WHERE consumer = %(consumer)s AND topic = %(topic)s AND part = %(part)s AND epoch = %(epoch)s

-- name: stored_position
SELECT epoch, next_offset FROM fraud.snapshot WHERE consumer = %(consumer)s AND topic = %(topic)s AND part = %(part)s
