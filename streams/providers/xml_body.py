"""What every dialect that speaks XML asks of a body: one tree, nothing read from outside it, nothing expanded in it."""

from __future__ import annotations

import re
from typing import Final

from lxml import etree

from schemas.errors import RejectCode, Rejected

NOT_SHOWN: Final = b"(not shown: this is no UTF-8, and what is secret could not be found in it)"

_OTHER_ENCODING: Final = re.compile(
    rb"""<\?xml\b[^>]*?\bencoding\s*=\s*["']\s*(?!utf-8\b|us-ascii\b|ascii\b|iso-8859-|windows-125)""", re.IGNORECASE
)


def is_searchable(value: bytes) -> bool:
    """Whether what is secret in a body stands there in ASCII, so that it can be found and blotted out.

    lxml reads UTF-16, UTF-7 and others as well.
    """
    return b"\0" not in value and _OTHER_ENCODING.search(value) is None


def parser() -> etree.XMLParser:
    """A parser for hostile bodies: no network, no entities; libxml2's own limits on size and depth stay on."""
    return etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )


def root_of(reader: etree.XMLParser, value: bytes) -> etree._Element:
    """The root element. Raises Rejected(MALFORMED), never quoting the body: it may hold a secret."""
    try:
        root = etree.fromstring(value, reader)
    except etree.XMLSyntaxError as error:
        where = f"line {error.lineno}, column {error.offset}"
        raise Rejected(RejectCode.MALFORMED, f"not well-formed XML at {where}") from None
    except ValueError:
        raise Rejected(RejectCode.MALFORMED, "not XML") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise Rejected(RejectCode.MALFORMED, "a document type is not allowed")
    return root
