from __future__ import annotations

import hmac
from collections.abc import Callable
from datetime import datetime
from enum import Enum
from typing import Annotated, Literal

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from schemas.errors import RejectCode, Rejected, UsageError
from schemas.events import Amount
from schemas.money import amount_from_text, minor_units
from streams.providers.fields import (
    CurrencyText,
    Id,
    Instant,
    JsonMoney,
    OptionalId,
    amount_of_number,
    currency_of,
    epoch_ms,
    ms_of_instant,
    read_json,
    read_player_id,
    text_of,
)
from streams.providers.signatures import HmacSha256, RsaSha256, same_secret
from tests.support.dialect_records import hub88_signature, keyring


class Inner(msgspec.Struct):
    value: int


class Body(msgspec.Struct):
    id: Id
    other: OptionalId = None
    amount: int | None = None
    currency: CurrencyText | None = None
    at: Instant | None = None
    inner: Inner | None = None
    several: list[Inner] | None = None


DECODER = msgspec.json.Decoder(Body)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", RejectCode.MALFORMED),
        (b"nope", RejectCode.MALFORMED),
        (b'{"id":"a"} x', RejectCode.MALFORMED),
        (b'"a"', RejectCode.MALFORMED),
        (b'{"id":"\xff"}', RejectCode.MALFORMED),
        (b'{"id":"\\ud800"}', RejectCode.MALFORMED),
        (b'\xef\xbb\xbf{"id":"a"}', RejectCode.MALFORMED),
        (b'{"id":"a","new":' + b"[" * 100_000, RejectCode.MALFORMED),
        (b"{}", RejectCode.MISSING_FIELD),
        (b'{"id":"a","inner":{}}', RejectCode.MISSING_FIELD),
        (b'{"id":null}', RejectCode.BAD_FIELD),
        (b'{"id":true}', RejectCode.BAD_FIELD),
        (b'{"id":1.0}', RejectCode.BAD_FIELD),
        (b'{"id":-1}', RejectCode.BAD_FIELD),
        (b'{"id":9223372036854775808}', RejectCode.BAD_FIELD),
        (b'{"id":' + b"9" * 5000 + b"}", RejectCode.BAD_FIELD),
        (b'{"id":""}', RejectCode.BAD_FIELD),
        (b'{"id":"a","amount":1.0}', RejectCode.BAD_AMOUNT),
        (b'{"id":"a","amount":1e3}', RejectCode.BAD_AMOUNT),
        (b'{"id":"a","amount":true}', RejectCode.BAD_AMOUNT),
        (b'{"id":"a","amount":"1"}', RejectCode.BAD_AMOUNT),
        (b'{"id":"a","inner":{"value":1.5}}', RejectCode.BAD_AMOUNT),
        (b'{"id":"a","several":[{"value":1},{"value":"1"}]}', RejectCode.BAD_AMOUNT),
        (b'{"id":"a","currency":978}', RejectCode.BAD_CURRENCY),
        (b'{"id":"a","currency":""}', RejectCode.BAD_CURRENCY),
        (b'{"id":"a","at":"2026-01-01T00:00:00"}', RejectCode.BAD_TIME),
        (b'{"id":"a","at":1767225600}', RejectCode.BAD_TIME),
        (b'{"id":"a","at":"2026-12-31T23:59:60Z"}', RejectCode.BAD_TIME),
    ],
)
def test_the_code_names_the_field_that_does_not_fit(body: bytes, code: RejectCode) -> None:
    with pytest.raises(Rejected) as caught:
        read_json(DECODER, body)
    assert caught.value.reason is code


class Colour(Enum):
    RED = "red"


class Word(msgspec.Struct, tag_field="operation", tag="said"):
    currency: Literal["EUR", "USD"] = "EUR"
    colour: Colour = Colour.RED
    at: Instant | None = None
    items: list[Inner] = []
    amounts: dict[str, Inner] = {}
    counts: dict[int, int] = {}
    pair: tuple[int, int] = (1, 1)
    value: Annotated[int, msgspec.Meta(ge=0)] = 0
    text: Annotated[str, msgspec.Meta(pattern="^a$")] = "a"


