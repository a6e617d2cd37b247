#!/usr/bin/env bash
# Behaviour: a field that the writer lacked is filled from the reader schema's default, and for a
#   logical type both Python libraries give the raw default: a decimal is text (fastavro) or bytes
#   (avro), a timestamp is the number 0. fastavro cannot write a record that leaves out such a field
#   either: it raises TypeError.
# Surprise: adding a decimal with a default is the textbook compatible change. New records give a
#   Decimal, old ones of the same topic text, so the fault appears in a replay and not in a test
#   with new data. A comparison `fee > 0` raises there; a comparison with == is quietly false.
# Versions: fastavro 1.13.1, avro 1.12.2.
# Source: Avro specification, "Schema Resolution" (the default stands for the field's value) and
#   "Complex Types" (bytes defaults are text, one code point a byte); fastavro issue 814; the same
#   was repaired for Ruby in AVRO-3775.
# Right: Decimal("1.25") and 1970-01-01. Until then give such a field no default but null in a
#   union.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
install avro==1.12.2 fastavro==1.13.1

observe <<'PY'
import io
import json

import avro.io
import avro.schema
import fastavro

FEE = {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}
AT = {"type": "long", "logicalType": "timestamp-micros"}
ID = {"name": "id", "type": "long"}
old = {"type": "record", "name": "Bet", "fields": [ID]}
new = {
    "type": "record",
    "name": "Bet",
    "fields": [
        ID,
        {"name": "fee", "type": FEE, "default": "\u0000\u007d"},
        {"name": "at", "type": AT, "default": 0},
    ],
}
buffer = io.BytesIO()
fastavro.schemaless_writer(buffer, fastavro.parse_schema(old), {"id": 1})
read = fastavro.schemaless_reader(
    io.BytesIO(buffer.getvalue()), fastavro.parse_schema(old), fastavro.parse_schema(new)
)
print("fastavro", read)
schemas = (avro.schema.parse(json.dumps(schema)) for schema in (old, new))
read = avro.io.DatumReader(*schemas).read(avro.io.BinaryDecoder(io.BytesIO(buffer.getvalue())))
print("avro    ", read)
try:
    fastavro.schemaless_writer(io.BytesIO(), fastavro.parse_schema(new), {"id": 1})
except TypeError as error:
    print("fastavro writing without fee:", error)
PY
expect <<'TEXT'
fastavro {'id': 1, 'fee': '\x00}', 'at': 0}
avro     {'id': 1, 'fee': b'\x00}', 'at': 0}
fastavro writing without fee: a bytes-like object is required, not 'str' on field fee
TEXT
