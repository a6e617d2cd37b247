-- Transfers by the month in which their event came to us, so that old months can be moved away and the indexes that
-- are written to stay small. Identities (`entry`) outlive them: they stay in one table with one key.

ALTER TABLE transfer RENAME TO transfer_unmonthed;
ALTER TABLE transfer_unmonthed ADD COLUMN month integer NOT NULL DEFAULT 0;
ALTER TABLE transfer_unmonthed RENAME CONSTRAINT transfer_player_id_currency_version_key
    TO transfer_unmonthed_wallet_version;
ALTER INDEX transfer_source RENAME TO transfer_unmonthed_source;

CREATE TABLE transfer (
    player_id      text,
    currency       text     NOT NULL,
    version        bigint,
    debit          text     NOT NULL,
    credit         text     NOT NULL,
    amount_minor   bigint   NOT NULL CONSTRAINT transfer_amount_minor_check CHECK (amount_minor > 0),
    cash_minor     bigint,
    bonus_minor    bigint,
    held_minor     bigint,
    event_id       uuid     NOT NULL,
    decision       smallint NOT NULL,
    part           integer  NOT NULL,
    source_offset  bigint   NOT NULL,
    occurred_at_ms bigint   NOT NULL,
    month          integer  NOT NULL DEFAULT 0,
    CONSTRAINT transfer_check CHECK (debit <> credit),
    CONSTRAINT transfer_check1
    CHECK (player_id IS NULL OR (version IS NOT NULL AND cash_minor IS NOT NULL AND bonus_minor IS NOT NULL
                                 AND held_minor IS NOT NULL))
) PARTITION BY RANGE (month);

-- What was there before months were counted.
ALTER TABLE transfer ATTACH PARTITION transfer_unmonthed FOR VALUES FROM (0) TO (1);

-- A wallet's versions are unique in each month; over all of them its row sees to it, which only moves forward.
CREATE TABLE transfer_other PARTITION OF transfer DEFAULT;
ALTER TABLE transfer_other ADD CONSTRAINT transfer_other_wallet_version UNIQUE (player_id, currency, version);

-- A stretch of the log is read by its offsets, from whatever month: each partition, also of those to come, has this.
CREATE INDEX transfer_source ON transfer USING brin (source_offset int8_minmax_multi_ops (values_per_range = 64))
    WITH (pages_per_range = 16, autosummarize = on);

-- Makes the partition of a month if there is none; true if it has. What waited for it elsewhere moves in.
-- As the owner of the tables, whoever asks, so that every partition has one owner.
CREATE FUNCTION make_transfer_month(wanted integer) RETURNS boolean LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    partition text := 'transfer_' || wanted;
    following integer := CASE wanted % 100 WHEN 12 THEN wanted + 89 ELSE wanted + 1 END;
BEGIN
    IF wanted NOT BETWEEN 197001 AND 999912 OR wanted % 100 NOT BETWEEN 1 AND 12 THEN
        RAISE EXCEPTION '% is no month: 202611 is one', wanted;
    END IF;
    IF to_regclass(partition) IS NOT NULL THEN
        RETURN false;
    END IF;
    LOCK TABLE transfer IN SHARE ROW EXCLUSIVE MODE;
    EXECUTE format('CREATE TABLE %I (LIKE transfer INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)', partition);
    EXECUTE format('WITH moved AS (DELETE FROM transfer_other WHERE month = $1 RETURNING *)'
                   ' INSERT INTO %I SELECT * FROM moved', partition) USING wanted;
    EXECUTE format('ALTER TABLE %I ADD CONSTRAINT %I UNIQUE (player_id, currency, version)', partition,
                   partition || '_wallet_version');
    EXECUTE format('ALTER TABLE %I SET (autovacuum_vacuum_insert_scale_factor = 0,'
                   ' autovacuum_vacuum_insert_threshold = 500000)', partition);
    EXECUTE format('ALTER TABLE transfer ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', partition, wanted, following);
    RETURN true;
END $$;
REVOKE ALL ON FUNCTION make_transfer_month(integer) FROM PUBLIC;

-- Months that were taken out of the ledger. Their tables are in the schema `away` until somebody removes them.
CREATE SCHEMA away;
CREATE TABLE month_away (
    month    integer     PRIMARY KEY,
    moved_at timestamptz NOT NULL DEFAULT now()
);

-- This month, the one before it, whose events may still be under way, and some to come. `pitboss ledger months` makes
-- more; an event of a month that has no partition goes to transfer_other, and moves when its partition is made.
SELECT make_transfer_month((extract(year FROM month) * 100 + extract(month FROM month))::integer)
  FROM generate_series(date_trunc('month', now() - interval '1 month'), now() + interval '3 months', interval '1 month')
       AS month;