class Other(msgspec.Struct, tag_field="operation", tag="else"):
    pass


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        ("[]", "Expected `object`, got `array`", RejectCode.MALFORMED),
        ("{}", "Object missing required field `operation`", RejectCode.MISSING_FIELD),
        ('{"operation":5}', "Expected `str` - at `$.operation`", RejectCode.UNKNOWN_OPERATION),
        ('{"operation":"x"}', "Invalid value 'x' - at `$.operation`", RejectCode.UNKNOWN_OPERATION),
        ('{"currency":"x"}', "Invalid enum value 'x' - at `$.currency`", RejectCode.BAD_CURRENCY),
        ('{"colour":"x"}', "Invalid enum value 'x' - at `$.colour`", RejectCode.BAD_FIELD),
        ('{"at":"x"}', "Invalid RFC3339 encoded datetime - at `$.at`", RejectCode.BAD_TIME),
        ('{"items":7}', "Expected `array`, got `int` - at `$.items`", RejectCode.BAD_FIELD),
        ('{"items":[7]}', "Expected `object`, got `int` - at `$.items[0]`", RejectCode.BAD_FIELD),
        (
            '{"items":[{}]}',
            "Object missing required field `value` - at `$.items[0]`",
            RejectCode.MISSING_FIELD,
        ),
        (
            '{"items":[{"value":"1"}]}',
            "Expected `int`, got `str` - at `$.items[0].value`",
            RejectCode.BAD_AMOUNT,
        ),
        (
            '{"amounts":{"a":1}}',
            "Expected `object`, got `int` - at `$.amounts[...]`",
            RejectCode.BAD_FIELD,
        ),
        (
            '{"amounts":{"a":{"value":""}}}',
            "got `str` - at `$.amounts[...].value`",
            RejectCode.BAD_AMOUNT,
        ),
        (
            '{"counts":{"a":1}}',
            "Expected `int`, got `str` - at `key` in `$.counts`",
            RejectCode.MALFORMED,
        ),
        ('{"pair":[1]}', "Expected `array` of length 2 - at `$.pair`", RejectCode.BAD_FIELD),
        ('{"pair":[1,""]}', "Expected `int`, got `str` - at `$.pair[1]`", RejectCode.BAD_FIELD),
        ('{"value":-1}', "Expected `int` >= 0 - at `$.value`", RejectCode.BAD_AMOUNT),
        ('{"text":"b"}', "Expected `str` matching regex '^a$' - at `$.text`", RejectCode.BAD_FIELD),
        # What is quoted comes before the path, and a path in it is not the one.
        ('{"colour":"x` - at `$.amount`"}', "' - at `$.colour`", RejectCode.BAD_FIELD),
        ('{"colour":" - at `$"}', "' - at `$.colour`", RejectCode.BAD_FIELD),
        (
            '{"operation":"Object missing required field"}',
            "' - at `$.operation`",
            RejectCode.UNKNOWN_OPERATION,
        ),
        ('{"operation":"x - at `$.at[0]`"}', "' - at `$.operation`", RejectCode.UNKNOWN_OPERATION),
    ],
)
def test_the_code_is_in_msgspecs_own_words(body: str, message: str, code: RejectCode) -> None:
    """If a release of msgspec says it otherwise, the codes must not change unnoticed."""
    tagged = (
        body.replace('{"', '{"operation":"said","', 1)
        if not body.startswith('{"operation"')
        else body
    )
    with pytest.raises(Rejected) as caught:
        read_json(msgspec.json.Decoder(Word | Other), tagged.encode())
    assert message in caught.value.detail
    assert caught.value.reason is code


@pytest.mark.parametrize(
    ("body", "player"),
    [
        (b'{"user":"p-1","amount":[{"deep":[1,2]}]}', "p-1"),
        (b'{"user":17,"x":null}', "17"),
        (b'{"user":"a","user":"b"}', "b"),  # as the whole body would be read
        (b'{"user":""}', None),
        (b'{"user":"a\\u0000b"}', None),
        (b'{"user":{"id":"p-1"}}', None),
        (b'{"other":"p-1"}', None),
        (b'[{"user":"p-1"}]', None),
        (b'{"user":"p-1"', None),
        (b'{"user":"\xff"}', None),
        (b'{"user":"p-1","x":' + b"[" * 100_000, None),
        (b"", None),
    ],
)
def test_whom_a_body_names_of_which_no_more_can_be_read(body: bytes, player: str | None) -> None:
    assert read_player_id(body, "user", "VALID") == player
    assert read_player_id(body, "user", "NOT_CHECKED") is None


def test_ids_are_text_or_numbers() -> None:
    assert text_of(read_json(DECODER, b'{"id":17}').id, "id") == "17"
    assert text_of(read_json(DECODER, '{"id":"ж 🎰"}'.encode()).id, "id") == "ж 🎰"


