-- The ledger's database after a restore.

-- name: installation
SELECT cluster_id, partitions FROM installation

-- name: positions
SELECT consumer, part, next_offset, last_timestamp_ms, last_checksum
  FROM stream_position
 WHERE consumer = ANY(%(consumers)s)

-- name: worker_sessions
SELECT count(*)
  FROM pg_stat_activity
 WHERE datname = current_database()
   AND application_name IN ('pitboss.ledger', 'pitboss.publisher', 'pitboss.claim', 'pitboss.resolve')

-- name: unfinished
SELECT id, kind, cluster_id, topic_id, starts FROM recovery WHERE finished_at IS NULL

-- name: begin
INSERT INTO recovery (kind, actor, cluster_id, topic_id, starts)
VALUES (%(kind)s, %(actor)s, %(cluster_id)s, %(topic_id)s, %(starts)s)
RETURNING id

-- name: finish
UPDATE recovery SET finished_at = now(), report = %(report)s WHERE id = %(id)s

-- name: waiting
SELECT part, source_offset, body FROM parked WHERE state = 'WAITING' OR NOT appended

-- name: note_appended
UPDATE parked AS p
   SET state = u.state, player_id = u.player_id, appended = true
  FROM unnest(%(parts)s::int[], %(offsets)s::bigint[], %(states)s::text[], %(players)s::text[])
       AS u (part, source_offset, state, player_id)
 WHERE p.part = u.part AND p.source_offset = u.source_offset AND NOT p.appended

-- name: drop_barriers
DELETE FROM barrier b WHERE NOT EXISTS (SELECT FROM parked p WHERE p.barrier = b.id AND p.state = 'WAITING')

-- name: answers
SELECT source_offset, event_id::text, provider, operation, provider_tx_id, attempt_topic, attempt_part, attempt_offset,
       attempt_index, player_id, outcome, reason, currency, available_minor, version
  FROM entry
 WHERE part = %(part)s AND source_offset >= %(first)s AND source_offset < %(next)s
UNION ALL
SELECT source_offset, event_id::text, provider, operation, provider_tx_id, attempt_topic, attempt_part, attempt_offset,
       attempt_index, player_id, outcome, reason, currency, available_minor, version
  FROM repeat
 WHERE part = %(part)s AND source_offset >= %(first)s AND source_offset < %(next)s
 ORDER BY source_offset, attempt_index

-- name: known_attempts
-- Which of these attempts the ledger has answered at all.
SELECT DISTINCT wanted.place
  FROM unnest(%(places)s::int[], %(event_ids)s::uuid[], %(topics)s::text[], %(parts)s::int[], %(offsets)s::bigint[],
              %(indexes)s::int[]) AS wanted (place, event_id, attempt_topic, attempt_part, attempt_offset, attempt_index)
 WHERE EXISTS (SELECT FROM entry e
                WHERE e.event_id = wanted.event_id AND e.attempt_topic = wanted.attempt_topic
                  AND e.attempt_part = wanted.attempt_part AND e.attempt_offset = wanted.attempt_offset
                  AND e.attempt_index = wanted.attempt_index)
    OR EXISTS (SELECT FROM repeat r
                WHERE r.event_id = wanted.event_id AND r.attempt_topic = wanted.attempt_topic
                  AND r.attempt_part = wanted.attempt_part AND r.attempt_offset = wanted.attempt_offset
                  AND r.attempt_index = wanted.attempt_index)

-- name: wallet_moves
SELECT count(*) FROM transfer

-- name: count_wallets
SELECT count(*) FROM wallet WHERE version > 0

-- name: wallets
SELECT player_id, currency, scale, cash_minor, bonus_minor, held_minor, version, brand
  FROM wallet
 WHERE version > 0 AND (player_id, currency) > (%(player)s, %(currency)s)
 ORDER BY player_id, currency
 LIMIT %(most)s

-- name: booked_records
SELECT source_offset, event_id::text, attempt_topic, attempt_part, attempt_offset, attempt_index
  FROM entry
 WHERE part = %(part)s AND event_id = ANY(%(event_ids)s::uuid[])
UNION
SELECT source_offset, event_id::text, attempt_topic, attempt_part, attempt_offset, attempt_index
  FROM repeat
 WHERE part = %(part)s AND event_id = ANY(%(event_ids)s::uuid[])
 ORDER BY source_offset

-- name: booked_offsets
SELECT DISTINCT source_offset
  FROM (SELECT part, source_offset FROM entry UNION ALL SELECT part, source_offset FROM repeat) AS booked
 WHERE part = %(part)s
 ORDER BY source_offset

-- name: parked_bodies
SELECT source_offset, body FROM parked WHERE part = %(part)s ORDER BY source_offset

-- name: bind_installation
UPDATE installation SET cluster_id = %(cluster_id)s

