"""Comparison of XML bodies with an XSD.

Paths name elements without namespaces and positions: `/a/b/@c`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from lxml import etree

from streams.drift.shapes import (
    DETAIL_MAX,
    NAME_MAX,
    PATH_MAX,
    VALUE_MAX,
    DriftKind,
    Shape,
    distinct_shapes,
    printable_excerpt,
)
from streams.drift.xsd_model import ElementDeclaration, XsdModel
from streams.providers.xml_body import make_parser

ERRORS_MAX: Final = 200
"""Evaluated complaints of one document: to locate one costs a walk through its siblings."""

_XML_SPACE: Final = " \t\r\n"
_XSI: Final = "{http://www.w3.org/2001/XMLSchema-instance}"
_ATTRIBUTE: Final = re.compile(r"^Element '[^']*', attribute '(?:\{[^}]*\})?([^']+)'")
_VALUE_ERRORS: Final = frozenset(
    {"SCHEMAV_CVC_ENUMERATION_VALID", "SCHEMAV_CVC_AU"}
)  # not in the set; not the fixed one
_TYPE_NAME_MAX: Final = 200
"""Characters at the end of a complaint that are searched for its type's name; before them is the
whole body.
"""
_TYPE_NAME: Final = re.compile(r"type '(?:\{[^}]*\})?([^']+)'\.?$")
_ORDER: Final = "SCHEMAV_ELEMENT_CONTENT"
_ABSENT: Final = frozenset(
    {"SCHEMAV_CVC_COMPLEX_TYPE_4"}
)  # a required attribute; the model reports it


class XmlShapes:
    """One XSD, prepared to be compared with bodies."""

    def __init__(self, xsd: bytes) -> None:
        """Prepare an XSD.

        Raises lxml's XMLSyntaxError or XMLSchemaParseError for what is not an XSD.
        """
        root = etree.fromstring(xsd, make_parser())
        self._schema = etree.XMLSchema(root)
        self._model = XsdModel(root)

    def compare(self, root: etree._Element) -> list[Shape]:
        """Return the shapes of one document.

        New elements and attributes are removed from the tree, so that the rest can be validated.
        White space that the format ignores is removed too: libxml2 refuses it around dates, times
        and durations, which XML Schema allows (part 2, 4.3.6).
        """
        name = etree.QName(root)
        declared = self._model.root(name.localname)
        if declared is None or name.namespace != self._model.namespace:
            return [Shape(DriftKind.NEW_MESSAGE, "/", printable_excerpt(str(root.tag), DETAIL_MAX))]
        walked = list(self._walk(declared, root, f"/{name.localname}"))
        self._schema.validate(root)
        has_gaps = any(shape.what is DriftKind.MISSING_FIELD for shape in walked)
        log: Any = self._schema.error_log
        errors = [
            shape
            for error in islice(log, ERRORS_MAX)
            for shape in _of_error(error, root, has_gaps=has_gaps)
        ]
        return distinct_shapes([*walked, *errors])

    def _walk(
        self, node: ElementDeclaration, element: etree._Element, path: str
    ) -> Iterator[Shape]:
        yield from _attributes(node, element, path)
        _strip_space(node, element)
        if node.is_simple or node.is_opaque:
            return
        seen = set()
        for child in element.findall("*"):
            name = _local(child)
            declared = node.children.get(name)
            if declared is not None:
                seen.add(name)
                yield from self._walk(self._model.node(declared), child, _below(path, name))
                continue
            yield Shape(DriftKind.NEW_FIELD, _below(path, name))
            element.remove(child)
        for name in sorted(node.required - seen):
            yield Shape(DriftKind.MISSING_FIELD, _below(path, name))


def _attributes(node: ElementDeclaration, element: etree._Element, path: str) -> Iterator[Shape]:
    if not node.attributes_opaque:
        for key in map(str, element.keys()):
            name = key.rpartition("}")[2]
            if name not in node.attributes and not key.startswith(_XSI):
                yield Shape(DriftKind.NEW_FIELD, _below(path, "@" + name))
                del element.attrib[key]
    for name, is_required in node.attributes.items():
        if is_required and element.get(name) is None:
            yield Shape(DriftKind.MISSING_FIELD, _below(path, "@" + name))


def _strip_space(node: ElementDeclaration, element: etree._Element) -> None:
    if node.collapses and element.text and not len(element):
        element.text = element.text.strip(_XML_SPACE)
    for name in node.collapsed_attributes:
        value = element.get(name)
        if value is not None and value != value.strip(_XML_SPACE):
            element.set(name, value.strip(_XML_SPACE))


def _of_error(error: Any, root: etree._Element, *, has_gaps: bool) -> Iterator[Shape]:
    kind, message = error.type_name, error.message
    element = _element_at(root, error.path)
    path = "/" if element is None else _path_of(element)
    value = "" if element is None else element.text or ""
    attribute = _ATTRIBUTE.match(message)
    if attribute is not None:
        path, value = (
            _below(path, "@" + attribute[1]),
            "" if element is None else element.get(attribute[1]) or "",
        )
    if kind in _ABSENT:
        return
    if kind == _ORDER:
        if not has_gaps:
            yield Shape(DriftKind.CHANGED_FORMAT, path, "not in the declared order or number")
    elif kind in _VALUE_ERRORS:
        yield Shape(DriftKind.NEW_VALUE, path, printable_excerpt(value, VALUE_MAX))
    elif "facet '" in message:
        facet = message.partition("facet '")[2].partition("'")[0]
        yield Shape(DriftKind.CHANGED_FORMAT, path, f"not {facet}")
    else:
        wanted = _TYPE_NAME.search(message[-_TYPE_NAME_MAX:])
        yield Shape(
            DriftKind.CHANGED_TYPE,
            path,
            "not as declared" if wanted is None else f"not {wanted[1]}",
        )


def _element_at(root: etree._Element, path: str | None) -> etree._Element | None:
    if not path:
        return None
    try:
        found = root.getroottree().xpath(path)
    except etree.XPathError:
        return None
    return found[0] if isinstance(found, list) and found and etree.iselement(found[0]) else None


def _path_of(element: etree._Element) -> str:
    names = [_local(element), *[_local(parent) for parent in element.iterancestors()]]
    return ("/" + "/".join(reversed(names)))[:PATH_MAX]


def _below(path: str, name: str) -> str:
    return f"{path}/{printable_excerpt(name, NAME_MAX)}"[:PATH_MAX]


def _local(element: etree._Element) -> str:
    return str(element.tag).rpartition("}")[2]