@pytest.mark.parametrize("text", ["a\0", "a\nb", "\x1b[2J", "a\u2028", "\ud800"])
def test_an_id_can_be_printed_and_stored(text: str) -> None:
    with pytest.raises(Rejected) as caught:
        text_of(text, "user")
    assert caught.value.reason is RejectCode.BAD_FIELD


def test_a_currency_in_any_case_is_one_currency() -> None:
    assert currency_of(Amount(100, 2), "eur") == currency_of(Amount(100, 2), "EUR") == "EUR"


@pytest.mark.parametrize(
    ("amount", "currency", "code"),
    [
        (Amount(-1, 2), "EUR", RejectCode.BAD_AMOUNT),
        (Amount(1, 3), "EUR", RejectCode.AMOUNT_SCALE),
        (Amount(1, 1), "JPY", RejectCode.AMOUNT_SCALE),
        (Amount(2**62, 0), "EUR", RejectCode.BAD_AMOUNT),
        (Amount(1, 0), "XQQ", RejectCode.BAD_CURRENCY),
        (Amount(1, 0), "\u0131nr", RejectCode.BAD_CURRENCY),  # a dotless i is an I in upper case
    ],
)
def test_money_that_no_wallet_holds(amount: Amount, currency: str, code: RejectCode) -> None:
    with pytest.raises(Rejected) as caught:
        currency_of(amount, currency)
    assert caught.value.reason is code


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59.999Z", -1),
        ("2026-09-21T16:13:20.123456+02:00", 1_790_000_000_123),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ("0001-01-01T00:00:00+14:00", -62_135_647_200_000),
    ],
)
def test_times_are_whole_milliseconds(text: str, ms: int) -> None:
    assert epoch_ms(datetime.fromisoformat(text)) == ms


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00+01:00", 0),
        ("9999-12-31T23:59:59.999999Z", 253_402_300_799_999),
        ("1969-12-31T23:59:59.999Z", None),
        ("1970-01-01T00:59:59.999+01:00", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59-00:01", None),
    ],
)
def test_a_time_is_one_that_every_reader_can_print(text: str, ms: int | None) -> None:
    at = datetime.fromisoformat(text)
    if ms is not None:
        assert ms_of_instant(at, "at") == ms
        return
    with pytest.raises(Rejected) as caught:
        ms_of_instant(at, "at")
    assert caught.value.reason is RejectCode.BAD_TIME


