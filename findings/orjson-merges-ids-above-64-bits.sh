#!/usr/bin/env bash
# Behaviour: orjson reads an integer of more than 64 bits as a float, without an error, and two
#   different ids become equal. It refuses to write the integer that it refused to read as one.
#   msgspec and the standard library keep it.
# Surprise: providers print transaction ids and amounts in the smallest unit of a coin as bare
#   numbers. Ids up to 18,446,744,073,709,551,615 work; from the next one on, two bets share an
#   identity and the second is a duplicate.
# Versions: orjson 3.13.0, msgspec 0.22.0.
# Source: RFC 8259, section 6 (a reader may limit the range of numbers; loss is not announced);
#   orjson issues 308 and 517.
# Right: an int, or an error as for numbers that are too large for a float. Until then read ids with
#   msgspec into int.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
install orjson==3.13.0 msgspec==0.22.0

observe <<'PY'
import json

import msgspec
import orjson

first, second = b'{"id": 18446744073709551616}', b'{"id": 18446744073709551617}'
for name, read in (("json", json.loads), ("msgspec", msgspec.json.decode), ("orjson", orjson.loads)):
    print(f"{name:8}{read(second)['id']!r:22} equal to the id before it: {read(first) == read(second)}")
try:
    orjson.dumps(2**64)
except TypeError as error:
    print("orjson writing 2**64:", error)
PY
expect <<'TEXT'
json    18446744073709551617   equal to the id before it: False
msgspec 18446744073709551617   equal to the id before it: False
orjson  1.8446744073709552e+19 equal to the id before it: True
orjson writing 2**64: Integer exceeds 64-bit range
TEXT
