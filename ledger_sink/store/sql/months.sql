-- Months of transfers: list them, make more, take one out and put it back.

-- name: list
SELECT child.relname::text, pg_total_relation_size(child.oid), greatest(child.reltuples, 0)::bigint
  FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid
 WHERE inhparent = 'transfer'::regclass
 ORDER BY child.relname

-- name: away
SELECT month FROM month_away ORDER BY month

-- name: ahead
-- This month and so many that follow, by the database's clock, which no decision depends on.
SELECT (extract(year FROM month) * 100 + extract(month FROM month))::integer
  FROM generate_series(date_trunc('month', now()), date_trunc('month', now()) + %(ahead)s * interval '1 month',
                       interval '1 month') AS month

-- name: make
SELECT make_transfer_month(%(month)s)

-- name: detach
ALTER TABLE transfer DETACH PARTITION {partition}

-- name: put_away
ALTER TABLE {partition} SET SCHEMA away

-- name: note_away
INSERT INTO month_away (month) VALUES (%(month)s)

-- name: write_nothing
-- Readers continue until the month is attached; a worker that books waits, so that no row is added after `gather`.
LOCK TABLE transfer IN SHARE ROW EXCLUSIVE MODE

-- name: take_back
ALTER TABLE away.{partition} SET SCHEMA public

-- name: gather
-- Rows that were added for the month while it was away.
WITH late AS (DELETE FROM transfer_other WHERE month = %(month)s RETURNING *)
INSERT INTO {partition} SELECT * FROM late

-- name: attach
ALTER TABLE transfer ATTACH PARTITION {partition} FOR VALUES FROM ({first}) TO ({after})

-- name: forget_away
DELETE FROM month_away WHERE month = %(month)s
