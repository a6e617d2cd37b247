-- The statements for a group of batches, in the order of the transaction.

-- name: lock_positions
-- Always first and always in this order: it fences zombies, trims redelivery and keeps two groups from a deadlock.
SELECT part, next_offset, epoch
  FROM stream_position
 WHERE consumer = %(consumer)s AND topic = %(topic)s AND part = ANY(%(parts)s)
 ORDER BY part
   FOR UPDATE

-- name: lock_all_positions
-- An event without a player may refer to an event of any partition, so no other batch may be in progress.
SELECT part FROM stream_position WHERE consumer = %(consumer)s AND topic = %(topic)s ORDER BY part FOR UPDATE

-- name: probe_only
-- A cached plan may be from a time when a month held few rows: it must never read a month whole.
SET LOCAL enable_seqscan = off

-- name: demand_positions
-- For a group that is written without reading first: locks as lock_positions, and fails unless each position is where a
-- slice begins, under our claim. The setting is that of probe_only.
WITH locked AS MATERIALIZED (
    SELECT part, next_offset, epoch
      FROM stream_position
     WHERE consumer = %(consumer)s AND topic = %(topic)s AND part = ANY(%(parts)s::int[])
     ORDER BY part
       FOR UPDATE
)
SELECT demand(count(*) = cardinality(%(parts)s::int[]), 'a position is not where it was'),
       set_config('enable_seqscan', 'off', true)
  FROM unnest(%(parts)s::int[], %(froms)s::bigint[], %(epochs)s::bigint[]) AS slice (part, from_offset, epoch)
  JOIN locked ON locked.part = slice.part AND locked.next_offset = slice.from_offset AND locked.epoch = slice.epoch

-- name: demand_unknown
-- Behind the locks, so a statement of its own: what was committed while this transaction waited for them counts.
SELECT demand(NOT EXISTS (SELECT FROM entry WHERE event_id = ANY(%(event_ids)s::uuid[]))
              AND NOT EXISTS (SELECT FROM closing WHERE event_id = ANY(%(event_ids)s::uuid[])),
              'an event is known already')

-- name: crossings
-- Read after locking: if it has changed, decisions made before are void.
SELECT count FROM crossing

-- name: cross
UPDATE crossing SET count = count + 1

-- name: known_entries
SELECT event_id::text, decision, player_id, fingerprint, attempt_topic, attempt_part, attempt_offset, attempt_index,
       outcome, reason, currency, available_minor, version, decided_at_ms, transfers, group_id::text,
       contribution_rest::text
  FROM entry
 WHERE event_id = ANY(%(event_ids)s::uuid[])
 ORDER BY event_id, decision

-- name: known_closings
SELECT event_id::text, player_id, action, by_event_id::text
  FROM closing
 WHERE event_id = ANY(%(event_ids)s::uuid[])

-- name: known_wallets
SELECT player_id, currency, scale, cash_minor, bonus_minor, held_minor, version, event_id::text, part, source_offset,
       brand
  FROM wallet
 WHERE player_id = ANY(%(players)s)

-- name: known_states
SELECT player_id, standings, limits, wagering, event_id::text, fractions, reversals
  FROM player_state
 WHERE player_id = ANY(%(players)s)

-- name: known_proposals
SELECT event_id::text, player_id, currency, amount_minor, actor, reason, brand, id, occurred_at_ms, act, item_id::text
  FROM proposal
 WHERE event_id = ANY(%(event_ids)s::uuid[])

-- name: known_open_items
SELECT event_id::text, decision, provider, player_id, currency, amount_minor, in_suspense, opened_at_ms
  FROM open_item
 WHERE event_id = ANY(%(event_ids)s::uuid[])

-- name: known_limits
SELECT currency, amount_minor, event_id::text
  FROM operator_limit

-- name: known_opened_deposits
SELECT event_id::text, player_id, psp, currency, amount_minor
  FROM opened_deposit
 WHERE event_id = ANY(%(event_ids)s::uuid[])

-- name: known_repeats
-- The first answer to an attempt. One probe an attempt: a provider may have repeated itself a million times.
SELECT r.event_id::text, r.attempt_topic, r.attempt_part, r.attempt_offset, r.attempt_index, r.outcome, r.reason,
       r.currency, r.available_minor, r.version, r.decided_at_ms
  FROM unnest(%(event_ids)s::uuid[], %(offsets)s::bigint[]) AS wanted (event_id, attempt_offset)
  JOIN repeat r ON r.event_id = wanted.event_id AND r.attempt_offset = wanted.attempt_offset

