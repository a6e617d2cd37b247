"""Which XML bodies have only names that are known, so that parsing them keeps nothing new. Pure.

lxml gives every parser of a thread one dictionary of names. libxml2 puts into it each name of an
element, an attribute, an entity or a processing instruction that it meets, and each namespace, also
of a body that is not well-formed, and takes none out. A body whose names are all known adds none.

Looking for the names of every body costs as much as parsing it. After a thousand bodies in a row
without a new name, one in sixteen is looked at, at random: how much a hostile sender can add until
the next look, and how often in all, is bounded.
"""

from __future__ import annotations

import random
import re
from typing import Final

SCANNED_BYTES_MAX: Final = 16 * 1024
"""A longer body is not scanned, and never known: parsing it costs more than a thread of its own."""

KNOWN_BYTES_MAX: Final = 256 * 1024
"""All known tags of one instance have so many bytes at most, whatever a sender repeats."""

SEEN_MAX: Final = 1_000
"""Tags seen for the first time that are remembered at a time."""

DECLARATIONS_MAX: Final = 20

QUIET_BODIES: Final = 1_000
"""After so many bodies in a row without a new name, not every body is scanned."""

SCAN_ONE_IN: Final = 16

SURPRISES_MAX: Final = 10
"""New names met while not every body was scanned; after so many, every body is, for good. Of each
time some SCAN_ONE_IN - 1 bodies of at most SCANNED_BYTES_MAX were parsed before one was scanned, so
all of them together kept names out of some 2 MiB of bodies."""

_SCANNED_SHARE: Final = 1 / SCAN_ONE_IN
_TAG: Final = re.compile(rb"<[^>]*>")
_COMMENT: Final = re.compile(rb"<!--[^<>&-]*(?:-[^<>&-]+)*-->")
"""A comment without anything that could be markup, if it should turn out to be none."""
_VALUE: Final = re.compile(rb"""=[ \t\r\n]*(?:"[^"<]*"|'[^'<]*')""")
"""The value of an attribute. No match reaches over the `<` of a tag, so within a tag each begins at
the `=` behind a name, whatever text is before it."""

_VALUE_OR_NAMESPACE: Final = re.compile(
    rb"""([ \t\r\n]xmlns(?::[A-Za-z0-9]{1,20})?=(?:"[^"'&<]*"|'[^"'&<]*'))|""" + _VALUE.pattern
)
"""As `_VALUE`; a namespace is the first group, as its value is kept like a name."""

_PLAIN: Final = re.compile(
    rb"""</?[^"'&<>!?]+(?:\sxmlns(?::[A-Za-z0-9]{1,20})?=(?:"[^"'&<>]*"|'[^"'&<>]*')=[^"'&<>!?]*)*>"""
)
_OTHER_XML: Final = re.compile(rb"""\sxml(?!ns(?::[A-Za-z0-9]{1,20})?=["'])""", re.IGNORECASE)
_DECLARATION: Final = re.compile(
    rb"""<\?xml\s+version="1\.[01]"(\s+encoding="(utf-8|us-ascii)")?(\s+standalone="(yes|no)")?\s*\?>""",
    re.IGNORECASE,
)
_REFERENCE: Final = re.compile(rb"&(?:lt|gt|amp|quot|apos|#[0-9]{1,7}|#x[0-9a-fA-F]{1,6});")


class KnownNames:
    """The tags that have come at least twice, without the values of their attributes.

    What is not certain is not known: declarations other than the usual one, entities of a
    document's own, attributes of XML itself other than plain namespaces, encodings in which a tag
    has other bytes, and tags that do not end. The namespaces of a tag belong to it.
    """

    def __init__(self, source: random.Random | None = None) -> None:
        self._known: set[bytes] = set()
        self._known_bytes = 0
        self._seen: dict[bytes, None] = {}
        self._declarations: set[bytes] = set()
        self._draw = (source or random.Random()).random  # noqa: S311  # no key is drawn from it
        self._quiet = 0
        self._surprises = 0

    def is_trusted(self, body: bytes) -> bool:
        """Return whether a body may be parsed where its names are kept.

        It may if its names are known, or if no name was new for long and this body is not one of
        those that are scanned all the same.
        """
        if self._quiet < QUIET_BODIES:
            known = self.covers(body)
            self._quiet = self._quiet + 1 if known and self._surprises < SURPRISES_MAX else 0
            return known
        if len(body) > SCANNED_BYTES_MAX:
            return False
        if self._draw() >= _SCANNED_SHARE or self.covers(body):
            return True
        self._surprises += 1
        self._quiet = 0
        return False

    def covers(self, body: bytes) -> bool:
        """Return whether all names of a body are known; those that are new are seen from now on."""
        if len(body) > SCANNED_BYTES_MAX or body[:1] != b"<" or b"\0" in body:
            return False
        if body[:5] == b"<?xml":
            end = body.find(b"?>") + 2
            if not self._is_usual(body[:end]):
                return False
            body = body[end:]
        if (references := body.count(b"&")) and len(_REFERENCE.findall(body)) != references:
            return False
        if b"<!" in body:
            body = _COMMENT.sub(b" ", body)
        if b"xmlns" in body:
            body = _VALUE_OR_NAMESPACE.sub(rb"\1=", body)
        elif b"=" in body:
            body = _VALUE.sub(b"=", body)
        tags = _TAG.findall(body)
        if len(tags) != body.count(b"<"):
            return False
        unknown = set(tags) - self._known
        for tag in unknown:
            self._learn(tag)
        return not unknown

    def _is_usual(self, declaration: bytes) -> bool:
        if declaration in self._declarations:
            return True
        if _DECLARATION.fullmatch(declaration) is None:
            return False
        if len(self._declarations) < DECLARATIONS_MAX:
            self._declarations.add(declaration)
        return True

    def _learn(self, tag: bytes) -> None:
        if _PLAIN.fullmatch(tag) is None or _OTHER_XML.search(tag):
            return
        if tag in self._seen:
            del self._seen[tag]
            if self._known_bytes + len(tag) <= KNOWN_BYTES_MAX:
                self._known.add(tag)
                self._known_bytes += len(tag)
        else:
            if len(self._seen) >= SEEN_MAX:
                self._seen.clear()
            self._seen[tag] = None
