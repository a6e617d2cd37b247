"""Money as providers print it, one case at a time; the sources are the providers' public documents."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from schemas.errors import RejectCode, Rejected, UsageError
from schemas.events import Amount
from schemas.money import (
    AMOUNT_MAX,
    EXPONENTS,
    SCALE_MAX,
    amount_from_text,
    amount_of,
    configure_currencies,
    exponent_of,
    format_minor,
    minor_units,
    truncate,
)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1.5", Amount(15, 1)),
        ("1.50", Amount(150, 2)),
        ("-1.50", Amount(-150, 2)),
        ("+7", Amount(7, 0)),
        ("0", Amount(0, 0)),
        ("-0", Amount(0, 0)),
        ("-0.00", Amount(0, 2)),
        ("00012.30", Amount(1230, 2)),
        (".5", Amount(5, 1)),
        ("5.", Amount(5, 0)),
        ("1E2", Amount(100, 0)),
        ("1.25e+3", Amount(1250, 0)),
        ("1.5E-8", Amount(15, 9)),
        ("0E-10", Amount(0, 10)),
        ("9223372036854775807", Amount(AMOUNT_MAX, 0)),
        ("-9223372036854775807", Amount(-AMOUNT_MAX, 0)),
        # RTG prints binary fractions: 23 decimals.
        ("0.00000000000000000000001", Amount(1, 23)),
        ("12.34567890123456789", Amount(1234567890123456789, 17)),
    ],
)
def test_a_decimal_is_read_as_printed(text, amount):
    assert amount_from_text(text) == amount


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "1 ",
        " 1",
        "1,5",
        "1_000",
        "0x1F",
        "1.5.0",
        "--1",
        "+-1",
        ".",
        "e5",
        "1e",
        "1e1000",
        "NaN",
        "sNaN",
        "Infinity",
        "-inf",
        "EUR 5",
        "½",
        "١٢",  # digits, but not ours: what one of our readers took for 12 another might not
        "9223372036854775808",
        "-9223372036854775808",  # so that a sign can always be turned
        "1e19",
        "1e31",
        "1e999",
        "1e-31",
        "0." + "0" * 30 + "1",
        "1.00000000000000000000001",  # 23 decimals, but not in 64 bits
        "1" * 65,
    ],
)
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(Rejected) as refusal:
        amount_from_text(text)
    assert refusal.value.reason is RejectCode.BAD_AMOUNT


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        (Amount(1234, 2), "EUR", 1234),
        (Amount(15, 1), "EUR", 150),
        (Amount(12, 0), "EUR", 1200),
        (Amount(123400, 4), "EUR", 1234),
        (Amount(-1, 2), "EUR", -1),
        (Amount(500, 0), "JPY", 500),
        (Amount(50000, 2), "JPY", 500),
        (Amount(1250, 3), "KWD", 1250),
        (Amount(1, 8), "BTC", 1),
        (Amount(10**24, 24), "BTC", 10**8),
        (Amount(0, 30), "JPY", 0),
    ],
)
def test_minor_units_are_exact(amount, currency, minor):
    assert minor_units(amount, currency) == minor


@pytest.mark.parametrize(
    ("amount", "currency", "reason"),
    [
        (Amount(104129, 3), "EUR", RejectCode.AMOUNT_SCALE),
        (Amount(-104129, 3), "EUR", RejectCode.AMOUNT_SCALE),
        (Amount(5, 1), "JPY", RejectCode.AMOUNT_SCALE),
        (Amount(1, 30), "BTC", RejectCode.AMOUNT_SCALE),
        (Amount(AMOUNT_MAX, 0), "EUR", RejectCode.BAD_AMOUNT),
        (Amount(1, 0), "EURO", RejectCode.BAD_CURRENCY),
        (Amount(1, 0), "eur", RejectCode.BAD_CURRENCY),
        (Amount(1, 0), "", RejectCode.BAD_CURRENCY),
    ],
)
def test_what_cannot_be_exact_is_refused(amount, currency, reason):
    with pytest.raises(Rejected) as refusal:
        minor_units(amount, currency)
    assert refusal.value.reason is reason


@pytest.mark.parametrize(
    ("currency", "exponent"),
    [
        ("EUR", 2),
        ("JPY", 0),
        ("KWD", 3),
        ("CLF", 4),
        ("ISK", 0),
        ("TND", 3),
        ("BTC", 8),
        ("USDT", 6),
        ("HUF", 2),
    ],
)
def test_decimals_of_currencies(currency, exponent):
    assert exponent_of(currency) == exponent


def test_every_configured_exponent_can_be_shifted():
    assert all(0 <= exponent <= SCALE_MAX for exponent in EXPONENTS.values())


@pytest.mark.parametrize(("unscaled", "scale"), [(2**63, 0), (-(2**63), 0), (1, -1), (1, 31)])
def test_an_amount_out_of_range_is_refused(unscaled, scale):
    with pytest.raises(Rejected) as refusal:
        amount_of(unscaled, scale)
    assert refusal.value.reason is RejectCode.BAD_AMOUNT


def test_truncation_goes_toward_zero():
    """100HP: 104.129 is 104.12."""
    assert truncate(Amount(104129, 3), 2) == Amount(10412, 2)
    assert truncate(Amount(-104129, 3), 2) == Amount(-10412, 2)
    assert truncate(Amount(5, 1), 2) == Amount(5, 1)
    assert truncate(Amount(5, 1), 0) == Amount(0, 0)


@pytest.mark.parametrize(
    ("minor", "scale", "text"),
    [
        (1234, 2, "12.34"),
        (-5, 2, "-0.05"),
        (0, 2, "0.00"),
        (5, 0, "5"),
        (-5, 0, "-5"),
        (1, 8, "0.00000001"),
    ],
)
def test_minor_units_as_a_person_reads_them(minor, scale, text):
    assert format_minor(minor, scale) == text
    assert Decimal(text).scaleb(scale) == minor


def test_zeros_at_the_end_of_many_printed_decimals_need_no_64_bits():
    assert amount_from_text("1.50000000000000000000000") == Amount(1_500_000_000_000_000_000, 18)
    assert amount_from_text("-1.50000000000000000000000") == Amount(-1_500_000_000_000_000_000, 18)
    assert amount_from_text("1.50") == Amount(150, 2)  # as sent, where it fits


def test_an_installation_may_add_currencies_and_change_none():
    configure_currencies({"KVNDX": 0, "XBIT2": 8})
    assert minor_units(Amount(15, 1), "XBIT2") == 150_000_000
    configure_currencies({"KVNDX": 0, "EUR": 2})  # configured again
    refused: list[dict[str, Any]] = [
        {"KVNDX": 2},
        {"EUR": 3},
        {"XNINE": 9},
        {"XNEG": -1},
        {"XFLT": 2.0},
        {"XBOOL": True},
        {"eur": 2},
        {"E\n": 2},
    ]
    for wrong in refused:
        with pytest.raises(UsageError):
            configure_currencies(wrong)
    assert "XNINE" not in EXPONENTS
    table: Any = EXPONENTS  # whose type has no assignment either
    with pytest.raises(TypeError):
        table["XYZ"] = 2
