"""JSON, XML and forms of one content, in a provider's usual form or in that of another serialiser.

A retry often comes from another node or release of the provider: fields have another order, white
space differs, empty elements open and close. A reader that compares bytes, or hashes them for
identity, is caught by these.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from html import escape
from random import Random
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from lab.conformance.intents import scale_of
from schemas.money import format_minor

_INDENTS: Final = (None, 1, 2, 4, "\t")
_SEPARATORS: Final = ((",", ":"), (", ", ": "), (",", " : "))


def json_body(fields: Mapping[str, Any], style: Random | None) -> bytes:
    """Encode the object as JSON: compact and in the given order, or restyled by `style`."""
    if style is None:
        try:
            return orjson.dumps(fields)
        except TypeError:  # an integer beyond 64 bits, which JSON may hold
            return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    text = json.dumps(
        _shuffle(fields, style),
        indent=style.choice(_INDENTS),
        separators=style.choice(_SEPARATORS),
        ensure_ascii=style.random() < 0.5,
    )
    # A slash may be escaped or not (RFC 8259 section 7); PHP serialisers do it by default.
    return (text.replace("/", "\\/") + style.choice(("", "\n", "\r\n"))).encode()


def _shuffle(value: Any, style: Random) -> Any:
    if isinstance(value, Mapping):
        names = list(value)
        style.shuffle(names)
        return {name: _shuffle(value[name], style) for name in names}
    if isinstance(value, list):
        return [_shuffle(item, style) for item in value]
    return value


def xml_body(root: str, elements: Iterable[tuple[str, str]], style: Random | None) -> bytes:
    """Encode a flat XML document.

    It has no prolog, and an empty text is `<name/>`; `style` restyles it.
    """
    if style is None:
        inner = "".join([_element(name, text, "/>") for name, text in elements])
        return f"<{root}>{inner}</{root}>".encode()
    prolog = style.choice(("", '<?xml version="1.0" encoding="UTF-8"?>\n'))
    gap = style.choice(("", "\n", "\n  ", "\r\n\t"))
    empty_end = style.choice((" />", ""))
    inner = "".join([gap + _element(name, text, empty_end) for name, text in elements])
    return f"{prolog}<{root}>{inner}{gap and chr(10)}</{root}>\n".encode()


def _element(name: str, text: str, empty_end: str) -> str:
    if not text and empty_end:
        return f"<{name}{empty_end}"
    return f"<{name}>{escape(text, quote=False)}</{name}>"


def form_body(fields: Mapping[str, str], style: Random | None) -> bytes:
    """Encode a form (application/x-www-form-urlencoded); `style` gives it another order."""
    names = list(fields)
    if style is not None:
        style.shuffle(names)
    return urlencode({name: fields[name] for name in names}).encode()


def _power(decimals: int) -> int:
    return int(10**decimals)


def units_of(minor: int, currency: str, decimals: int) -> int:
    """Return minor units of a currency as units of 10**-decimals.

    Raises ValueError where that is not a whole number.
    """
    units, rest = divmod(minor * _power(decimals), _power(scale_of(currency)))
    if rest:
        message = f"{minor} minor units of {currency} have more than {decimals} decimals"
        raise ValueError(message)
    return units


def amount_text(
    minor: int, currency: str, decimals_min: int = 0, style: Random | None = None
) -> str:
    """Format an amount in major units, with at least `decimals_min` decimals.

    A style may add further zeros, which change nothing.
    """
    scale = scale_of(currency)
    zeros = max(0, decimals_min - scale) + (0 if style is None else style.choice((0, 0, 1, 2)))
    return format_minor(minor * 10**zeros, scale + zeros)


def rfc3339(at_ms: int) -> str:
    """Format epoch milliseconds as `2026-11-22T10:15:30.123Z`."""
    seconds, millis = divmod(at_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%dT%H:%M:%S}.{millis:03d}Z"
