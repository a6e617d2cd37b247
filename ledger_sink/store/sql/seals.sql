-- Sealing and verifying. Rows of a range always come in one order: that of the log, an entry before its transfers.

-- name: only_one
SELECT pg_try_advisory_xact_lock(7065150061)

-- name: positions
SELECT part, next_offset FROM stream_position WHERE consumer = %(consumer)s AND topic = %(topic)s ORDER BY part

-- name: last_seals
SELECT DISTINCT ON (part) part, number, form, from_offset, next_offset, digests, hash FROM seal ORDER BY part, number DESC

-- name: seals
SELECT part, number, form, from_offset, next_offset, digests, hash FROM seal WHERE part = %(part)s ORDER BY number

-- name: unsealed
-- The partitions without a seal that have entries to seal, those with one, and the time of the oldest entry behind the
-- last seal of these. A seal ends where the log was read to, so the next entry is near; only a stretch behind it is looked at.
SELECT count(*) FILTER (WHERE s.next_offset IS NULL AND p.next_offset > 0), count(s.next_offset), min(e.decided_at_ms)
  FROM stream_position p
  LEFT JOIN (SELECT part, max(next_offset) AS next_offset FROM seal GROUP BY part) s USING (part)
  LEFT JOIN LATERAL (
       SELECT decided_at_ms FROM entry
        WHERE part = p.part AND source_offset >= s.next_offset AND source_offset < s.next_offset + %(stretch)s
        ORDER BY source_offset LIMIT 1) e ON true
 WHERE p.consumer = %(consumer)s AND p.topic = %(topic)s

-- name: sealed_parts
SELECT DISTINCT part FROM seal ORDER BY part

-- The columns of each form. A column that is added later needs a new form: rows are compared in the form in which they
-- were sealed.
-- name: entries_of_form_1
SELECT event_id::text, decision, brand, provider, provider_version, region, operation, provider_tx_id, kind, player_id,
       round_id, game_id, reference_event_id::text, fingerprint, attempt_topic, attempt_part, attempt_offset,
       attempt_index, part, source_offset, occurred_at_ms, outcome, reason, currency, available_minor, version, transfers
  FROM entry
 WHERE part = %(part)s AND source_offset >= %(first)s AND source_offset < %(next)s
 ORDER BY source_offset, event_id, decision

-- name: entries_of_form_2
SELECT event_id::text, decision, brand, provider, provider_version, region, operation, provider_tx_id, kind, player_id,
       round_id, game_id, reference_event_id::text, fingerprint, attempt_topic, attempt_part, attempt_offset,
       attempt_index, part, source_offset, occurred_at_ms, outcome, reason, currency, available_minor, version, transfers,
       round_closed, group_id::text, is_billable, decided_at_ms, contribution_rest::text
  FROM entry
 WHERE part = %(part)s AND source_offset >= %(first)s AND source_offset < %(next)s
 ORDER BY source_offset, event_id, decision

-- name: transfers
SELECT player_id, currency, version, debit, credit, amount_minor, cash_minor, bonus_minor, held_minor, event_id::text,
       decision, part, source_offset, occurred_at_ms
  FROM transfer
 WHERE part = %(part)s AND source_offset >= %(first)s AND source_offset < %(next)s
 ORDER BY source_offset, event_id, decision, player_id, currency, version, debit, credit, amount_minor

-- name: oldest_from
-- When the first of the rows from an offset on was booked. One of them may have no time of its decision.
SELECT min(coalesce(decided_at_ms, occurred_at_ms)) FROM entry WHERE part = %(part)s AND source_offset >= %(next)s

-- name: hashes
SELECT part, number, hash FROM seal WHERE part = ANY(%(parts)s)

-- name: insert_seal
INSERT INTO seal (part, number, form, from_offset, next_offset, digests, hash)
VALUES (%(part)s, %(number)s, %(form)s, %(from_offset)s, %(next_offset)s, %(digests)s, %(hash)s)

-- Rows that claim to be from offsets that the ledger has not reached.
-- name: beyond
SELECT 'entry', event_id::text, source_offset FROM entry WHERE part = %(part)s AND source_offset >= %(next)s
UNION ALL
SELECT 'transfer', event_id::text, source_offset FROM transfer WHERE part = %(part)s AND source_offset >= %(next)s
 ORDER BY 3 LIMIT 1

