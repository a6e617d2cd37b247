#!/usr/bin/env bash
# Behaviour: cast to two decimals, 0.125 is 0.13 in DuckDB (ties away from zero) and 0.12 in Polars
#   (ties to even); pyarrow refuses, and with `safe=False` it cuts digits off, so that 0.129 is 0.12.
#   All three hand the same Arrow column to each other without a copy.
# Surprise: a report is moved from DuckDB to Polars, or its last step is done by pyarrow to write a
#   file of two decimals, and the total differs by up to a cent a row: 130.00 or 120.00 for a
#   thousand times 0.125. pyarrow's own `round` ties to even, so cast and round differ inside it.
# Versions: duckdb 2.0.1, polars 2.1.0, pyarrow 26.0.1.
# Source: Polars' pull request 24542 (ties to even); Arrow's reference, `CastOptions.
#   allow_decimal_truncate`, and `pyarrow.compute.round` (`half_to_even` by default); DuckDB's manual
#   names `round_even` for the other way and says nothing of casts.
# Right: round once, where the rule of the currency or the tax office is known, and name the mode:
#   DuckDB `round_even(x, 2)`, Polars `round(2, mode="half_away_from_zero")`, pyarrow
#   `round(x, 2, round_mode=...)`; cast afterwards, when no digit is lost.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
install duckdb==2.0.1 polars==2.1.0 pyarrow==26.0.1

observe <<'PY'
from decimal import Decimal

import duckdb
import polars
import pyarrow
import pyarrow.compute

VALUES = ["0.125", "0.129", "0.135", "-0.125", "-0.135"]
table = pyarrow.table({"x": pyarrow.array(map(Decimal, VALUES), pyarrow.decimal128(18, 3))})
frame = polars.from_arrow(table)
halves = pyarrow.table({"x": pyarrow.array([Decimal("0.125")] * 1000, pyarrow.decimal128(18, 3))})

TWO = pyarrow.decimal128(18, 2)
WAYS = {
    "duckdb, cast": lambda t: duckdb.sql("SELECT x::DECIMAL(18, 2) AS x FROM t").to_arrow_table()["x"],
    "duckdb, round_even": lambda t: duckdb.sql("SELECT round_even(x, 2) AS x FROM t").to_arrow_table()["x"],
    "polars, cast": lambda t: polars.from_arrow(t)["x"].cast(polars.Decimal(18, 2)).to_arrow(),
    "polars, half away from zero": lambda t: polars.from_arrow(t)["x"]
    .round(2, mode="half_away_from_zero").cast(polars.Decimal(18, 2)).to_arrow(),
    "pyarrow, cast, safe=False": lambda t: t["x"].cast(TWO, safe=False),
    "pyarrow, round, cast": lambda t: pyarrow.compute.round(t["x"], 2).cast(TWO),
}
print(f"{'':28}", *(f"{value:>6}" for value in VALUES), "1,000 times 0.125")
for name, way in WAYS.items():
    rounded = [f"{value:>6}" for value in way(table).to_pylist()]
    print(f"{name:28}", *rounded, sum(way(halves).to_pylist()))
PY
expect <<'TEXT'
                              0.125  0.129  0.135 -0.125 -0.135 1,000 times 0.125
duckdb, cast                   0.13   0.13   0.14  -0.13  -0.14 130.00
duckdb, round_even             0.12   0.13   0.14  -0.12  -0.14 120.00
polars, cast                   0.12   0.13   0.14  -0.12  -0.14 120.00
polars, half away from zero    0.13   0.13   0.14  -0.13  -0.14 130.00
pyarrow, cast, safe=False      0.12   0.12   0.13  -0.12  -0.13 120.00
pyarrow, round, cast           0.12   0.13   0.14  -0.12  -0.14 120.00
TEXT
