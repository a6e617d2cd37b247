-- Tables and rows of the ledger's bench, in addition to the ledger's own tables.

-- name: floor
-- The tables of the comparison: the same columns, unique and primary keys, nothing else.
CREATE SCHEMA bare;
CREATE TABLE bare.entry (LIKE entry, PRIMARY KEY (event_id, decision));
CREATE TABLE bare.transfer (LIKE transfer, UNIQUE (player_id, currency, version));

-- name: make_month
-- New and past rows are in one month: the past must not be in a partition of its own.
SELECT make_transfer_month(%(month)s)

-- name: fill_entries
-- A past: so many bets and wins of the players that have made their deposits.
INSERT INTO entry (event_id, decision, brand, provider, provider_version, region, operation, provider_tx_id, kind,
                   player_id, round_id, game_id, reference_event_id, fingerprint, attempt_topic, attempt_part,
                   attempt_offset, attempt_index, part, source_offset, occurred_at_ms, outcome, reason, currency,
                   available_minor, version, transfers)
SELECT gen_random_uuid(), 0, 'acme', 'hub88', '1', 'MT', CASE n / %(players)s %% 2 WHEN 0 THEN 'bet' ELSE 'win' END,
       gen_random_uuid()::text, CASE n / %(players)s %% 2 WHEN 0 THEN 'BET' ELSE 'WIN' END,
       'player-' || lpad((n %% %(players)s)::text, 7, '0'), gen_random_uuid()::text,
       'clt-game-' || lpad((n %% 400)::text, 3, '0'), NULL, md5(n::text), 'provider.hub88.raw.v1', n %% 8, n, 0,
       n %% 8, %(offset)s + n / 8, 1790000000000 + n / 10, 'POSTED', 'BOOKED', 'EUR', 99999900, n / %(players)s + 2, 1
  FROM generate_series(%(first)s, %(last)s) AS n

-- name: fill_transfers
INSERT INTO transfer (player_id, currency, version, debit, credit, amount_minor, cash_minor, bonus_minor, held_minor,
                      event_id, decision, part, source_offset, occurred_at_ms, month)
SELECT player, 'EUR', n / %(players)s + 2,
       CASE n / %(players)s %% 2 WHEN 0 THEN 'player:' || player || ':cash' ELSE 'provider:hub88' END,
       CASE n / %(players)s %% 2 WHEN 0 THEN 'provider:hub88' ELSE 'player:' || player || ':cash' END,
       100, 100000000 - 100 * (1 - n / %(players)s %% 2), 0, 0, gen_random_uuid(), 0, n %% 8, %(offset)s + n / 8,
       1790000000000 + n / 10, %(month)s
  FROM generate_series(%(first)s, %(last)s) AS n,
       lateral (SELECT 'player-' || lpad((n %% %(players)s)::text, 7, '0') AS player) AS named

-- name: fill_wallets
UPDATE wallet
   SET version = w.version, cash_minor = w.cash_minor
  FROM (SELECT DISTINCT ON (player_id) player_id, version, cash_minor FROM transfer
         ORDER BY player_id, version DESC) AS w
 WHERE wallet.player_id = w.player_id

-- name: fill_positions
UPDATE stream_position SET next_offset = %(offset)s + %(rows)s / 8 + 1, published_offset = 0

-- name: server
SELECT name, current_setting(name) FROM pg_settings
 WHERE name IN ('server_version', 'shared_buffers', 'max_wal_size', 'checkpoint_timeout', 'wal_compression',
                'synchronous_commit', 'fsync', 'full_page_writes', 'wal_level')
 ORDER BY name
