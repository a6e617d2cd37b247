"""JSON and XML of one content, in the writer's usual form or in that of another serialiser.

A retry often comes from another node or release of the provider: fields have another order, white
space differs, empty elements open and close. A reader that compares bytes, or hashes them for
identity, is caught by these.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from html import escape
from random import Random
from typing import Any, Final

import orjson

_INDENTS: Final = (None, 1, 2, 4, "\t")
_SEPARATORS: Final = ((",", ":"), (", ", ": "), (",", " : "))


def json_body(fields: Mapping[str, Any], style: Random | None) -> bytes:
    """Encode the object as JSON: compact and in the given order, or restyled by `style`."""
    if style is None:
        return orjson.dumps(fields)
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
