"""The same content in other bytes, as another serialiser or the next release might write it.

Fields, attributes and form parameters have another order, white space and escapes differ, the
text is encoded otherwise. Numbers keep their digits. A signature over the bytes is not valid after
this. A body that is neither JSON nor XML nor a form is returned unchanged.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote, quote_plus

from lxml import etree

_INDENTS: Final = ("", "", "\n  ", "\n\t", "\r\n ")
_COLONS: Final = (":", ": ", " : ")


class JsonDigits(str):
    """A JSON number with the digits as written."""

    __slots__ = ()


def respell(value: bytes, content_type: str, rng: Random) -> bytes:
    """Return other bytes of the same content.

    Raises ValueError for a body that does not match its content type.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind.endswith("json"):
        return _json(value, rng)
    if kind.endswith("xml"):
        return _xml(value, rng)
    if kind == "application/x-www-form-urlencoded":
        return _form(value, rng)
    return value


class _Style(NamedTuple):
    rng: Random
    gap: str
    colon: str
    ascii_only: bool


def _json(value: bytes, rng: Random) -> bytes:
    body = json.loads(value, parse_int=JsonDigits, parse_float=JsonDigits)
    text = _json_text(
        body, _Style(rng, rng.choice(_INDENTS), rng.choice(_COLONS), rng.random() < 0.5)
    )
    # A slash may be escaped (RFC 8259 section 7); PHP serialisers do it unasked.
    escaped = text.replace("/", "\\/") if rng.random() < 0.5 else text
    return (escaped + rng.choice(("", "\n", "\r\n"))).encode()


def _json_text(value: Any, style: _Style) -> str:
    if isinstance(value, JsonDigits):
        return value
    gap = style.gap
    if isinstance(value, dict):
        names = list(value)
        style.rng.shuffle(names)
        fields = [
            gap
            + json.dumps(name, ensure_ascii=style.ascii_only)
            + style.colon
            + _json_text(value[name], style)
            for name in names
        ]
        return "{" + ",".join(fields) + gap + "}"
    if isinstance(value, list):
        return "[" + ",".join([gap + _json_text(item, style) for item in value]) + gap + "]"
    return json.dumps(value, ensure_ascii=style.ascii_only)


def _xml(value: bytes, rng: Random) -> bytes:
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    try:
        root = etree.fromstring(value, parser)
    except etree.XMLSyntaxError as error:
        message = f"not XML: {error}"
        raise ValueError(message) from error
    gap = rng.choice(_INDENTS)
    for element in root.iter(etree.Element):
        _shuffle_attributes(element, rng)
        if len(element) and not (element.text or "").strip():
            element.text = gap
            for child in element:
                child.tail = gap
    if all(len(child) == 0 for child in root) and len({child.tag for child in root}) == len(root):
        # A flat record: its elements are fields, and fields have no order.
        children = list(root)
        rng.shuffle(children)
        root[:] = children
    encoding = rng.choice(("UTF-8", "UTF-8", "UTF-16"))
    spelt = etree.tostring(
        root, encoding=encoding, xml_declaration=encoding != "UTF-8" or rng.random() < 0.5
    )
    assert isinstance(spelt, bytes)
    return spelt


def _shuffle_attributes(element: etree._Element, rng: Random) -> None:
    attributes = list(element.attrib.items())
    rng.shuffle(attributes)
    element.attrib.clear()
    element.attrib.update(attributes)


def _form(value: bytes, rng: Random) -> bytes:
    pairs = parse_qsl(value.decode(), keep_blank_values=True, strict_parsing=True)
    rng.shuffle(pairs)
    escape = rng.choice((quote_plus, quote, _every_byte))
    return "&".join([f"{quote_plus(name)}={escape(text)}" for name, text in pairs]).encode()


def _every_byte(text: str) -> str:
    """Percent-encode every byte; it stays the same text (RFC 3986 section 2.3)."""
    return "".join([f"%{byte:02x}" for byte in text.encode()])
