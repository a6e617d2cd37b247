#!/usr/bin/env bash
# Behaviour: Polars takes the type of a column of rows from the first hundred. Where these hold whole
#   amounts, a later Decimal 0.45 becomes 0 and 19.99 becomes 20, and behind integers the float 0.45
#   and the text "0.45" are 0 too, without an error. With columns in place of rows it looks at every value.
# Surprise: another text or a date behind a hundred numbers is an error that names `infer_schema_length`, so
#   one relies on it. Rows of a query or of a Kafka consumer are dictionaries; deposits are whole
#   amounts for much longer than a hundred rows, and the first bet with cents comes later.
# Versions: polars 2.1.0.
# Source: Polars' reference, `DataFrame` and `from_dicts`: `infer_schema_length` is the number of
#   rows that are looked at for the schema; pull request 24542 (decimals of a fixed scale: a
#   conversion to a Decimal rounds, ties to even). Neither says that a value which contradicts the
#   schema is changed.
# Right: an error, as for texts, or the larger scale. Until then name the type
#   (`schema_overrides={"amount": polars.Decimal(38, 18)}`) or pass `infer_schema_length=None`.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
install polars==2.1.0

observe <<'PY'
from decimal import Decimal

import polars

WHOLE = [Decimal(n) for n in range(1, 101)]
LATER = [Decimal("0.45"), Decimal("19.99"), Decimal("-0.50"), Decimal("2.50")]
ROWS = [{"amount": amount} for amount in WHOLE + LATER]


def show(what, frame):
    print(f"{what:36}", frame.schema["amount"], *frame["amount"].tail(4), "sum", frame["amount"].sum())


print("exact sum", sum(WHOLE + LATER))
show("rows", polars.DataFrame(ROWS))
show("tuples", polars.DataFrame([(row["amount"],) for row in ROWS], schema=["amount"], orient="row"))
show("from_dicts", polars.from_dicts(ROWS))
show("one column", polars.DataFrame({"amount": WHOLE + LATER}))
show("rows, infer_schema_length=None", polars.DataFrame(ROWS, infer_schema_length=None))
exact = {"amount": polars.Decimal(38, 18)}
print("rows, the type named: sum", polars.DataFrame(ROWS, schema_overrides=exact)["amount"].sum())
whole = [{"amount": n} for n in range(100)]
for later in (0.45, "0.45"):
    frame = polars.DataFrame([*whole, {"amount": later}])
    print(f"{later!r} behind integers:", frame.schema["amount"], frame["amount"][-1])
try:
    polars.DataFrame([*whole, {"amount": "none"}])
except polars.exceptions.ComputeError as error:
    print("'none' behind integers:", type(error).__name__)
PY
expect <<'TEXT'
exact sum 5072.44
rows                                 Decimal(precision=38, scale=0) 0 20 0 2 sum 5072
tuples                               Decimal(precision=38, scale=0) 0 20 0 2 sum 5072
from_dicts                           Decimal(precision=38, scale=0) 0 20 0 2 sum 5072
one column                           Decimal(precision=38, scale=2) 0.45 19.99 -0.50 2.50 sum 5072.44
rows, infer_schema_length=None       Decimal(precision=38, scale=2) 0.45 19.99 -0.50 2.50 sum 5072.44
rows, the type named: sum 5072.440000000000000000
0.45 behind integers: Int64 0
'0.45' behind integers: Int64 0
'none' behind integers: ComputeError
TEXT
