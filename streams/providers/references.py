"""Texts that stand for "no reference", which no identity may be built from.

Systems that must print a reference and have none print a word instead: `NOTPROVIDED` is the one of
SEPA's rulebooks, `NONREF` that of SWIFT's MT940 field 61, and each system adds its own. Taken for a
reference, it makes unlike payments one event.
"""

from __future__ import annotations

import re
from typing import Final

_NOT_ALPHANUMERIC: Final = re.compile(r"[\W_]+")
_MIXED: Final = re.compile(r"[^\W\d_]\d|\d[^\W\d_]")
"""A letter beside a digit, as in most references and in no placeholder."""
_WORDS: Final = frozenset(
    {
        *("nonref", "noref", "noreference", "noid", "novalue", "none", "nil", "null", "nan"),
        *("na", "notprovided", "notavailable", "notapplicable", "notspecified", "notgiven"),
        *("notsupplied", "notknown", "notused", "notset", "unknown", "unspecified", "undefined"),
        *("empty", "blank", "missing", "unbekannt", "keine", "keinereferenz", "ohne"),
    }
)


def is_placeholder(text: str) -> bool:
    """Return whether a text stands for "no value", whatever its case, spacing and punctuation.

    That is one of the usual words (`NONREF`, `N/A`, `Not provided`), a text without letters and
    digits (`-`), and one sign repeated (`0`, `0000`, `XXX`). A single letter, or a single digit but
    zero, is a reference.
    """
    if _MIXED.search(text):
        return False
    bare = text if text.isalnum() else _NOT_ALPHANUMERIC.sub("", text)
    if bare.lower() in _WORDS or not bare:
        return True
    return bare == bare[0] * len(bare) and (len(bare) > 1 or bare == "0")


def reference_or_empty(text: str) -> str:
    """Return a reference, or an empty text where it is only a placeholder."""
    return "" if is_placeholder(text) else text


def reference_or_none(text: str | None) -> str | None:
    """Return a reference, or None where it is missing or only a placeholder."""
    return None if not text or is_placeholder(text) else text


def id_or_none(text: str | None) -> str | None:
    """Return the id of a campaign, a bet or a payment, or None where it is only a placeholder.

    Providers number these: digits are an id, also one digit repeated, unless all are zero.
    """
    if not text or (is_placeholder(text) and not (text.isdecimal() and text.strip("0"))):
        return None
    return text
