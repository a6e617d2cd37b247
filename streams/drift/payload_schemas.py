"""Payload schemas of providers: the files `schemas/providers/<provider>/<event>/v<N>.*`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl

from lxml import etree

from schemas.errors import Rejected
from streams.drift.avro_shapes import AvroShapes
from streams.drift.json_shapes import JsonShapes
from streams.drift.shapes import DriftKind, Shape
from streams.drift.xml_shapes import XmlShapes
from streams.providers.dialect import Headers
from streams.providers.text_fields import FORM_FIELDS_MAX
from streams.providers.xml_body import make_parser, root_of

Check: TypeAlias = Callable[["Body"], list[Shape]]

_FILE: Final = re.compile(r"v([1-9]\d*)(\.schema\.json|\.xsd|\.avsc)", re.ASCII)
_FORM: Final = b"application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Body:
    """Raw value, its headers, and its payload by its dialect (`Dialect.payload`)."""

    value: bytes
    headers: Headers
    payload: Any


@dataclass(frozen=True)
class PayloadSchema:
    """One version of one message's schema; `name` is its file without ending: `hub88/bet/v1`."""

    event: str
    name: str
    check: Check


@cache
def load_payload_schemas(provider: str) -> Mapping[str, Sequence[PayloadSchema]]:
    """Return a provider's schemas by event, the newest version first; empty without a folder."""
    found: dict[str, list[tuple[int, PayloadSchema]]] = {}
    folder = files("schemas") / "providers" / provider
    if not folder.is_dir():
        return MappingProxyType({})
    for event in sorted(folder.iterdir(), key=lambda entry: entry.name):
        for file in event.iterdir() if event.is_dir() else ():
            match = _FILE.fullmatch(file.name)
            if match is not None:
                name = f"{provider}/{event.name}/v{match[1]}"
                schema = PayloadSchema(event.name, name, _check(file, match[2]))
                found.setdefault(event.name, []).append((int(match[1]), schema))
    return MappingProxyType(
        {
            event: tuple(one for _, one in sorted(versions, key=lambda pair: -pair[0]))
            for event, versions in found.items()
        }
    )


def _check(file: Traversable, ending: str) -> Check:
    text = file.read_bytes()
    if ending == ".xsd":
        return _xml_check(XmlShapes(text))
    if ending == ".avsc":
        avro = AvroShapes(json.loads(text))
        return lambda body: avro.compare(
            body.value, body.payload if isinstance(body.payload, bytes) else body.value
        )
    return _json_check(JsonShapes(json.loads(text)))


def _json_check(shapes: JsonShapes) -> Check:
    def check(body: Body) -> list[Shape]:
        payload = body.payload
        if isinstance(payload, bytes):
            is_form = (body.headers.get("content-type") or b"").partition(b";")[
                0
            ].strip().lower() == _FORM
            try:
                payload = _form(payload) if is_form else json.loads(payload)
            except (ValueError, RecursionError):
                return [Shape(DriftKind.UNREADABLE, "$", f"no {'form' if is_form else 'JSON'}")]
        try:
            return shapes.compare(payload)
        except RecursionError:
            return [Shape(DriftKind.UNREADABLE, "$", "nested too deeply")]

    return check


def _form(value: bytes) -> dict[str, str]:
    text = value.decode()
    if "=" not in text:
        raise ValueError(text[:0])
    return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=FORM_FIELDS_MAX))


def _xml_check(shapes: XmlShapes) -> Check:
    def check(body: Body) -> list[Shape]:
        value = body.payload if isinstance(body.payload, bytes) else body.value
        try:
            root: etree._Element = root_of(make_parser(), value)
        except Rejected as error:
            return [Shape(DriftKind.UNREADABLE, "/", f"no XML: {error.reason.value}")]
        return shapes.compare(root)

    return check
