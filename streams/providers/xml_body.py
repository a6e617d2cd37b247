"""XML bodies for the dialects: one tree, no access to files or network, no entity expansion."""

from __future__ import annotations

import re
import threading
from itertools import islice
from typing import Final

from lxml import etree

from schemas.errors import RejectCode, Rejected
from streams.providers.xml_names import KnownNames

NOT_SHOWN: Final = b"(not shown: this is not UTF-8, so its secrets could not be found)"

CALL_MAX_BYTES: Final = 32 * 1024
"""The largest wallet call.

Real ones have under one KiB.
"""

_KNOWN: Final = KnownNames()
"""Of this process: the names that its parsers keep are the same for all."""

_BEFORE_DECLARATION: Final = b"\xef\xbb\xbf \t\r\n"
_DECLARATION: Final = re.compile(rb"<\?xml\s", re.IGNORECASE)
_DECLARATION_MAX: Final = 200
_OTHER_ENCODING: Final = re.compile(
    rb"""\bencoding\s*=\s*["']\s*(?!utf-8\b|us-ascii\b|ascii\b|iso-8859-|windows-125)""",
    re.IGNORECASE,
)


def is_searchable(value: bytes) -> bool:
    """Return whether a body's secrets are in ASCII, so that they can be found and masked.

    lxml also reads UTF-16, UTF-7 and others, as the XML declaration says. There may be one
    declaration, and it must be short: a caller has no time to search a megabyte of declarations for
    an encoding.
    """
    if b"\0" in value:
        return False
    declared = [match.start() for match in islice(_DECLARATION.finditer(value), 2)]
    if not declared:
        return True
    declaration, end, _ = value[declared[0] : declared[0] + _DECLARATION_MAX].partition(b"?>")
    return len(declared) == 1 and bool(end) and _OTHER_ENCODING.search(declaration) is None


def check_call_size(value: bytes) -> bytes:
    """Return the body of one wallet call unchanged.

    Raises Rejected(TOO_LARGE) above CALL_MAX_BYTES: it must not be parsed.
    """
    if len(value) > CALL_MAX_BYTES:
        raise Rejected(
            RejectCode.TOO_LARGE, f"{len(value)} bytes; a call has at most {CALL_MAX_BYTES}"
        )
    return value


def make_parser() -> etree.XMLParser:
    """Make a parser for hostile bodies: no network, no entities, limits on size and depth.

    The limits are libxml2's own. lxml keeps the name of every element and attribute that a thread
    has ever parsed, for as long as the thread lives: `root_of` sees to it that none of a stranger's
    stays.
    """
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
    """Return the root element.

    A body that may have new names (`xml_names.py`) is parsed by a thread of its own: what the
    parser keeps of it goes with the tree.

    White space before the XML declaration, which the format forbids, is passed over: programs that
    join files leave a line break there. Raises Rejected(MALFORMED), never quoting the body: it may
    hold a secret.
    """
    if value[:1] in {b"\xef", b" ", b"\t", b"\r", b"\n"} and b"\0" not in value[:4]:
        value = value.lstrip(_BEFORE_DECLARATION)
    try:
        root = etree.fromstring(value, reader) if _KNOWN.is_trusted(value) else _parse_apart(value)
    except etree.XMLSyntaxError as error:
        where = f"line {error.lineno}, column {error.offset}"
        raise Rejected(RejectCode.MALFORMED, f"not well-formed XML at {where}") from None
    except ValueError:
        raise Rejected(RejectCode.MALFORMED, "not XML") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise Rejected(RejectCode.MALFORMED, "a document type is not allowed")
    return root


def _parse_apart(value: bytes) -> etree._Element:
    """Parse in a thread that ends with it. Raises what the parser raises.

    Not a pool's: a thread's names are freed when it has ended and its last tree is gone. Nor with a
    parser of another thread's: the thread would take that one's names for its own.
    """
    found: list[etree._Element | Exception] = []

    def parse() -> None:
        try:
            found.append(etree.fromstring(value, make_parser()))
        except Exception as error:  # noqa: BLE001  # raised below, in the caller's thread
            found.append(error)

    thread = threading.Thread(target=parse, name="xml")
    thread.start()
    thread.join()
    [result] = found
    if isinstance(result, Exception):
        raise result
    return result
