-- Queries of operators: a player, proposals that wait for a second operator, debts. No event needs them.

-- name: wallets_of_player
SELECT currency, scale, cash_minor, bonus_minor, held_minor, version
  FROM wallet
 WHERE player_id = %(player)s
 ORDER BY currency

-- name: brand_of_player
SELECT brand FROM wallet WHERE player_id = %(player)s AND brand <> '' LIMIT 1

-- name: state_of_player
SELECT player_id, standings, limits, wagering, event_id::text
  FROM player_state
 WHERE player_id = %(player)s

-- name: current_player
-- Of one player, for answers in real time: one probe of either table's primary key, and nothing else.
SELECT w.currency, w.scale, w.cash_minor + w.bonus_minor, w.version, w.brand, s.standings, s.limits
  FROM (SELECT %(player)s::text AS player_id) AS named
  LEFT JOIN wallet w ON w.player_id = named.player_id
  LEFT JOIN player_state s ON s.player_id = named.player_id

-- name: written_position
-- Of the database's own log: all that was committed until now.
SELECT pg_current_wal_flush_lsn()::text

-- name: has_reached
-- Whether this copy of the database has all up to a position; a database that is not a copy has.
SELECT NOT pg_is_in_recovery() OR pg_last_wal_replay_lsn() >= %(position)s::text::pg_lsn

-- name: open_proposals
SELECT p.event_id::text, p.player_id, p.currency, p.amount_minor, p.actor, p.reason, p.brand, p.id, p.occurred_at_ms,
       p.act, p.item_id::text
  FROM proposal p
 WHERE NOT EXISTS (SELECT FROM closing c WHERE c.event_id = p.event_id AND c.player_id = p.player_id)
 ORDER BY p.occurred_at_ms, p.event_id

-- name: debts
-- A report over all wallets: no index is kept for it.
SELECT player_id, currency, scale, cash_minor, bonus_minor, held_minor, version
  FROM wallet
 WHERE cash_minor < 0 OR bonus_minor < 0
 ORDER BY least(cash_minor, bonus_minor), player_id, currency

-- name: outcomes_of_events
-- How the ledger decided some events, by outcome; the last decision of each counts.
SELECT outcome, count(*) FROM (
    SELECT DISTINCT ON (event_id) event_id, outcome FROM entry
     WHERE event_id = ANY(%(event_ids)s::uuid[]) ORDER BY event_id, decision DESC
) AS decided GROUP BY outcome ORDER BY outcome
