"""Rules for the fields of every dialect: storable ids, exact money, typed JSON.

Money is read from the digits that were sent: `schemas.money.amount_from_text` takes text,
`JsonMoney` a JSON number, which would already be a float elsewhere. Times are read in
`streams.providers.times`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected
from schemas.events import Amount, SignatureVerdict
from schemas.money import amount_from_text, minor_units
from streams.providers.dialect import Headers

ID_MAX: Final = 128
RECEIPT_AGE_MAX_MS: Final = 3_600_000
"""A connector that cannot reach the broker for longer is to answer its provider with an error."""
RECEIVED_AT_MAX: Final = 15
"""Digits of epoch milliseconds: until the year 33658."""

_Number: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Id: TypeAlias = Annotated[str, Meta(min_length=1, max_length=ID_MAX)] | _Number
"""A player, transaction, round or game id as providers send them: text, or a number.

A number is an integer of 64 bits, printed in digits: a larger one, or `1e2`, is BAD_FIELD. No
provider here sends such an id; one that does needs a type of its own in its adapter.
"""
OptionalId: TypeAlias = Annotated[str, Meta(max_length=ID_MAX)] | _Number | None
"""An id that may be missing, null or empty."""
Note: TypeAlias = Annotated[str, Meta(max_length=500)]
"""A sentence for people."""
CurrencyText: TypeAlias = Annotated[str, Meta(min_length=1, max_length=16)]
JsonMoney: TypeAlias = msgspec.Raw
"""The type of a JSON field that holds an amount as a number or as text, for `amount_of_number`.

It keeps what was sent, so that a number and a text are read by the same rule, and never by way of a
float. Give a field that may be missing the default `msgspec.Raw()`.
"""
Instant: TypeAlias = Annotated[datetime, Meta(tz=True)]
"""RFC 3339 with an offset, for `ms_of_instant`; a time without an offset names no moment."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_VALID: Final = SignatureVerdict.VALID.value
_CODE_OF_FIELD: Final = {
    "amount": RejectCode.BAD_AMOUNT,
    "value": RejectCode.BAD_AMOUNT,
    "currency": RejectCode.BAD_CURRENCY,
    "at": RejectCode.BAD_TIME,
    "eventDate": RejectCode.BAD_TIME,
    "operation": RejectCode.UNKNOWN_OPERATION,
}

T = TypeVar("T")


def text_of(value: str | int, field: str) -> str:
    """Return an id as text.

    Raises Rejected(BAD_FIELD) for control characters: PostgreSQL cannot store a NUL.
    """
    if value.__class__ is int:
        return str(value)
    if not value.isprintable():  # type: ignore[union-attr]  # not an int, so text
        raise Rejected(RejectCode.BAD_FIELD, f"{field} holds characters that cannot be printed")
    return value  # type: ignore[return-value]  # not an int, so text


def note_of(text: str) -> str:
    """Return a sentence for people, with unprintable characters as escapes.

    PostgreSQL cannot store a NUL. It is not rejected as an id is: no money must stop for a line
    break in a reason.
    """
    if text.isprintable():
        return text
    return "".join([letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text])


def optional_text(value: str | int | None, field: str) -> str | None:
    """Return an id as text; missing, null and empty are all None."""
    return None if value is None or value == "" else text_of(value, field)


def require(value: T | None, field: str) -> T:
    """Return a field that this operation cannot do without. Raises Rejected(MISSING_FIELD)."""
    if value is None:
        raise Rejected(RejectCode.MISSING_FIELD, f"{field} is missing")
    return value


def currency_of(amount: Amount, currency: str) -> str:
    """Return the currency in upper case, after checking that a wallet can hold this amount of it.

    Raises Rejected: BAD_AMOUNT below zero, AMOUNT_SCALE for fractions of a minor unit, BAD_CURRENCY
    for an unknown code.
    """
    if amount.unscaled < 0:
        raise Rejected(RejectCode.BAD_AMOUNT, "an amount below zero")
    return signed_currency_of(amount, currency)


def signed_currency_of(amount: Amount, currency: str) -> str:
    """Return the currency like `currency_of`, for an amount that may be below zero.

    The amount of an adjustment may.
    """
    # Only ASCII: some other letters have an ASCII one as their upper case.
    code = currency.upper() if currency.isascii() else currency
    minor_units(amount, code)
    return code