-- Rows from partitions that the ledger has never owned.
-- name: strangers
SELECT 'entry', event_id::text, part, source_offset FROM entry WHERE NOT part = ANY(%(parts)s)
UNION ALL
SELECT 'transfer', event_id::text, part, source_offset FROM transfer WHERE NOT part = ANY(%(parts)s)
 LIMIT 1

-- Closings are not sealed: a SETTLED one may be replaced. But the sealed entries state what they have closed.
-- Events that an entry has closed, or found closed, without a closing: they could be taken back, paid or approved
-- again.
-- name: open_again
SELECT DISTINCT ON (e.part) e.reference_event_id::text, e.event_id::text, e.part, e.source_offset
  FROM entry e
 WHERE e.reference_event_id IS NOT NULL
   AND string_to_array(e.kind, '+')
       && ARRAY['ROLLBACK', 'CANCEL', 'WITHDRAWAL', 'WITHDRAWAL_REVERSAL', 'ADJUSTMENT', 'SUSPENSE_ASSIGNMENT',
                'SUSPENSE_RETURN', 'ANSWER', 'OPERATOR_LIMIT']
   AND (e.outcome = 'POSTED' AND e.reason IN ('BOOKED', 'BOOKED_INTO_DEBT', 'NOTHING_TO_REVERSE', 'ALREADY_CLOSED')
        OR e.outcome = 'TOMBSTONED' AND e.reason = 'REFERENCE_NOT_SEEN_YET'
        OR e.outcome = 'CANCELLED' AND e.reason IN ('REVERSED', 'REVERSED_INTO_DEBT', 'NOTHING_TO_REVERSE',
                                                    'REFERENCE_NOT_SEEN_YET', 'ALREADY_CLOSED'))
   AND NOT EXISTS (SELECT FROM closing c
                    WHERE c.event_id = e.reference_event_id AND c.player_id IN (coalesce(e.player_id, ''), '')
                      AND c.action <> 'SETTLED')
 ORDER BY e.part, e.source_offset

-- Closings that no entry has made, or not with this action. A rollback that does not say what it means closes all that
-- it may mean; its entry names the likeliest. The approval of a proposal closes the item that the proposal names, and an
-- item is closed for any player.
-- name: closed_by_nothing
SELECT DISTINCT ON (c.part) c.event_id::text, c.action, c.part, c.source_offset
  FROM closing c
 WHERE NOT EXISTS (SELECT FROM entry e
                    WHERE e.event_id = c.by_event_id AND e.part = c.part
                      AND (e.source_offset = c.source_offset OR c.action = 'QUARANTINED')
                      AND (e.reference_event_id = c.event_id
                           OR EXISTS (SELECT FROM proposal p
                                       WHERE p.event_id = e.reference_event_id AND p.item_id = c.event_id)
                           OR e.reason = 'REFERENCE_NOT_SEEN_YET'
                              AND EXISTS (SELECT FROM closing first
                                           WHERE first.event_id = e.reference_event_id
                                             AND first.by_event_id = c.by_event_id AND first.player_id = c.player_id))
                      AND (c.player_id = coalesce(e.player_id, '') OR c.player_id = '' AND c.action = 'ASSIGNED')
                      AND c.action = CASE e.kind WHEN 'ROLLBACK' THEN 'REVERSED' WHEN 'CANCEL' THEN 'CANCELLED'
                                                 WHEN 'WITHDRAWAL' THEN 'PAID' WHEN 'WITHDRAWAL_REVERSAL' THEN 'REFUSED'
                                                 WHEN 'ADJUSTMENT' THEN 'APPROVED' WHEN 'WIN' THEN 'SETTLED'
                                                 WHEN 'ANSWER' THEN 'ANSWERED' WHEN 'OPERATOR_LIMIT' THEN 'APPROVED'
                                                 WHEN 'SUSPENSE_ASSIGNMENT' THEN
                                                      CASE c.action WHEN 'APPROVED' THEN 'APPROVED' ELSE 'ASSIGNED' END
                                                 WHEN 'SUSPENSE_RETURN' THEN
                                                      CASE c.action WHEN 'APPROVED' THEN 'APPROVED' ELSE 'RETURNED' END
                                                 ELSE c.action END)
   -- A quarantine closes its record in the record's place; the approval is booked later, behind it.
   AND NOT (c.action = 'QUARANTINED'
            AND EXISTS (SELECT FROM entry e
                         WHERE e.part = c.part AND e.source_offset = c.source_offset AND e.reason = 'QUARANTINED'))
 ORDER BY c.part, c.source_offset

-- The cluster of this ledger's log.
-- name: cluster
SELECT cluster_id FROM installation
