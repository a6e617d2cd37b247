-- Sealing and verifying. Rows of a stretch come in one order, whoever asks: that of the log, an entry before its transfers.

-- name: only_one
SELECT pg_try_advisory_xact_lock(7065150061)

-- name: positions
SELECT part, next_offset FROM stream_position WHERE consumer = %(consumer)s AND topic = %(topic)s ORDER BY part

-- name: last_seals
SELECT DISTINCT ON (part) part, number, form, from_offset, next_offset, digests, hash FROM seal ORDER BY part, number DESC

-- name: seals
SELECT part, number, form, from_offset, next_offset, digests, hash FROM seal WHERE part = %(part)s ORDER BY number

-- name: sealed_parts
SELECT DISTINCT part FROM seal ORDER BY part

-- The columns of form 1. A column that is added later needs a new form: what was sealed is compared as it was sealed.
-- name: entries
SELECT event_id::text, decision, brand, provider, provider_version, region, operation, provider_tx_id, kind, player_id,
       round_id, game_id, reference_event_id::text, fingerprint, attempt_topic, attempt_part, attempt_offset,
       attempt_index, part, source_offset, occurred_at_ms, outcome, reason, currency, available_minor, version, transfers
  FROM entry
 WHERE part = %(part)s AND source_offset >= %(first)s AND source_offset < %(next)s
 ORDER BY source_offset, event_id, decision

-- name: transfers
SELECT player_id, currency, version, debit, credit, amount_minor, cash_minor, bonus_minor, held_minor, event_id::text,
       decision, part, source_offset, occurred_at_ms
  FROM transfer
 WHERE part = %(part)s AND source_offset >= %(first)s AND source_offset < %(next)s
 ORDER BY source_offset, event_id, decision, player_id, currency, version, debit, credit, amount_minor

-- name: insert_seal
INSERT INTO seal (part, number, form, from_offset, next_offset, digests, hash)
VALUES (%(part)s, %(number)s, %(form)s, %(from_offset)s, %(next_offset)s, %(digests)s, %(hash)s)

-- What claims to be booked from where the ledger has not been yet.
-- name: beyond
SELECT 'entry', event_id::text, source_offset FROM entry WHERE part = %(part)s AND source_offset >= %(next)s
UNION ALL
SELECT 'transfer', event_id::text, source_offset FROM transfer WHERE part = %(part)s AND source_offset >= %(next)s
 ORDER BY 3 LIMIT 1

-- What is booked from partitions that the ledger has never had.
-- name: strangers
SELECT 'entry', event_id::text, part, source_offset FROM entry WHERE NOT part = ANY(%(parts)s)
UNION ALL
SELECT 'transfer', event_id::text, part, source_offset FROM transfer WHERE NOT part = ANY(%(parts)s)
 LIMIT 1