-- name: transfers_of
-- The movements of entries that may be reversed: a probe of each wallet's chain, no index of its own. All movements of
-- an event are of one month. NULL for any month; named months have to be known to the planner, or it locks every
-- partition with its indexes until COMMIT.
SELECT wanted.event_id, wanted.decision, t.player_id, t.currency, t.version, t.debit, t.credit, t.amount_minor,
       t.cash_minor, t.bonus_minor, t.held_minor
  FROM unnest(%(event_ids)s::text[], %(decisions)s::int[], %(players)s::text[], %(currencies)s::text[],
              %(firsts)s::bigint[], %(lasts)s::bigint[])
       AS wanted (event_id, decision, player_id, currency, first_version, last_version)
  JOIN transfer t
    ON t.player_id = wanted.player_id AND t.currency = wanted.currency
   AND t.version BETWEEN wanted.first_version AND wanted.last_version
   -- An event may also have rows between house accounts: the range of versions then begins before its own.
   AND t.event_id = wanted.event_id::uuid AND t.decision = wanted.decision
 WHERE CAST(%(months)s AS int[]) IS NULL OR t.month = ANY (CAST(%(months)s AS int[]))
 ORDER BY wanted.event_id, wanted.decision, t.version

-- name: months_away
SELECT count(*) FROM month_away

-- name: moved_away
-- Read only where an entry states that it moved something and its player has no such movement: either its month was
-- moved away, or it moved money between house accounts alone. In the second case the version in its answer is an
-- earlier event's; even if that event's rows are away, its own rows may be there, found by their position in the log.
SELECT wanted.event_id
  FROM unnest(%(event_ids)s::text[], %(decisions)s::int[], %(players)s::text[], %(currencies)s::text[],
              %(firsts)s::bigint[], %(lasts)s::bigint[])
       AS wanted (event_id, decision, player_id, currency, first_version, last_version)
 WHERE EXISTS (SELECT FROM month_away)
   AND wanted.last_version > 0
   AND NOT EXISTS (SELECT FROM transfer t
                    WHERE t.player_id = wanted.player_id AND t.currency = wanted.currency
                      AND t.version = wanted.last_version)
   AND NOT EXISTS (SELECT FROM entry e
                     JOIN transfer t ON t.part = e.part AND t.source_offset = e.source_offset
                      AND t.event_id = e.event_id AND t.decision = e.decision
                    WHERE e.event_id = wanted.event_id::uuid AND e.decision = wanted.decision)

-- name: copy_entries
COPY entry (event_id, decision, brand, provider, provider_version, region, operation, provider_tx_id, kind, player_id,
            round_id, round_closed, game_id, reference_event_id, fingerprint, attempt_topic, attempt_part,
            attempt_offset, attempt_index, part, source_offset, occurred_at_ms, outcome, reason, currency, available_minor, version,
            transfers, group_id, is_billable, decided_at_ms, contribution_rest)
FROM STDIN

-- name: copy_repeats
COPY repeat (part, source_offset, event_id, brand, provider, operation, provider_tx_id, player_id, fingerprint,
             attempt_topic, attempt_part, attempt_offset, attempt_index, redelivered, outcome, reason, currency,
             available_minor, version, decided_at_ms)
FROM STDIN

-- name: copy_transfers
COPY transfer (player_id, currency, version, debit, credit, amount_minor, cash_minor, bonus_minor, held_minor,
               event_id, decision, part, source_offset, occurred_at_ms, month)
FROM STDIN

-- name: insert_entries
-- The lines that copy_entries takes, split here into columns: the caller makes sure that nothing in them is escaped.
WITH cut AS MATERIALIZED (
    SELECT string_to_array(line, E'\t', '\N') AS f FROM string_to_table(%(lines)s, E'\n') AS line
)
INSERT INTO entry (event_id, decision, brand, provider, provider_version, region, operation, provider_tx_id, kind,
                   player_id, round_id, round_closed, game_id, reference_event_id, fingerprint, attempt_topic,
                   attempt_part, attempt_offset, attempt_index, part, source_offset, occurred_at_ms, outcome, reason,
                   currency, available_minor, version, transfers, group_id, is_billable, decided_at_ms,
                   contribution_rest)
