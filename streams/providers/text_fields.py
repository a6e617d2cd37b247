"""Bodies whose fields are all texts, as in forms and XML attributes.

Headers in which a connector adds fields are read here too. An empty text counts as missing. Money
is read from the text as it was printed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote_plus

from schemas.errors import RejectCode, Rejected
from schemas.events import Amount
from schemas.money import amount_from_text
from streams.providers.dialect import Headers
from streams.providers.fields import ID_MAX, text_of
from streams.providers.times import ms_of_epoch

FORM_FIELDS_MAX: Final = 200

PLAYER_HEADER: Final = "player"
"""The header with the player of a session, which the connector knows and the body does not name."""
CURRENCY_HEADER: Final = "currency"
"""The header with the wallet's currency, which the connector knows and the body does not name."""

_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}


class TextFields:
    """The fields of one body by name, each read as the type that it should have.

    Every method raises Rejected, naming the field and never quoting it: some hold secrets.
    """

    __slots__ = ("_texts",)

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def text(self, name: str) -> str:
        """Return a text that must be there: MISSING_FIELD."""
        text = self._texts.get(name)
        if not text:
            raise Rejected(RejectCode.MISSING_FIELD, f"{name} is missing")
        return text

    def optional(self, name: str) -> str | None:
        """Return a text that may be missing or empty."""
        return self._texts.get(name) or None

    def id_of(self, name: str) -> str:
        """Return an id that must be there.

        MISSING_FIELD without it, BAD_FIELD for one that is too long or cannot be stored.
        """
        return _checked_id(self.text(name), name)

    def optional_id(self, name: str) -> str | None:
        """Return an id that may be missing or empty."""
        text = self._texts.get(name)
        return _checked_id(text, name) if text else None

    def amount(self, name: str) -> Amount:
        """Return a decimal number of any sign that must be there: MISSING_FIELD, BAD_AMOUNT."""
        return amount_from_text(self.text(name))

    def flag(self, name: str) -> bool:
        """Return the truth of True, False, 1 or 0 in either case; missing is False.

        BAD_FIELD for anything else.
        """
        text = self._texts.get(name)
        if not text:
            return False
        flag = _FLAGS.get(text.lower())
        if flag is None:
            raise Rejected(RejectCode.BAD_FIELD, f"{name} is neither true nor false")
        return flag

    def epoch_ms(self, name: str) -> int | None:
        """Return epoch milliseconds, None where missing. BAD_TIME for anything else."""
        text = self._texts.get(name)
        return ms_of_epoch(text, "ms", field=name) if text else None


def read_form(value: bytes) -> dict[str, str]:
    """Return the fields of an `application/x-www-form-urlencoded` body, decoded.

    A line break after the form belongs to no field: within one it would be `%0A`.

    Raises Rejected: MALFORMED for a body that is not a form, BAD_FIELD for a field that is there
    twice, since either could be meant.
    """
    try:
        text = value.decode().rstrip("\r\n")
        pairs = parse_qsl(
            text, keep_blank_values=True, errors="strict", max_num_fields=FORM_FIELDS_MAX
        )
    except ValueError:  # UnicodeDecodeError is one
        raise Rejected(
            RejectCode.MALFORMED, f"not a UTF-8 form of at most {FORM_FIELDS_MAX} fields"
        ) from None
    if "=" not in text:
        raise Rejected(RejectCode.MALFORMED, "not a form")
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Rejected(RejectCode.BAD_FIELD, "a field is there twice")
    return fields


def redact_form(value: bytes, is_secret: Callable[[str], bool]) -> bytes:
    """Mask the values of a form's secret fields, however broken the rest of it is."""
    shown = []
    for pair in value.split(b"&"):
        name, equals, _ = pair.partition(b"=")
        secret = bool(equals) and is_secret(unquote_plus(name.decode(errors="replace")).strip())
        shown.append(name + b"=***" if secret else pair)
    return b"&".join(shown)


def header_id(headers: Headers, name: str) -> str:
    """Return an id that the connector states in a header.

    Raises Rejected: MISSING_FIELD, BAD_FIELD.
    """
    raw = headers.get(name)
    if not raw:
        raise Rejected(
            RejectCode.MISSING_FIELD, f"the header {name} is missing: the connector must set it"
        )
    try:
        return _checked_id(raw.decode(), f"the header {name}")
    except UnicodeDecodeError:
        raise Rejected(RejectCode.BAD_FIELD, f"the header {name} is not UTF-8") from None


def _checked_id(text: str, name: str) -> str:
    if len(text) > ID_MAX:
        raise Rejected(RejectCode.BAD_FIELD, f"{name} is longer than {ID_MAX} characters")
    return text_of(text, name)
