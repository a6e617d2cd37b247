-- The owner of each partition and how far it is.

-- name: claim
INSERT INTO stream_position AS p (consumer, topic, part, epoch)
SELECT %(consumer)s, %(topic)s, part, 1 FROM unnest(%(parts)s::int[]) AS part ORDER BY part
    ON CONFLICT (consumer, topic, part) DO UPDATE SET epoch = p.epoch + 1
RETURNING part, next_offset, published_offset, epoch, last_timestamp_ms, last_checksum

-- name: lay_out
-- The rows of partitions that no worker has claimed yet, so that an event that locks all positions waits for them, too.
INSERT INTO stream_position (consumer, topic, part)
SELECT %(consumer)s, %(topic)s, part
  FROM installation, generate_series(0, partitions - 1) AS part
 ORDER BY part
    ON CONFLICT DO NOTHING

-- name: claim_soon
-- A healthy worker holds a position for a moment only; one that holds it longer is stuck.
SET LOCAL lock_timeout = '5s'

-- name: epochs
SELECT part, epoch
  FROM stream_position
 WHERE consumer = %(consumer)s AND topic = %(topic)s AND part = ANY(%(parts)s)

-- name: as_login
-- Only the login that owns the sessions may end them: the writer's role may not.
SET LOCAL ROLE NONE

-- name: end_holders
-- A worker that was frozen in the middle of a transaction keeps its locks. No time-out of PostgreSQL ends a session that
-- waits for more of a COPY, or for what follows a pipeline. Kafka has given its partitions to us, so we end it.
SELECT pg_terminate_backend(a.pid)
  FROM pg_stat_activity a
 WHERE a.datname = current_database() AND a.usename = session_user AND a.pid <> pg_backend_pid()
   AND a.xact_start < now() - interval '10 seconds'
   AND EXISTS (SELECT FROM pg_locks l
                WHERE l.pid = a.pid AND l.granted AND l.relation = 'stream_position'::regclass
                  AND l.mode IN ('RowShareLock', 'RowExclusiveLock'))

-- name: installation
SELECT cluster_id, partitions FROM installation

-- name: unfinished_recovery
SELECT kind, started_at FROM recovery WHERE finished_at IS NULL

-- name: install
INSERT INTO installation (cluster_id, partitions) VALUES (%(cluster_id)s, %(partitions)s) ON CONFLICT DO NOTHING

-- name: published
-- Locked in the order in which every other statement locks them: the order of an update's own plan could deadlock.
WITH locked AS MATERIALIZED (
    SELECT part FROM stream_position
     WHERE consumer = %(consumer)s AND topic = %(topic)s AND part = ANY(%(parts)s)
     ORDER BY part
       FOR UPDATE
)
UPDATE stream_position AS p
   SET published_offset = u.published_offset
  FROM locked
  JOIN unnest(%(parts)s::int[], %(offsets)s::bigint[], %(epochs)s::bigint[]) AS u (part, published_offset, epoch)
 USING (part)
 WHERE p.consumer = %(consumer)s AND p.topic = %(topic)s AND p.part = u.part AND p.epoch = u.epoch
   AND p.published_offset < u.published_offset

-- name: outcomes_between
-- Every answer given for a range of the log, first decisions and repeats alike, in its order.
SELECT source_offset, event_id::text, brand, provider, operation, provider_tx_id, attempt_topic, attempt_part,
       attempt_offset, attempt_index, player_id, outcome, reason, currency, available_minor, version, decided_at_ms,
       occurred_at_ms
  FROM entry
 WHERE part = %(part)s AND source_offset >= %(first)s AND source_offset < %(next)s
UNION ALL
SELECT source_offset, event_id::text, brand, provider, operation, provider_tx_id, attempt_topic, attempt_part,
       attempt_offset, attempt_index, player_id, outcome, reason, currency, available_minor, version, decided_at_ms,
       NULL
  FROM repeat
 WHERE part = %(part)s AND source_offset >= %(first)s AND source_offset < %(next)s
 ORDER BY source_offset, attempt_index

-- name: wallets_of
SELECT player_id, currency, scale, cash_minor, bonus_minor, held_minor, version, event_id::text, part, source_offset
  FROM wallet
 WHERE player_id = ANY(%(players)s)