SELECT f[1]::uuid, f[2]::smallint, f[3], f[4], f[5], f[6], f[7], f[8], f[9], f[10], f[11], f[12]::boolean, f[13],
       f[14]::uuid, f[15], f[16], f[17]::int, f[18]::bigint, f[19]::int, f[20]::int, f[21]::bigint, f[22]::bigint,
       f[23], f[24], f[25], f[26]::bigint, f[27]::bigint, f[28]::smallint, f[29]::uuid, f[30]::boolean, f[31]::bigint,
       f[32]::numeric
  FROM cut

-- name: insert_transfers
WITH cut AS MATERIALIZED (
    SELECT string_to_array(line, E'\t', '\N') AS f FROM string_to_table(%(lines)s, E'\n') AS line
)
INSERT INTO transfer (player_id, currency, version, debit, credit, amount_minor, cash_minor, bonus_minor, held_minor,
                      event_id, decision, part, source_offset, occurred_at_ms, month)
SELECT f[1], f[2], f[3]::bigint, f[4], f[5], f[6]::bigint, f[7]::bigint, f[8]::bigint, f[9]::bigint, f[10]::uuid,
       f[11]::smallint, f[12]::int, f[13]::bigint, f[14]::bigint, f[15]::int
  FROM cut

-- name: insert_repeats
WITH cut AS MATERIALIZED (
    SELECT string_to_array(line, E'\t', '\N') AS f FROM string_to_table(%(lines)s, E'\n') AS line
)
INSERT INTO repeat (part, source_offset, event_id, brand, provider, operation, provider_tx_id, player_id, fingerprint,
                    attempt_topic, attempt_part, attempt_offset, attempt_index, redelivered, outcome, reason,
                    currency, available_minor, version, decided_at_ms)
SELECT f[1]::int, f[2]::bigint, f[3]::uuid, f[4], f[5], f[6], f[7], f[8], f[9], f[10], f[11]::int, f[12]::bigint,
       f[13]::int, f[14]::boolean, f[15], f[16], f[17], f[18]::bigint, f[19]::bigint, f[20]::bigint
  FROM cut

