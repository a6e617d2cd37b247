-- Open rounds. A report over all entries: it reads them whole, without an index that would slow booking down.

-- name: open_bets
-- Booked bets that nothing has ended: no rollback, no win that names them, no win or end of their round.
WITH bet AS (
    SELECT event_id, decision, brand, provider, operation, provider_tx_id, player_id, round_id, game_id, currency, version,
           transfers, part, source_offset, occurred_at_ms, region, provider_version
      FROM entry
     WHERE outcome = 'POSTED' AND NOT round_closed AND player_id IS NOT NULL
       AND occurred_at_ms <= %(until_ms)s
       AND 'BET' = ANY (string_to_array(kind, '+')) AND NOT 'WIN' = ANY (string_to_array(kind, '+'))
       AND (%(provider)s::text IS NULL OR provider = %(provider)s)
       AND (%(player)s::text IS NULL OR player_id = %(player)s)
), ended AS (
    SELECT brand, provider, player_id, round_id, reference_event_id, round_closed
      FROM entry
     WHERE outcome IN ('POSTED', 'INFORMATIONAL')
       AND (round_closed OR string_to_array(kind, '+') && ARRAY['WIN', 'JACKPOT_WIN', 'ROUND_CLOSE'])
       AND (%(provider)s::text IS NULL OR provider = %(provider)s)
       AND (%(player)s::text IS NULL OR player_id = %(player)s)
)
SELECT bet.event_id::text, bet.brand, bet.provider, bet.provider_version, bet.region, bet.operation, bet.provider_tx_id,
       bet.player_id, bet.round_id, bet.game_id, bet.currency, staked.amount_minor, bet.occurred_at_ms, bet.part,
       bet.source_offset
  FROM bet
 CROSS JOIN LATERAL (
        SELECT coalesce(sum(t.amount_minor), 0)::bigint AS amount_minor
          FROM transfer t
         WHERE t.player_id = bet.player_id AND t.currency = bet.currency
           AND t.version BETWEEN bet.version - bet.transfers + 1 AND bet.version
           AND t.event_id = bet.event_id AND t.decision = bet.decision AND t.credit NOT LIKE 'player:%%'
       ) AS staked
 WHERE NOT EXISTS (SELECT FROM closing c WHERE c.event_id = bet.event_id AND c.player_id IN (bet.player_id, ''))
   AND NOT EXISTS (SELECT FROM ended WHERE ended.reference_event_id = bet.event_id)
   -- A win that names another bet of the round does not end this one; a win without a bet, or the round's end, does.
   AND NOT EXISTS (
        SELECT FROM ended
         WHERE ended.brand = bet.brand AND ended.provider = bet.provider AND ended.player_id = bet.player_id
           AND ended.round_id = bet.round_id AND (ended.round_closed OR ended.reference_event_id IS NULL))
 ORDER BY bet.occurred_at_ms, bet.part, bet.source_offset
