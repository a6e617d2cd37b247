#!/usr/bin/env bash
# Behaviour: DuckDB reads a list of Parquet files with the types of the first one. An amount of a
#   later file that has more decimals is rounded to the first file's, without an error or a warning,
#   so a sum depends on the order in which the files are named. `union_by_name` takes the larger
#   scale, unless both together need more than 38 digits: then it takes fewer decimals, and rounds.
# Surprise: a folder of daily files is read by a pattern. One day with a currency of eight decimals
#   behind days with two, and its amounts are no longer those that were written; the other way round
#   they are. Polars and pyarrow refuse the same list, in the order that would lose digits.
# Versions: duckdb 2.0.1, polars 2.1.0, pyarrow 26.0.1.
# Source: DuckDB's manual, "Combining Schemas": the schema of the first file is read, and columns of
#   the others are unified with it by position. It says nothing of digits. DuckDB's issue 8146 is
#   about the integer part, which is an error.
# Right: write every file with one precision and scale, as DECIMAL(38, 18) for all currencies; or
#   compare `parquet_schema` of all files before they are summed.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
install duckdb==2.0.1 polars==2.1.0 pyarrow==26.0.1

observe "$work" <<'PY'
import sys
from decimal import Decimal
from pathlib import Path

import duckdb
import polars
import pyarrow
import pyarrow.parquet as parquet

folder = Path(sys.argv[1])


def write(name, precision, scale, *amounts):
    column = pyarrow.array(map(Decimal, amounts), pyarrow.decimal128(precision, scale))
    parquet.write_table(pyarrow.table({"amount": column}), folder / name)


def try_to(read):
    try:
        return read()
    except (polars.exceptions.PolarsError, pyarrow.ArrowInvalid) as error:
        return type(error).__name__


write("euro", 18, 2, "10.10", "20.20")
write("bitcoin", 18, 8, "0.12345678", "0.00499999")
write("wide", 38, 2, "12345678901234567890.12")
for names in (("euro", "bitcoin"), ("bitcoin", "euro"), ("bitcoin", "wide")):
    files = [str(folder / name) for name in names]
    print("+".join(names))
    for options in ("", ", union_by_name = true"):
        if options or "wide" not in names:
            query = f"SELECT typeof(amount), sum(amount) FROM read_parquet({files}{options}) GROUP BY 1"
            print(f"  duckdb{options:22}", *duckdb.sql(query).fetchall()[0])
    print("  polars ", try_to(lambda: polars.scan_parquet(files).sum().collect().item()))
    print("  pyarrow", try_to(lambda: sum(parquet.read_table(files)["amount"].to_pylist())))
PY
expect <<'TEXT'
euro+bitcoin
  duckdb                       DECIMAL(18,2) 30.42
  duckdb, union_by_name = true DECIMAL(24,8) 30.42845677
  polars  SchemaError
  pyarrow ArrowInvalid
bitcoin+euro
  duckdb                       DECIMAL(18,8) 30.42845677
  duckdb, union_by_name = true DECIMAL(24,8) 30.42845677
  polars  SchemaError
  pyarrow 30.42845677
bitcoin+wide
  duckdb, union_by_name = true DECIMAL(38,2) 12345678901234567890.24
  polars  SchemaError
  pyarrow ArrowInvalid
TEXT