-- name: write_unread
-- Behind demand_positions: what insert_entries, insert_transfers, upsert_wallets, insert_batches and advance_positions do,
-- in one statement, for a group whose events are all new and that changes nothing else. A statement of its own: what was
-- committed while this transaction waited for its locks counts.
WITH entry_line AS MATERIALIZED (
    SELECT string_to_array(line, E'\t', '\N') AS f FROM string_to_table(%(entries)s, E'\n') AS line
), transfer_line AS MATERIALIZED (
    SELECT string_to_array(line, E'\t', '\N') AS f FROM string_to_table(%(transfers)s, E'\n') AS line
), new_entry AS (
    INSERT INTO entry (event_id, decision, brand, provider, provider_version, region, operation, provider_tx_id, kind,
                       player_id, round_id, round_closed, game_id, reference_event_id, fingerprint, attempt_topic,
                       attempt_part, attempt_offset, attempt_index, part, source_offset, occurred_at_ms, outcome, reason,
                       currency, available_minor, version, transfers, group_id, is_billable, decided_at_ms,
                       contribution_rest)
    SELECT f[1]::uuid, f[2]::smallint, f[3], f[4], f[5], f[6], f[7], f[8], f[9], f[10], f[11], f[12]::boolean, f[13],
           f[14]::uuid, f[15], f[16], f[17]::int, f[18]::bigint, f[19]::int, f[20]::int, f[21]::bigint, f[22]::bigint,
           f[23], f[24], f[25], f[26]::bigint, f[27]::bigint, f[28]::smallint, f[29]::uuid, f[30]::boolean, f[31]::bigint,
           f[32]::numeric
      FROM entry_line
), new_transfer AS (
    INSERT INTO transfer (player_id, currency, version, debit, credit, amount_minor, cash_minor, bonus_minor, held_minor,
                          event_id, decision, part, source_offset, occurred_at_ms, month)
    SELECT f[1], f[2], f[3]::bigint, f[4], f[5], f[6]::bigint, f[7]::bigint, f[8]::bigint, f[9]::bigint, f[10]::uuid,
           f[11]::smallint, f[12]::int, f[13]::bigint, f[14]::bigint, f[15]::int
      FROM transfer_line
), moved_wallet AS (
    INSERT INTO wallet AS w (player_id, currency, scale, cash_minor, bonus_minor, held_minor, version, event_id, part,
                             source_offset, brand)
    SELECT * FROM unnest(%(players)s::text[], %(currencies)s::text[], %(scales)s::int[], %(cash)s::bigint[],
                         %(bonus)s::bigint[], %(held)s::bigint[], %(versions)s::bigint[], %(wallet_event_ids)s::uuid[],
                         %(wallet_parts)s::int[], %(wallet_offsets)s::bigint[], %(brands)s::text[])
        ON CONFLICT (player_id, currency) DO UPDATE
       SET cash_minor = excluded.cash_minor, bonus_minor = excluded.bonus_minor, held_minor = excluded.held_minor,
           version = excluded.version, event_id = excluded.event_id, part = excluded.part,
           source_offset = excluded.source_offset, brand = excluded.brand
     WHERE w.version < excluded.version
    RETURNING 1
), new_batch AS (
    INSERT INTO batch (part, from_offset, next_offset)
    SELECT * FROM unnest(%(parts)s::int[], %(froms)s::bigint[], %(nexts)s::bigint[])
), moved_position AS (
    UPDATE stream_position AS p
       SET next_offset = u.next_offset, last_timestamp_ms = coalesce(u.last_timestamp_ms, p.last_timestamp_ms),
           last_checksum = coalesce(u.last_checksum, p.last_checksum)
      FROM unnest(%(parts)s::int[], %(froms)s::bigint[], %(nexts)s::bigint[], %(epochs)s::bigint[],
                  %(timestamps)s::bigint[], %(checksums)s::bigint[])
           AS u (part, from_offset, next_offset, epoch, last_timestamp_ms, last_checksum)
     WHERE p.consumer = %(consumer)s AND p.topic = %(topic)s AND p.part = u.part
       AND p.next_offset = u.from_offset AND p.epoch = u.epoch
    RETURNING 1
)
SELECT demand(NOT EXISTS (SELECT FROM entry WHERE event_id = ANY(%(event_ids)s::uuid[]))
              AND NOT EXISTS (SELECT FROM closing WHERE event_id = ANY(%(event_ids)s::uuid[])),
              'an event is known already'),
       demand((SELECT count(*) FROM moved_wallet) = cardinality(%(versions)s::bigint[]), 'a wallet is not as it was'),
       demand((SELECT count(*) FROM moved_position) = cardinality(%(parts)s::int[]),
              'a position did not move under its own lock')

-- name: insert_closings
-- Only SETTLED, which is not an end, is ever replaced: an end that was not known stays, and fails the transaction.
WITH written AS (
INSERT INTO closing AS c (event_id, player_id, action, by_event_id, part, source_offset)
SELECT * FROM unnest(%(event_ids)s::uuid[], %(players)s::text[], %(actions)s::text[], %(by)s::uuid[],
                     %(parts)s::int[], %(offsets)s::bigint[])
    ON CONFLICT (event_id, player_id) DO UPDATE
   SET action = excluded.action, by_event_id = excluded.by_event_id, part = excluded.part,
       source_offset = excluded.source_offset
 WHERE c.action = 'SETTLED'
RETURNING 1)
SELECT demand(count(*) = cardinality(%(event_ids)s::uuid[]),
              cardinality(%(event_ids)s::uuid[]) || ' closings changed, ' || count(*) || ' were written: another writer')
  FROM written

-- name: upsert_wallets
-- A wallet only moves forward; a row that does not is another writer's, and fails the transaction.
WITH written AS (
INSERT INTO wallet AS w (player_id, currency, scale, cash_minor, bonus_minor, held_minor, version, event_id, part,
                         source_offset, brand)
SELECT * FROM unnest(%(players)s::text[], %(currencies)s::text[], %(scales)s::int[], %(cash)s::bigint[],
                     %(bonus)s::bigint[], %(held)s::bigint[], %(versions)s::bigint[], %(event_ids)s::uuid[],
                     %(parts)s::int[], %(offsets)s::bigint[], %(brands)s::text[])
    ON CONFLICT (player_id, currency) DO UPDATE
   SET cash_minor = excluded.cash_minor, bonus_minor = excluded.bonus_minor, held_minor = excluded.held_minor,
       version = excluded.version, event_id = excluded.event_id, part = excluded.part,
       source_offset = excluded.source_offset, brand = excluded.brand
 WHERE w.version < excluded.version
RETURNING 1)
SELECT demand(count(*) = cardinality(%(versions)s::bigint[]),
              cardinality(%(versions)s::bigint[]) || ' wallets changed, ' || count(*) || ' were written: another writer')
  FROM written

