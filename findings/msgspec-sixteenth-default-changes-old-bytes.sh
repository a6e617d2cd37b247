#!/usr/bin/env bash
# Behaviour: a msgspec Struct with omit_defaults=True is written to MessagePack with a map header wide
#   enough for all its fields, not for those that are written. Once it has sixteen fields, a value of
#   one field has the three bytes of map 16 in place of the single byte of fixmap.
# Surprise: omit_defaults promises that a field which keeps its default is not written, so adding one
#   with a default should leave the bytes of all earlier values as they were. The sixteenth changes
#   every one of them: digests, signatures and keys made of these bytes are others. A dict of the same
#   content has other bytes than the Struct, and readers see the same content either way.
# Versions: msgspec 0.22.0.
# Source: MessagePack specification, "Serialization: type to format conversion": if an object can be
#   represented in several formats, serializers SHOULD use the one with the fewest bytes.
# Right: the header of the fields that are written. Until then make digests of
#   msgspec.msgpack.encode(msgspec.to_builtins(value)).
set -euo pipefail
source "$(dirname "$0")/lib.sh"
install msgspec==0.22.0

observe <<'PY'
import msgspec

for count in (15, 16):
    more = [(f"field_{number}", int, 0) for number in range(1, count)]
    kind = msgspec.defstruct("Kind", [("a", int), *more], omit_defaults=True)
    value = kind(7)
    plain = msgspec.to_builtins(value)
    print(count, "fields:", msgspec.msgpack.encode(value).hex(" "))
    print("   as a dict:", msgspec.msgpack.encode(plain).hex(" "), plain)
PY
expect <<'TEXT'
15 fields: 81 a1 61 07
   as a dict: 81 a1 61 07 {'a': 7}
16 fields: de 00 01 a1 61 07
   as a dict: 81 a1 61 07 {'a': 7}
TEXT
