-- What the bench of earlier balances asks of the ledger's database beside the ledger's own statements.

-- name: booked
SELECT coalesce(sum(next_offset), 0)::bigint FROM stream_position

-- name: analyze
-- As autovacuum does in a ledger that lives longer than a measurement.
ANALYZE wallet, transfer

-- name: transfers
SELECT count(*) FROM transfer
