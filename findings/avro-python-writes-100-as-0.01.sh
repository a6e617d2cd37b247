#!/usr/bin/env bash
# Behaviour: the Apache Avro library for Python writes the decimal 1E+2 into a field of scale 2 as
#   0.01, and -0.00 as -0.02, without an error. It takes the digits of the Decimal as they are and
#   ignores a positive exponent, and it takes the two's complement of zero in one bit.
# Surprise: `normalize()` and products give such exponents (100.00 normalised is 1E+2), so an amount
#   that is correct up to the writer is a ten-thousandth of it in the log, and every reader agrees
#   on the wrong one. A refund of nothing is a debit of two cents.
# Versions: avro 1.12.2; fastavro 1.13.1 writes both correctly.
# Source: Avro specification, logical type decimal: the unscaled integer in two's complement, times
#   ten to the power of minus the scale; `write_decimal_bytes` in avro/io.py. fastavro repaired its
#   -0.0 in its pull request 361.
# Right: shift the digits to the schema's scale first. Until then `value.quantize(Decimal("0.01")) +
#   0`.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
install avro==1.12.2 fastavro==1.13.1

observe <<'PY'
import io
import json
from decimal import Decimal

import avro.io
import avro.schema
import fastavro

SCHEMA = {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}
apache, fast = avro.schema.parse(json.dumps(SCHEMA)), fastavro.parse_schema(SCHEMA)
for value in (Decimal("100.00"), Decimal("100.00").normalize(), Decimal("-0.00")):
    buffer = io.BytesIO()
    avro.io.DatumWriter(apache).write(value, avro.io.BinaryEncoder(buffer))
    other = io.BytesIO()
    fastavro.schemaless_writer(other, fast, value)
    for name, written in (("avro", buffer), ("fastavro", other)):
        read = fastavro.schemaless_reader(io.BytesIO(written.getvalue()), fast)
        print(f"{value!s:>6} written by {name:8}: {written.getvalue().hex():8} read as {read}")
PY
expect <<'TEXT'
100.00 written by avro    : 042710   read as 100.00
100.00 written by fastavro: 042710   read as 100.00
  1E+2 written by avro    : 0201     read as 0.01
  1E+2 written by fastavro: 042710   read as 100.00
 -0.00 written by avro    : 02fe     read as -0.02
 -0.00 written by fastavro: 0200     read as 0.00
TEXT
