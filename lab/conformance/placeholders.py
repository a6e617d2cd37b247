"""Texts that stand for "no value" in optional places of a message, found in its payload schema.

A place is free text: the schema allows any word there, and the message says nothing in it. Systems
that must print a reference and have none print such a word, so it must mean the same as nothing.
A signature over the bytes is not valid after this. Binary bodies are returned unchanged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from random import Random
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlencode

from lxml import etree

from lab.conformance.respelling import JsonDigits
from streams.drift.payload_schemas import Body, PayloadSchema, load_payload_schemas
from streams.drift.shapes import Shape, schema_distance
from streams.drift.xsd_model import ElementDeclaration, XsdModel
from streams.providers.dialect import Dialect, Headers
from streams.providers.xml_body import make_parser, root_of

PLACEHOLDERS: Final = (
    *("NONREF", "NOTPROVIDED", "Not provided", "N/A", "n/a", "-", "--", "0", "000", "none"),
    *("NULL", "UNKNOWN", "XXX", "***"),
)
_PLACES_MAX: Final = 3
_ANY: Final = "some text"
"""Not a placeholder: a place that allows it is one of free text."""
_INDEX: Final = re.compile(r"\[\d+\]")
_allowed: dict[tuple[str, str, str], bool] = {}
"""Whether a schema allows a text in one of its places; asking it costs more than all else."""

_Insert = Callable[[str], bytes]


class _Schema(NamedTuple):
    """A payload schema as it is checked, and its file's content."""

    check: PayloadSchema
    content: Any


def add_placeholders(
    dialect: Dialect,
    operation: str,
    value: bytes,
    headers: Headers,
    rng: Random,
) -> tuple[bytes, tuple[str, ...]]:
    """Return the body with placeholders in up to three optional places, and what was put where."""
    found: list[str] = []
    for _ in range(_PLACES_MAX):
        schema = _choose_schema(dialect, operation, value, headers)
        places = [] if schema is None else list(_places(schema, value, headers))
        if schema is None or not places:
            break
        name, insert = rng.choice(places)
        text = rng.choice(PLACEHOLDERS)
        if all(
            _allows(dialect, schema, name, each, insert, value, headers) for each in (text, _ANY)
        ):
            value = insert(text)
            found.append(f"{name}={text}")
    return value, tuple(found)


def _choose_schema(
    dialect: Dialect, operation: str, value: bytes, headers: Headers
) -> _Schema | None:
    """Return the schema named as the operation, else the one that the body is closest to."""
    schemas = _schemas(dialect.provider)
    named = [schema for schema in schemas if schema.check.event == operation] or schemas
    if len(named) < 2:
        return named[0] if named else None
    return min(named, key=lambda one: schema_distance(_shapes_of(dialect, one, value, headers)))


def _allows(
    dialect: Dialect,
    schema: _Schema,
    name: str,
    text: str,
    insert: _Insert,
    value: bytes,
    headers: Headers,
) -> bool:
    """Return whether the schema allows a text in a place, whatever else the body says."""
    key = schema.check.name, _INDEX.sub("", name), text
    if key not in _allowed:
        known = set(_shapes_of(dialect, schema, value, headers))
        _allowed[key] = set(_shapes_of(dialect, schema, insert(text), headers)) <= known
    return _allowed[key]


def _shapes_of(
    dialect: Dialect, schema: _Schema, value: bytes, headers: Headers
) -> Sequence[Shape]:
    return schema.check.check(Body(value, headers, dialect.payload(value)))


@cache
def _schemas(provider: str) -> Sequence[_Schema]:
    """Return the provider's schemas of text; Avro's bodies hold no free place."""
    found = []
    for versions in load_payload_schemas(provider).values():
        for each in versions:
            content = _read(files("schemas") / "providers", each.name)
            if content is not None:
                found.append(_Schema(each, content))
    return tuple(found)


def _read(folder: Traversable, name: str) -> Any:
    for part in name.split("/")[:-1]:
        folder /= part
    version = name.rpartition("/")[2]
    declared, xsd = folder / f"{version}.schema.json", folder / f"{version}.xsd"
    if declared.is_file():
        return json.loads(declared.read_bytes())
    return XsdModel(etree.fromstring(xsd.read_bytes())) if xsd.is_file() else None


