#!/usr/bin/env bash
# Behaviour: where two branches of a union can take a value, fastavro writes the first and avro the
#   last, though the other branch is exact. An id above 2**53 in a union of long and double loses
#   its last digit in one library or in the other, whichever order the schema has. fastavro writes a
#   datetime as a date where the date stands first: the time is gone.
# Surprise: no order of the branches is safe with both libraries, the record is valid, and reading
#   gives a plausible value. Small numbers in tests come back equal, since 5 == 5.0.
# Versions: fastavro 1.13.1, avro 1.12.2.
# Source: Avro specification, "Unions": a value is written as the index of its branch and the value;
#   how a writer chooses is left open. fastavro's documentation of `writer`, tuple notation for
#   unions; `write_union` in avro/io.py.
# Right: the branch whose type is the value's. Until then pass fastavro a tuple of branch name and
#   value, and keep numbers of two kinds, or dates and times, out of one union.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
install avro==1.12.2 fastavro==1.13.1

observe <<'PY'
import io
import json
from datetime import datetime, timezone

import avro.io
import avro.schema
import fastavro

DATE = {"type": "int", "logicalType": "date"}
TIME = {"type": "long", "logicalType": "timestamp-micros"}


def by_fastavro(union, value):
    schema, buffer = fastavro.parse_schema(union), io.BytesIO()
    fastavro.schemaless_writer(buffer, schema, value)
    return fastavro.schemaless_reader(io.BytesIO(buffer.getvalue()), schema)


def by_avro(union, value):
    schema, buffer = avro.schema.parse(json.dumps(union)), io.BytesIO()
    avro.io.DatumWriter(schema).write(value, avro.io.BinaryEncoder(buffer))
    return avro.io.DatumReader(schema).read(avro.io.BinaryDecoder(io.BytesIO(buffer.getvalue())))


ROUND = 2**53 + 1
for union in (["double", "long"], ["long", "double"]):
    for library in (by_fastavro, by_avro):
        print(ROUND, union, library.__name__, repr(library(union, ROUND)))
at = datetime(2026, 11, 29, 23, 59, tzinfo=timezone.utc)
print(at, "date first", by_fastavro.__name__, by_fastavro([DATE, TIME], at))
print(at, "time first", by_fastavro.__name__, by_fastavro([TIME, DATE], at))
PY
expect <<'TEXT'
9007199254740993 ['double', 'long'] by_fastavro 9007199254740992.0
9007199254740993 ['double', 'long'] by_avro 9007199254740993
9007199254740993 ['long', 'double'] by_fastavro 9007199254740993
9007199254740993 ['long', 'double'] by_avro 9007199254740992.0
2026-11-29 23:59:00+00:00 date first by_fastavro 2026-11-29
2026-11-29 23:59:00+00:00 time first by_fastavro 2026-11-29 23:59:00+00:00
TEXT
