-- Read by operators. A report reads every transfer of its span once.

-- Bets, wins and bonus cost. The two accounts of a transfer show its class. What a rollback or cancel moves back is
-- subtracted from its class, in the game of the event that it names, and is billable as that event is. A contribution to
-- a jackpot is included in the bet; what the pool pays is not a win of the game. What its provider does not count
-- towards the revenue that it invoices is summed apart.
-- name: totals
WITH moved AS (
    SELECT t.currency, t.amount_minor, t.occurred_at_ms, t.event_id, t.decision,
           split_part(t.debit, ':', 1) AS giver, split_part(t.credit, ':', 1) AS taker,
           e.kind IN ('ROLLBACK', 'CANCEL') AS is_back,
           e.provider, e.brand, e.region,
           coalesce(e.game_id,
                    (SELECT target.game_id FROM entry target
                      WHERE target.event_id = e.reference_event_id ORDER BY target.decision DESC LIMIT 1)) AS game,
           CASE WHEN e.kind IN ('ROLLBACK', 'CANCEL')
                THEN coalesce((SELECT target.is_billable FROM entry target
                                WHERE target.event_id = e.reference_event_id ORDER BY target.decision DESC LIMIT 1),
                              e.is_billable)
                ELSE e.is_billable END AS is_billable
      FROM transfer t
      JOIN entry e ON e.event_id = t.event_id AND e.decision = t.decision
     WHERE t.occurred_at_ms >= %(from_ms)s AND t.occurred_at_ms < %(until_ms)s
), classed AS (
    SELECT *,
           CASE WHEN giver = 'player' AND taker IN ('provider', 'jackpot') AND NOT is_back THEN amount_minor
                WHEN giver IN ('provider', 'jackpot') AND taker = 'player' AND is_back THEN -amount_minor END AS bet,
           CASE WHEN giver = 'provider' AND taker = 'player' AND NOT is_back THEN amount_minor
                WHEN giver = 'player' AND taker = 'provider' AND is_back THEN -amount_minor END AS win,
           CASE WHEN taker = 'jackpot' AND (giver = 'provider' OR NOT is_back) THEN amount_minor
                WHEN giver = 'jackpot' AND (taker = 'provider' OR is_back) THEN -amount_minor END AS contribution,
           CASE WHEN giver = 'jackpot' AND taker = 'player' AND NOT is_back THEN amount_minor
                WHEN giver = 'player' AND taker = 'jackpot' AND is_back THEN -amount_minor END AS jackpot_win,
           CASE WHEN giver = 'promotions' THEN amount_minor
                WHEN taker = 'promotions' THEN -amount_minor END AS bonus_cost
      FROM moved
)
SELECT CASE WHEN 'provider' = ANY(%(by)s) THEN provider END AS of_provider,
       CASE WHEN 'game' = ANY(%(by)s) THEN game END AS of_game,
       CASE WHEN 'brand' = ANY(%(by)s) THEN brand END AS of_brand,
       CASE WHEN 'region' = ANY(%(by)s) THEN region END AS of_region,
       CASE WHEN 'day' = ANY(%(by)s)
            THEN to_char(to_timestamp(occurred_at_ms / 1000) AT TIME ZONE 'UTC', 'YYYY-MM-DD') END AS of_day,
       currency,
       sum(bet) FILTER (WHERE is_billable),
       sum(win) FILTER (WHERE is_billable),
       sum(contribution) FILTER (WHERE is_billable),
       sum(jackpot_win),
       sum(bonus_cost),
       count(*) FILTER (WHERE giver IN ('provider', 'jackpot', 'promotions')
                           OR taker IN ('provider', 'jackpot', 'promotions')),
       sum(bet) FILTER (WHERE NOT is_billable),
       sum(win) FILTER (WHERE NOT is_billable),
       sum(contribution) FILTER (WHERE NOT is_billable)
  FROM classed
 GROUP BY 1, 2, 3, 4, 5, 6
 ORDER BY 1, 2, 3, 4, 5, 6

-- The gains of the house's accounts in the same span, which the report's sums have to equal.
-- name: house
SELECT class, currency, sum(gained)
  FROM (SELECT split_part(credit, ':', 1) AS class, currency, amount_minor AS gained
          FROM transfer WHERE occurred_at_ms >= %(from_ms)s AND occurred_at_ms < %(until_ms)s
        UNION ALL
        SELECT split_part(debit, ':', 1), currency, -amount_minor
          FROM transfer WHERE occurred_at_ms >= %(from_ms)s AND occurred_at_ms < %(until_ms)s) AS flow
 WHERE class IN ('provider', 'jackpot', 'promotions')
 GROUP BY class, currency
