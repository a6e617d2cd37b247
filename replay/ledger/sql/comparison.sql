-- Live and rebuilt ledger side by side. `parts` and `untils` are the prefix of the log that is compared: the offset behind
-- the last record of each partition. `away` are the months of transfers that were moved out of the live ledger.

-- name: batches
SELECT sequence, part, from_offset, next_offset FROM batch ORDER BY sequence

-- name: quarantined
SELECT part, source_offset FROM closing WHERE action = 'QUARANTINED'

-- name: entries
SELECT count(*) FROM entry

-- name: last_sequence
SELECT coalesce(max(sequence), 0) FROM batch

-- name: months_away
SELECT month FROM month_away

-- name: entry_buckets
SELECT part, source_offset / 4096 AS bucket, count(*), sum(hashtextextended(to_jsonb(t)::text, 0)::numeric)
  FROM entry t JOIN unnest(%(parts)s::int[], %(untils)s::bigint[]) AS prefix (part, until) USING (part)
 WHERE source_offset < until GROUP BY 1, 2

-- name: entry_rows
SELECT to_jsonb(t) FROM entry t WHERE part = %(part)s AND source_offset >= %(begin)s AND source_offset < %(end)s

-- name: repeat_buckets
SELECT part, source_offset / 4096 AS bucket, count(*), sum(hashtextextended(to_jsonb(t)::text, 0)::numeric)
  FROM repeat t JOIN unnest(%(parts)s::int[], %(untils)s::bigint[]) AS prefix (part, until) USING (part)
 WHERE source_offset < until GROUP BY 1, 2

-- name: repeat_rows
SELECT to_jsonb(t) FROM repeat t WHERE part = %(part)s AND source_offset >= %(begin)s AND source_offset < %(end)s

-- name: transfer_buckets
SELECT part, source_offset / 4096 AS bucket, count(*), sum(hashtextextended(to_jsonb(t)::text, 0)::numeric)
  FROM transfer t JOIN unnest(%(parts)s::int[], %(untils)s::bigint[]) AS prefix (part, until) USING (part)
 WHERE source_offset < until AND NOT (month = ANY (%(away)s::int[])) GROUP BY 1, 2

-- name: transfer_rows
SELECT to_jsonb(t) FROM transfer t
 WHERE part = %(part)s AND source_offset >= %(begin)s AND source_offset < %(end)s AND NOT (month = ANY (%(away)s::int[]))

-- name: closing_buckets
SELECT part, source_offset / 4096 AS bucket, count(*), sum(hashtextextended(to_jsonb(t)::text, 0)::numeric)
  FROM closing t JOIN unnest(%(parts)s::int[], %(untils)s::bigint[]) AS prefix (part, until) USING (part)
 WHERE source_offset < until GROUP BY 1, 2

-- name: closing_rows
SELECT to_jsonb(t) FROM closing t WHERE part = %(part)s AND source_offset >= %(begin)s AND source_offset < %(end)s

-- Rows of the present state. Of a live ledger that has gone on since, only those that have not changed since are
-- compared: `is_whole` says that it has not gone on. Grouped by a hash, since they have no place of their own.

-- name: wallet_buckets
SELECT 0, (hashtext(player_id) & 15)::bigint, count(*), sum(hashtextextended(to_jsonb(t)::text, 0)::numeric)
  FROM wallet t GROUP BY 1, 2

-- name: wallet_rows
SELECT to_jsonb(t), %(is_whole)s OR EXISTS (
           SELECT 1 FROM unnest(%(parts)s::int[], %(untils)s::bigint[]) AS prefix (part, until)
            WHERE prefix.part = t.part AND t.source_offset < until)
  FROM wallet t WHERE (hashtext(player_id) & 15) = %(begin)s

-- name: player_state_buckets
SELECT 0, (hashtext(player_id) & 15)::bigint, count(*), sum(hashtextextended(to_jsonb(t)::text, 0)::numeric)
  FROM player_state t GROUP BY 1, 2

-- name: player_state_rows
SELECT to_jsonb(t), %(is_whole)s OR EXISTS (
           SELECT 1 FROM entry e JOIN unnest(%(parts)s::int[], %(untils)s::bigint[]) AS prefix (part, until) USING (part)
            WHERE e.event_id = t.event_id AND e.source_offset < until)
  FROM player_state t WHERE (hashtext(player_id) & 15) = %(begin)s

-- name: proposal_buckets
SELECT 0, (hashtext(event_id::text) & 15)::bigint, count(*), sum(hashtextextended(to_jsonb(t)::text, 0)::numeric)
  FROM proposal t GROUP BY 1, 2

-- name: proposal_rows
SELECT to_jsonb(t), %(is_whole)s OR EXISTS (
           SELECT 1 FROM entry e JOIN unnest(%(parts)s::int[], %(untils)s::bigint[]) AS prefix (part, until) USING (part)
            WHERE e.event_id = t.event_id AND e.source_offset < until)
  FROM proposal t WHERE (hashtext(event_id::text) & 15) = %(begin)s

-- name: opened_deposit_buckets
SELECT 0, (hashtext(event_id::text) & 15)::bigint, count(*), sum(hashtextextended(to_jsonb(t)::text, 0)::numeric)
  FROM opened_deposit t GROUP BY 1, 2

-- name: opened_deposit_rows
SELECT to_jsonb(t), %(is_whole)s OR EXISTS (
           SELECT 1 FROM entry e JOIN unnest(%(parts)s::int[], %(untils)s::bigint[]) AS prefix (part, until) USING (part)
            WHERE e.event_id = t.event_id AND e.source_offset < until)
  FROM opened_deposit t WHERE (hashtext(event_id::text) & 15) = %(begin)s

-- name: totals
SELECT currency, count(*), sum(cash_minor)::text, sum(bonus_minor)::text, sum(held_minor)::text
  FROM wallet GROUP BY currency ORDER BY currency