-- name: upsert_states
INSERT INTO player_state (player_id, standings, limits, wagering, event_id, fractions, reversals)
SELECT * FROM unnest(%(players)s::text[], %(standings)s::jsonb[], %(limits)s::jsonb[], %(wagering)s::jsonb[],
                     %(event_ids)s::uuid[], %(fractions)s::jsonb[], %(reversals)s::jsonb[])
    ON CONFLICT (player_id) DO UPDATE
   SET standings = excluded.standings, limits = excluded.limits, wagering = excluded.wagering,
       event_id = excluded.event_id, fractions = excluded.fractions, reversals = excluded.reversals

-- name: insert_proposals
INSERT INTO proposal (event_id, player_id, currency, amount_minor, actor, reason, brand, id, occurred_at_ms, act, item_id)
SELECT * FROM unnest(%(event_ids)s::uuid[], %(players)s::text[], %(currencies)s::text[], %(amounts)s::bigint[],
                     %(actors)s::text[], %(reasons)s::text[], %(brands)s::text[], %(ids)s::text[],
                     %(times)s::bigint[], %(acts)s::text[], %(items)s::uuid[])

-- name: delete_open_items
DELETE FROM open_item WHERE event_id = ANY(%(event_ids)s::uuid[])

-- name: upsert_open_items
INSERT INTO open_item (event_id, decision, provider, player_id, currency, amount_minor, in_suspense, opened_at_ms)
SELECT * FROM unnest(%(event_ids)s::uuid[], %(decisions)s::smallint[], %(providers)s::text[], %(players)s::text[],
                     %(currencies)s::text[], %(amounts)s::bigint[], %(in_suspense)s::boolean[], %(times)s::bigint[])
    ON CONFLICT (event_id) DO UPDATE
   SET decision = excluded.decision, player_id = excluded.player_id, currency = excluded.currency,
       amount_minor = excluded.amount_minor, in_suspense = excluded.in_suspense, opened_at_ms = excluded.opened_at_ms

-- name: upsert_limits
INSERT INTO operator_limit (currency, amount_minor, event_id)
SELECT * FROM unnest(%(currencies)s::text[], %(amounts)s::bigint[], %(event_ids)s::uuid[])
    ON CONFLICT (currency) DO UPDATE
   SET amount_minor = excluded.amount_minor, event_id = excluded.event_id

-- name: insert_opened_deposits
INSERT INTO opened_deposit (event_id, player_id, psp, currency, amount_minor)
SELECT * FROM unnest(%(event_ids)s::uuid[], %(players)s::text[], %(psps)s::text[], %(currencies)s::text[],
                     %(amounts)s::bigint[])

-- name: insert_batches
INSERT INTO batch (part, from_offset, next_offset)
SELECT * FROM unnest(%(parts)s::int[], %(froms)s::bigint[], %(nexts)s::bigint[])

-- name: advance_positions
WITH moved AS (
UPDATE stream_position AS p
   SET next_offset = u.next_offset, last_timestamp_ms = coalesce(u.last_timestamp_ms, p.last_timestamp_ms),
       last_checksum = coalesce(u.last_checksum, p.last_checksum)
  FROM unnest(%(parts)s::int[], %(froms)s::bigint[], %(nexts)s::bigint[], %(epochs)s::bigint[],
              %(timestamps)s::bigint[], %(checksums)s::bigint[])
       AS u (part, from_offset, next_offset, epoch, last_timestamp_ms, last_checksum)
 WHERE p.consumer = %(consumer)s AND p.topic = %(topic)s AND p.part = u.part
   AND p.next_offset = u.from_offset AND p.epoch = u.epoch
RETURNING 1)
SELECT demand(count(*) = cardinality(%(parts)s::int[]),
              count(*) || ' of ' || cardinality(%(parts)s::int[]) || ' positions moved under their own lock')
  FROM moved
