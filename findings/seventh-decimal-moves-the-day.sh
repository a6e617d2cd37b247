#!/usr/bin/env bash
# Behaviour: of a time with more than six decimals of a second, msgspec rounds, while the standard
#   library and xsdata truncate. The last half microsecond of a year is the next year's first moment
#   to msgspec, as text and within JSON alike.
# Surprise: formats print nanoseconds (Go and Java do by default), and reading them raises nowhere.
#   A bet at 23:59:59.9999996 belongs to January where a body was decoded into a struct, and to
#   December where a header or an XML element was read: sums by day, month or tax year differ
#   between two readers of one record.
# Versions: msgspec 0.22.0, xsdata 26.10.
# Source: RFC 3339 allows any number of decimals and has no rule for keeping fewer; Python's
#   documentation of `datetime.fromisoformat` says that excess digits are truncated.
# Right: either, but one in a system. Cut the digits where text becomes a time, before it goes to a
#   library.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
install msgspec==0.22.0 xsdata==26.10

observe <<'PY'
import json
from datetime import datetime

import msgspec
from xsdata.models.datatype import XmlDateTime


class Bet(msgspec.Struct):
    at: datetime


for at in ("2026-12-31T23:59:59.9999994Z", "2026-12-31T23:59:59.9999996Z"):
    print("text   ", at)
    print("stdlib ", datetime.fromisoformat(at).isoformat())
    print("xsdata ", XmlDateTime.from_string(at).to_datetime().isoformat())
    print("msgspec", msgspec.json.decode(json.dumps({"at": at}), type=Bet).at.isoformat())
PY
expect <<'TEXT'
text    2026-12-31T23:59:59.9999994Z
stdlib  2026-12-31T23:59:59.999999+00:00
xsdata  2026-12-31T23:59:59.999999+00:00
msgspec 2026-12-31T23:59:59.999999+00:00
text    2026-12-31T23:59:59.9999996Z
stdlib  2026-12-31T23:59:59.999999+00:00
xsdata  2026-12-31T23:59:59.999999+00:00
msgspec 2027-01-01T00:00:00+00:00
TEXT
