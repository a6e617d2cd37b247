"""Broken bytes: flipped, cut, spliced, nested, re-encoded.

Numbers become too large and headers false.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from typing import Final

from msgspec.structs import replace

from lab.conformance.examples.fill import Example

_NUMBER: Final = re.compile(rb"-?\d+(?:\.\d+)?")
_TEXT: Final = re.compile(rb'"[^"\\<>]{1,40}"|>[^<>]{1,40}<|=[^&=]{1,40}(?=&|$)')
_NUMBERS: Final = (
    b"-1",
    b"-0",
    b"0",
    b"00",
    b"9223372036854775807",
    b"9223372036854775808",
    b"18446744073709551616",
    b"1" + b"0" * 40,
    b"9" * 400,
    b"1e3",
    b"1E+2",
    b"1e400",
    b"1e-400",
    b"-1.5",
    b"0.1",
    b"0.000000001",
    b"1." + b"0" * 23,
    b"1.005",
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"0x10",
    b"1_000",
    b"1,50",
    b"+5",
    b" 5 ",
    b".5",
    b"5.",
    b"\xd9\xa3",
    b"null",
    b"true",
    b'"7"',
    b"",
)
_TEXTS: Final = (
    b"",
    b" ",
    b"\x00",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"null",
    b"[]",
    b"{}",
    b"a" * 129,
    b"a" * 5_000,
    b"\\u0000",
    b"\\ud800",
    b"&#0;",
    b"&x;",
    b"%00",
    b"%ff",
    b"%",
    b"<b/>",
    b"]]>",
    b"\xe2\x80\xae",
    b"EUR",
    b"eur",
    b"XQQ",
    b"KVND",
    b"2026-02-30T10:00:00Z",
    b"2026-11-20T14:03:20",
    b"1790000000",
    b"99999999999999999",
    b"true",
)
_NESTS: Final = (
    b"[" * 5_000,
    b'{"a":' * 2_000,
    b"<a>" * 2_000,
    b"[" * 600 + b"]" * 600,
    b"<a>" * 300 + b"</a>" * 300,
)
_DOCTYPES: Final = (
    b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>',
    b'<!DOCTYPE a [<!ENTITY x "yyyyyyyyyy"><!ENTITY z "&x;&x;&x;&x;&x;&x;&x;&x;">]>',
    b'<?xml version="1.0" encoding="UTF-7"?>',
    b'<?xml version="1.1"?>',
    b"\xef\xbb\xbf",
)
_BODIES: Final = (b"", b" ", b"\x00", b"null", b"[]", b"{}", b'""', b"0", b"<a/>", b"=", b"&&&")
_ENCODINGS: Final = ("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7")
_OURS: Final = (
    "brand",
    "region",
    "cancel",
    "redrive-of",
    "redrive-count",
    "drop-of",
    "parked-behind",
)
_HEADER_VALUES: Final = (
    b"",
    b"\xff\xfe",
    b"x",
    b"-1",
    b"0",
    b"9" * 30,
    b"a" * 5_000,
    b"application/json",
    b"/",
)


def mutate(example: Example, other: Example, rng: Random) -> Example:
    """Break the example in one to three places; `other` is what may be spliced into it."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if rng.random() < 0.12:
            example = _header(example, rng)
        else:
            change = rng.choice(_CHANGES)
            example = replace(example, value=change(example.value, other.value, rng))
    return example


def _header(example: Example, rng: Random) -> Example:
    headers = dict(example.headers)
    name = rng.choice((*headers, *_OURS))
    if name in headers and rng.random() < 0.4:
        del headers[name]
    elif name in headers and rng.random() < 0.5:
        headers[name] = _flip(headers[name], b"", rng)
    else:
        headers[name] = rng.choice(_HEADER_VALUES)
    return replace(example, headers=headers)


def _flip(value: bytes, _: bytes, rng: Random) -> bytes:
    if not value:
        return value
    changed = bytearray(value)
    for _bit in range(rng.choice((1, 1, 4))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(value: bytes, _: bytes, rng: Random) -> bytes:
    start, end = sorted((rng.randint(0, len(value)), rng.randint(0, len(value))))
    return rng.choice((value[:start], value[start:], value[:start] + value[end:]))


def _repeat(value: bytes, _: bytes, rng: Random) -> bytes:
    start, end = sorted((rng.randint(0, len(value)), rng.randint(0, len(value))))
    return value[:end] + value[start:end] * rng.choice((1, 2, 50)) + value[end:]


def _splice(value: bytes, other: bytes, rng: Random) -> bytes:
    start = rng.randint(0, len(other))
    piece = other[start : start + rng.randint(1, 200)]
    at = rng.randint(0, len(value))
    return value[:at] + piece + value[at + rng.choice((0, len(piece))) :]


def _insert(value: bytes, _: bytes, rng: Random) -> bytes:
    at = rng.randint(0, len(value))
    return value[:at] + rng.choice((rng.randbytes(rng.randint(1, 12)), *_NESTS)) + value[at:]


def _number(value: bytes, _: bytes, rng: Random) -> bytes:
    return _substituted(value, _NUMBER, rng.choice(_NUMBERS), rng, edge=0)


def _text(value: bytes, _: bytes, rng: Random) -> bytes:
    return _substituted(value, _TEXT, rng.choice(_TEXTS), rng, edge=1)


def _substituted(
    value: bytes, pattern: re.Pattern[bytes], text: bytes, rng: Random, edge: int
) -> bytes:
    found = list(pattern.finditer(value))
    if not found:
        return text
    match = rng.choice(found)
    # A text's own quotes stay, where there are any on that side.
    end = (
        match.end() - edge if value[match.end() - 1 : match.end()] in {b'"', b"<"} else match.end()
    )
    return value[: match.start() + edge] + text + value[end:]


def _encode(value: bytes, _: bytes, rng: Random) -> bytes:
    return value.decode("utf-8", "replace").encode(rng.choice(_ENCODINGS))


def _prefix(value: bytes, _: bytes, rng: Random) -> bytes:
    return rng.choice(_DOCTYPES) + value


def _empty(_: bytes, __: bytes, rng: Random) -> bytes:
    return rng.choice((*_BODIES, rng.randbytes(40)))


_CHANGES: Final[tuple[Callable[[bytes, bytes, Random], bytes], ...]] = (
    _flip,
    _flip,
    _cut,
    _repeat,
    _splice,
    _insert,
    _number,
    _number,
    _number,
    _text,
    _text,
    _text,
    _encode,
    _prefix,
    _empty,
)
