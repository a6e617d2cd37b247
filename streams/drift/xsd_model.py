"""Declarations of an XSD: the attributes and children an element may and must have.

libxml2 validates, but does not report what `xs:any` lets in, and after an unexpected child it
checks no further one. So new and missing ones are found with this model. It reads the subset of XSD
that payload schemas use: sequence, all, choice, any, named and inline types, extensions, attribute
groups; not substitution groups or imports.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from lxml import etree

_NAMESPACE: Final = "http://www.w3.org/2001/XMLSchema"
_XS: Final = f"{{{_NAMESPACE}}}"
_PARTICLES: Final = frozenset({"sequence", "all", "choice", "group"})
_KEEPS_SPACE: Final = frozenset({"string", "normalizedString", "anySimpleType", "anyType"})
"""Built-in types whose `whiteSpace` facet is not `collapse` (XML Schema part 2, 4.3.6)."""
_CONTENTS: Final = frozenset({"simpleContent", "complexContent", "extension", "restriction"})


@dataclass
class ElementDeclaration:
    """Declaration of an element.

    `is_open`: undeclared children are allowed; `attributes_open`: undeclared attributes are.
    `collapses` and `collapsed_attributes`: white space around the value means nothing.
    """

    is_simple: bool = False
    collapses: bool = False
    collapsed_attributes: set[str] = field(default_factory=set)
    children: dict[str, etree._Element] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)
    attributes: dict[str, bool] = field(default_factory=dict)
    is_open: bool = False
    attributes_open: bool = False

    @property
    def is_opaque(self) -> bool:
        """Whether anything may be inside, and nothing is declared about it."""
        return self.is_open and not self.children

    @property
    def attributes_opaque(self) -> bool:
        """Whether any attribute may be there, and none is declared."""
        return self.attributes_open and not self.attributes


class XsdModel:
    """The declarations of one XSD file."""

    def __init__(self, root: etree._Element) -> None:
        """Take a parsed file."""
        self.namespace = root.get("targetNamespace")
        self._named: dict[tuple[str, str], etree._Element] = {}
        for element in root.iterchildren(f"{_XS}*"):
            name = element.get("name")
            if name is not None:
                self._named[_local(element), name] = element
        self._nodes: dict[etree._Element, ElementDeclaration] = {}

    def root(self, local: str) -> ElementDeclaration | None:
        """Return the declaration of a document's root of this name, or None."""
        declared = self._named.get(("element", local))
        return None if declared is None else self.node(declared)

    def node(self, declared: etree._Element) -> ElementDeclaration:
        """Return the declaration made by an `xs:element`.

        It is built on first use, so that types may contain themselves.
        """
        if declared not in self._nodes:
            reference = declared.get("ref")
            if reference is not None:
                declared = self._named["element", _strip_prefix(reference)]
            self._nodes[declared] = self._build(declared)
        return self._nodes[declared]

    def _build(self, declared: etree._Element) -> ElementDeclaration:
        inline = declared.find(f"{_XS}complexType")
        named = self._named.get(("complexType", _strip_prefix(declared.get("type") or "")))
        found = inline if inline is not None else named
        if found is None:
            return ElementDeclaration(is_simple=True, collapses=self._collapses(declared, "type"))
        node = ElementDeclaration()
        self._gather(found, node, needed=True)
        node.is_simple = found.find(f"{_XS}simpleContent") is not None
        node.collapses = self._content_collapses(found)
        return node

    def _content_collapses(self, complex_type: etree._Element) -> bool:
        content = complex_type.find(f"{_XS}simpleContent/{_XS}*")
        if content is None:
            return False
        base = self._named.get(("complexType", _strip_prefix(content.get("base") or "")))
        return self._collapses(content, "base") if base is None else self._content_collapses(base)

    def _collapses(self, declared: etree._Element, attribute: str) -> bool:
        """Return whether white space around a value of the type that this names means nothing.

        A union counts as text, since one of its members may be.
        """
        name = declared.get(attribute)
        found = declared.find(f"{_XS}simpleType")
        if name is not None:
            prefix, _, local = name.rpartition(":")
            if declared.nsmap.get(prefix or None) == _NAMESPACE:
                return local not in _KEEPS_SPACE
            found = self._named.get(("simpleType", local))
        if found is None:
            return False
        restriction = found.find(f"{_XS}restriction")
        if restriction is None:
            return found.find(f"{_XS}list") is not None
        facet = restriction.find(f"{_XS}whiteSpace")
        if facet is not None:
            return facet.get("value") == "collapse"
        return self._collapses(restriction, "base")

    def _gather(self, element: etree._Element, node: ElementDeclaration, *, needed: bool) -> None:
        for inner in element.iterchildren(f"{_XS}*"):
            kind = _local(inner)
            if kind == "element":
                name = _strip_prefix(inner.get("name") or inner.get("ref") or "")
                node.children[name] = inner
                if needed and inner.get("minOccurs") != "0":
                    node.required.add(name)
            elif kind == "attribute":
                self._add_attribute(inner, node)
            elif kind in {"any", "anyAttribute"}:
                node.is_open |= kind == "any"
                node.attributes_open |= kind == "anyAttribute"
            elif kind == "attributeGroup":
                self._gather(
                    self._named["attributeGroup", _strip_prefix(inner.get("ref") or "")],
                    node,
                    needed=needed,
                )
            elif kind in _PARTICLES:
                self._gather(
                    inner,
                    node,
                    needed=needed and kind != "choice" and inner.get("minOccurs") != "0",
                )
            elif kind in _CONTENTS:
                base = self._named.get(("complexType", _strip_prefix(inner.get("base") or "")))
                if base is not None:
                    self._gather(base, node, needed=needed)
                self._gather(inner, node, needed=needed)

    def _add_attribute(self, declared: etree._Element, node: ElementDeclaration) -> None:
        name = declared.get("name") or ""
        node.attributes[name] = declared.get("use") == "required"
        if self._collapses(declared, "type"):
            node.collapsed_attributes.add(name)


def _local(element: etree._Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _strip_prefix(name: str) -> str:
    return name.rpartition(":")[2]