def _pem(key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> str:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def test_only_strong_rsa_keys() -> None:
    RsaSha256(keyring()["hub88"]["public_key_pem"])
    with pytest.raises(UsageError, match="RSA"):
        RsaSha256(_pem(rsa.generate_private_key(65537, 1024).public_key()))
    with pytest.raises(UsageError, match="RSA"):
        RsaSha256(_pem(ec.generate_private_key(ec.SECP256R1()).public_key()))


@pytest.mark.parametrize("broken", [b"", b"%%%", b"AAAA", "ä".encode()])
def test_a_broken_signature_is_a_wrong_one(broken: bytes) -> None:
    key = RsaSha256(keyring()["hub88"]["public_key_pem"])
    assert key.matches(b"x", hub88_signature(b"x"))
    assert not key.matches(b"x", broken)


def test_a_signature_has_one_spelling() -> None:
    key = RsaSha256(keyring()["hub88"]["public_key_pem"])
    good = hub88_signature(b"x")
    assert not key.matches(b"x", good[:10] + b"\n" + good[10:])
    assert not key.matches(b"x", b"!" + good)


def test_hmac_in_both_spellings() -> None:
    key = HmacSha256("0b" * 20)
    # RFC 4231, test case 1
    expected = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
    assert key.matches_hex(b"Hi There", expected.encode())
    assert key.matches_hex(b"Hi There", expected.upper().encode())
    assert not key.matches_hex(b"Hi there", expected.encode())
    assert not key.matches_hex(b"Hi There", expected[:-2].encode())
    assert not key.matches_base64(b"Hi There", expected.encode())


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    genuine = hmac.compare_digest

    def watch(left: bytes, right: bytes) -> bool:
        compared.append((left, right))
        return genuine(left, right)

    monkeypatch.setattr(hmac, "compare_digest", watch)
    key = HmacSha256("0b" * 20)
    assert not key.matches_hex(b"x", b"y")
    assert not key.matches_base64(b"x", b"y")
    assert same_secret(b"x", b"x")
    assert len(compared) == 3


# --- exact money ----------------------------------------------------------------------------------------------------

_SCALES = {"JPY": 0, "EUR": 2, "KWD": 3, "CLF": 4, "USDT": 6, "BTC": 8}


class Priced(msgspec.Struct):
    amount: JsonMoney


PRICED = msgspec.json.Decoder(Priced)


@pytest.mark.parametrize("currency", _SCALES)
def test_a_wallet_holds_its_scale_and_not_a_digit_more(currency: str) -> None:
    scale = _SCALES[currency]
    least = amount_from_text(f"1e-{scale}")
    assert currency_of(least, currency) == currency
    assert minor_units(least, currency) == 1
    assert minor_units(amount_from_text("7." + "0" * 23), currency) == 7 * 10**scale
    with pytest.raises(Rejected) as rejection:
        currency_of(amount_from_text(f"1e-{scale + 1}"), currency)
    assert rejection.value.reason is RejectCode.AMOUNT_SCALE


@pytest.mark.parametrize(
    ("number", "amount"),
    [
        ("1.10", Amount(110, 2)),
        ("1.10000000000000000000000", Amount(1100000000000000000, 18)),
        ('"1.5"', Amount(15, 1)),
        ("1e3", Amount(1000, 0)),
        ("1.5E-3", Amount(15, 4)),
        ("0.1", Amount(1, 1)),
        ("90071992547409.93", Amount(9007199254740993, 2)),
        ("-0.00", Amount(0, 2)),
    ],
)
def test_a_json_number_is_read_from_its_digits(number: str, amount: Amount) -> None:
    assert amount_of_number(read_json(PRICED, b'{"amount":%s}' % number.encode()).amount) == amount


@pytest.mark.parametrize(
    "number", ["1e31", "1e-31", "1e999999999", "-1e-999999999", '"NaN"', '"Infinity"', "9" * 4000]
)
def test_an_exponent_or_a_number_without_bounds_costs_nothing(number: str) -> None:
    with pytest.raises(Rejected) as rejection:
        amount_of_number(read_json(PRICED, b'{"amount":%s}' % number.encode()).amount)
    assert rejection.value.reason is RejectCode.BAD_AMOUNT


NUMBERS = [
    "1_000",
    " 1.50 ",
    "1.50\n",
    "\uff11.\uff15",
    "\u0661\u0662",
    "1,5",
    "0x1F",
    "",
    "1.",
    ".5",
]
"""What some readers of numbers take, among it the digits of other scripts and Python's own notations."""


@pytest.mark.parametrize("text", NUMBERS)
def test_text_is_the_same_money_in_json_and_elsewhere(text: str) -> None:
    body = msgspec.json.encode({"amount": text})
    assert read_amount(lambda: amount_of_number(read_json(PRICED, body).amount)) == read_amount(
        lambda: amount_from_text(text)
    )


def read_amount(read: Callable[[], Amount]) -> Amount | RejectCode:
    try:
        return read()
    except Rejected as error:
        return error.reason


@pytest.mark.parametrize("text", NUMBERS[:7])
def test_text_in_other_digits_or_with_space_is_not_money(text: str) -> None:
    with pytest.raises(Rejected) as rejection:
        amount_of_number(read_json(PRICED, msgspec.json.encode({"amount": text})).amount)
    assert rejection.value.reason is RejectCode.BAD_AMOUNT


@pytest.mark.parametrize(
    "sent", ["null", "true", "[1]", '{"amount":1}', '"\\ud83d\\ude00"', '"1\\n"']
)
def test_what_is_neither_a_number_nor_text_is_not_money(sent: str) -> None:
    with pytest.raises(Rejected) as rejection:
        amount_of_number(read_json(PRICED, b'{"amount":%s}' % sent.encode()).amount)
    assert rejection.value.reason is RejectCode.BAD_AMOUNT


def test_digits_may_be_escaped_as_any_text() -> None:
    sent = b'{"amount":"\\u0031.5"}'
    assert amount_of_number(read_json(PRICED, sent).amount) == Amount(15, 1)


@pytest.mark.parametrize("number", ["9223372036854775808", "1e2", "1E0", "100.0"])
def test_a_numeric_id_is_an_integer_of_64_bits_in_digits(number: str) -> None:
    assert read_json(DECODER, b'{"id":9223372036854775807}').id == 2**63 - 1
    with pytest.raises(Rejected) as rejection:
        read_json(DECODER, b'{"id":%s}' % number.encode())
    assert rejection.value.reason is RejectCode.BAD_FIELD


def test_more_decimals_are_not_cut_by_default() -> None:
    with pytest.raises(Rejected) as rejection:
        currency_of(amount_from_text("104.129"), "EUR")
    assert rejection.value.reason is RejectCode.AMOUNT_SCALE