-- name: bind_position
UPDATE stream_position
   SET next_offset = %(position)s, epoch = epoch + 1,
       published_offset = CASE WHEN published_offset >= next_offset THEN %(position)s ELSE published_offset END,
       last_timestamp_ms = %(timestamp_ms)s, last_checksum = %(checksum)s
 WHERE consumer = %(consumer)s AND topic = %(topic)s AND part = %(part)s

-- name: bridge_batch
INSERT INTO batch (part, from_offset, next_offset) VALUES (%(part)s, %(from_offset)s, %(next_offset)s)

-- name: add_runs
INSERT INTO log_mapping (part, from_offset, next_offset, new_offset, recovery)
SELECT part, from_offset, next_offset, new_offset, %(recovery)s
  FROM unnest(%(parts)s::int[], %(froms)s::bigint[], %(nexts)s::bigint[], %(news)s::bigint[])
       AS u (part, from_offset, next_offset, new_offset)

-- name: runs
SELECT part, from_offset, next_offset, new_offset
  FROM log_mapping
 WHERE recovery = (SELECT max(id) FROM recovery WHERE kind = 'REBIND' AND finished_at IS NOT NULL)
 ORDER BY part, from_offset

-- name: seams
-- From which offset on rows of the ledger name offsets of the log of today.
SELECT key::int, value::bigint
  FROM recovery, jsonb_each_text(report -> 'seams')
 WHERE id = (SELECT max(id) FROM recovery WHERE kind = 'REBIND' AND finished_at IS NOT NULL)

-- name: fraud_positions
SELECT consumer, part, next_offset FROM fraud.snapshot WHERE topic = %(topic)s

-- name: move_fraud_snapshot
UPDATE fraud.snapshot SET next_offset = %(position)s, epoch = epoch + 1
 WHERE consumer = %(consumer)s AND topic = %(topic)s AND part = %(part)s

-- name: fraud_markers
SELECT consumer, part, from_offset FROM fraud.activation WHERE topic = %(topic)s ORDER BY from_offset DESC

-- name: move_fraud_marker
UPDATE fraud.activation SET from_offset = %(new_offset)s
 WHERE consumer = %(consumer)s AND topic = %(topic)s AND part = %(part)s AND from_offset = %(from_offset)s

-- name: forget_letters
-- The index of dead letters: of topics of another cluster now, from which the next command reads it again.
DELETE FROM dead_letters.letter WHERE topic LIKE %(prefix)s

-- name: forget_letter_positions
DELETE FROM dead_letters.letter_position WHERE topic LIKE %(prefix)s

-- name: known_attempts_of_raw
-- The last attempts of each raw partition, with the players that their records are keyed by.
SELECT attempt_topic, attempt_part, attempt_offset, player_id
  FROM (SELECT attempt_topic, attempt_part, attempt_offset, player_id,
               row_number() OVER (PARTITION BY attempt_topic, attempt_part ORDER BY attempt_offset DESC) AS place
          FROM entry WHERE player_id IS NOT NULL AND attempt_topic LIKE %(prefix)s) AS attempts
 WHERE place <= %(most)s

-- name: named_places
-- Partitions whose offsets are named by what people did with dead letters, and by what waits or has waited.
SELECT topic, part FROM dead_letters.action WHERE topic LIKE %(prefix)s AND topic NOT LIKE '%%@%%'
UNION SELECT topic, part FROM dead_letters.jam WHERE topic LIKE %(prefix)s AND topic NOT LIKE '%%@%%'
UNION SELECT topic, part FROM dead_letters.parked WHERE topic LIKE %(prefix)s AND topic NOT LIKE '%%@%%'

-- name: waiting_raw
-- Raw records that wait behind dead letters, in the order in which they came.
SELECT p.topic, p.part, p.source_offset, b.waits_for, b.key, p.body, p.headers
  FROM dead_letters.parked p JOIN dead_letters.jam b
    ON b.topic = p.topic AND b.part = p.part AND b.from_offset = p.jam_from
 WHERE p.released_at IS NULL AND p.topic LIKE %(prefix)s AND p.topic NOT LIKE '%%@%%'
 ORDER BY p.topic, p.part, p.source_offset

-- name: move_parked
-- What has waited under offsets of before is kept under a name that no topic has.
UPDATE dead_letters.parked SET topic = topic || %(mark)s, released_at = coalesce(released_at, now()), body = NULL
 WHERE topic = %(topic)s AND part = %(part)s

-- name: move_holds
UPDATE dead_letters.jam
   SET topic = topic || %(mark)s, until_offset = coalesce(until_offset, moved_at),
       ended_by = coalesce(ended_by, 'EXPIRY')
 WHERE topic = %(topic)s AND part = %(part)s