def _places(schema: _Schema, value: bytes, headers: Headers) -> Iterator[tuple[str, _Insert]]:
    if isinstance(schema.content, XsdModel):
        yield from _xml_places(schema.content, value)
        return
    content_type = (headers.get("content-type") or b"").partition(b";")[0].strip()
    if content_type == b"application/x-www-form-urlencoded":
        fields = dict(parse_qsl(value.decode(), keep_blank_values=True))
        for name, insert in _json_places(schema.content, fields):
            yield name, _to_form(insert)
    elif content_type.endswith(b"json"):
        body = json.loads(value, parse_int=JsonDigits, parse_float=JsonDigits)
        for name, insert in _json_places(schema.content, body):
            yield name, _to_json(insert)


def _to_form(insert: Callable[[str], Any]) -> _Insert:
    return lambda text: urlencode(insert(text)).encode()


def _to_json(insert: Callable[[str], Any]) -> _Insert:
    return lambda text: _print_json(insert(text)).encode()


def _print_json(value: Any) -> str:
    """Print JSON, numbers with the digits as they came."""
    if isinstance(value, JsonDigits):
        return str(value)
    if isinstance(value, dict):
        fields = (f"{json.dumps(name)}:{_print_json(each)}" for name, each in value.items())
        return "{" + ",".join(fields) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_print_json, value)) + "]"
    return json.dumps(value)


def _json_places(schema: Any, body: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the optional texts that an object lacks, each with a function that returns it whole."""
    if isinstance(body, list):
        for index, item in enumerate(body):
            for name, insert in _json_places(schema.get("items", {}), item, path):
                yield (
                    name,
                    lambda text, index=index, insert=insert: [
                        *body[:index],
                        insert(text),
                        *body[index + 1 :],
                    ],
                )
        return
    if not isinstance(body, dict):
        return
    for name, declared in schema.get("properties", {}).items():
        if body.get(name) in (None, "") and name not in schema.get("required", ()):
            if "string" in _types(declared):
                yield f"{path}/{name}", lambda text, name=name: body | {name: text}
            continue
        for inner, insert in _json_places(declared, body.get(name), f"{path}/{name}"):
            yield inner, lambda text, name=name, insert=insert: body | {name: insert(text)}


def _types(declared: Mapping[str, Any]) -> Sequence[str]:
    named = declared.get("type", ())
    return [named] if isinstance(named, str) else named


def _xml_places(model: XsdModel, value: bytes) -> Iterator[tuple[str, _Insert]]:
    root = root_of(make_parser(), value)
    declaration = model.root(etree.QName(root).localname)
    if declaration is None:
        return
    for element, declared in _declared_elements(model, root, declaration):
        at = root.getroottree().getpath(element)
        for name in declared.attributes:
            if not element.get(name) and not declared.attributes[name]:
                yield f"{at}/@{name}", _put_attribute(root, element, name)
        children = {etree.QName(child).localname: child for child in _elements(element)}
        for name, inner in declared.children.items():
            if name in declared.required or not model.node(inner).is_simple:
                continue
            if name not in children:
                yield f"{at}/{name}", _put_element(root, element, declared, name)
            elif not children[name].text:
                yield f"{at}/{name}", _put_text(root, children[name])


def _elements(parent: etree._Element) -> list[etree._Element]:
    return list(parent.iterchildren(etree.Element))


def _declared_elements(
    model: XsdModel, element: etree._Element, declared: ElementDeclaration
) -> Iterator[tuple[etree._Element, ElementDeclaration]]:
    yield element, declared
    for child in _elements(element):
        inner = declared.children.get(etree.QName(child).localname)
        if inner is not None:
            yield from _declared_elements(model, child, model.node(inner))


def _put_attribute(root: etree._Element, element: etree._Element, name: str) -> _Insert:
    def insert(text: str) -> bytes:
        before = element.get(name)
        element.set(name, text)
        printed = etree.tostring(root)
        if before is None:
            del element.attrib[name]
        else:
            element.set(name, before)
        return printed

    return insert


def _put_text(root: etree._Element, element: etree._Element) -> _Insert:
    def insert(text: str) -> bytes:
        before, element.text = element.text, text
        printed = etree.tostring(root)
        element.text = before
        return printed

    return insert


def _put_element(
    root: etree._Element, parent: etree._Element, declared: ElementDeclaration, name: str
) -> _Insert:
    """Return a function that prints the document with the child where the schema has it."""
    order = list(declared.children)
    later = set(order[order.index(name) + 1 :])
    siblings = _elements(parent)
    locals_ = [etree.QName(child).localname for child in siblings]
    at = next((n for n, local in enumerate(locals_) if local in later), len(siblings))
    namespace = etree.QName(parent).namespace

    def insert(text: str) -> bytes:
        child = etree.Element(etree.QName(namespace, name))
        child.text = text
        parent.insert(at, child)
        printed = etree.tostring(root)
        parent.remove(child)
        return printed

    return insert