def amount_of_number(sent: JsonMoney) -> Amount:
    """Return the amount of a JSON field of type `JsonMoney` as it was printed.

    Scientific notation is read too. Raises Rejected(BAD_AMOUNT) for anything but a finite number of
    at most 64 bits and 30 decimals, as a JSON number or as text in ASCII digits and nothing else.
    """
    printed = bytes(sent)
    if printed.startswith(b'"'):
        return amount_from_text(_JSON_TEXT.decode(printed))
    return amount_from_text(printed.decode())


def epoch_ms(at: datetime) -> int:
    """Return whole milliseconds since 1970, computed in integers."""
    return (at - _EPOCH) // _MS


def check_ms(ms: int, field: str) -> int:
    """Return a provider's time in epoch ms unchanged, from 1970 to the end of 9999.

    Raises Rejected(BAD_TIME) for any other. An offset can move a time out of the calendar, and no
    reader could print it.
    """
    if not 0 <= ms <= LAST_MS:
        raise Rejected(RejectCode.BAD_TIME, f"{field} is before 1970 or after the year 9999")
    return ms


def ms_of_instant(at: datetime, field: str) -> int:
    """Return an `Instant` in epoch ms. Raises Rejected(BAD_TIME) before 1970 and after 9999."""
    return check_ms(epoch_ms(at), field)


def received_at_of(headers: Headers) -> int | None:
    """Return the connector's clock in epoch ms; None without the header.

    Raises Rejected(BAD_TIME) for a header that is not epoch milliseconds.
    """
    raw = headers.get("received-at")
    if raw is None:
        return None
    if not raw.isdigit() or len(raw) > RECEIVED_AT_MAX:
        raise Rejected(RejectCode.BAD_TIME, "the header received-at is not epoch milliseconds")
    return int(raw)


def seen_at(record: RawRecord, headers: Headers) -> int:
    """Return when a record was seen, epoch ms: by the broker, or by its connector before that.

    The windows of keys and replay protection are checked against it. The connector's time counts
    only up to `RECEIPT_AGE_MAX_MS` before the append: anyone who can append could otherwise choose
    the time, and a key that was retired or has leaked would be valid again.
    """
    received_at, appended_at = received_at_of(headers), record.timestamp
    if received_at is None or received_at < appended_at - RECEIPT_AGE_MAX_MS:
        return appended_at
    return min(received_at, appended_at)


def read_json(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode a typed JSON body.

    Raises Rejected with the code of the field that does not fit, MALFORMED where the error names
    none.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        message = str(error)
        raise Rejected(_code_of(message), message) from error
    except msgspec.DecodeError as error:
        raise Rejected(RejectCode.MALFORMED, str(error)) from error
    except ValueError as error:  # msgspec lets the UnicodeDecodeError of a string through
        raise Rejected(RejectCode.MALFORMED, "the body is not UTF-8") from error
    except RecursionError as error:
        raise Rejected(RejectCode.MALFORMED, "the body is nested too deeply") from error


def read_player_id(body: bytes, field: str, verdict: str) -> str | None:
    """Return the player that a JSON body names in `field`, though not all of it can be read.

    None where it names no player, or where its signature is not valid (`verdict`): a stranger must
    not make a player wait.
    """
    if verdict != _VALID:
        return None
    try:
        named = read_json(_FIELDS, body).get(field)
        return None if named is None else text_of(read_json(_ID, bytes(named)), field)
    except Rejected:
        return None


def _code_of(message: str) -> RejectCode:
    """Return the code for the field at the end of msgspec's path.

    The path is as in `$.items[0].amount` or `$.amounts[...]`. No pattern is searched for: the
    message quotes what was sent, a megabyte of it if need be, and must be read in one pass. The
    quotation comes before the path, so the last path in the message is msgspec's own.
    """
    if message.startswith("Object missing required field"):
        return RejectCode.MISSING_FIELD
    _, found, path = message.rpartition(" - at `$")
    name = path.removesuffix("`").replace("[...]", "").rpartition(".")[2].partition("[")[0]
    if not found or not name:
        return RejectCode.MALFORMED
    return _CODE_OF_FIELD.get(name, RejectCode.BAD_FIELD)


LAST_MS: Final = epoch_ms(datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC))
"""The last millisecond of the calendar."""

_JSON_TEXT: Final = msgspec.json.Decoder(str)
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ID: Final[msgspec.json.Decoder[str | int]] = msgspec.json.Decoder(Id)
