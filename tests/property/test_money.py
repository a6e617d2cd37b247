"""Any number that can be printed: exactly as `decimal` reads it, or refused; never rounded, never a float."""

from __future__ import annotations

from decimal import Context, Decimal, localcontext

from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import RejectCode, Rejected
from schemas.events import Amount
from schemas.money import (
    AMOUNT_MAX,
    EXPONENTS,
    SCALE_MAX,
    amount_from_text,
    format_minor,
    minor_units,
    truncate,
)

DIGITS = st.text("0123456789", max_size=25)
EXACT = Context(prec=200)


@st.composite
def printed(draw: st.DrawFn) -> str:
    whole, fraction = draw(DIGITS), draw(DIGITS)
    number = draw(st.sampled_from(["", "-", "+"])) + (whole or ("0" if not fraction else ""))
    if fraction or draw(st.booleans()):
        number += "." + fraction
    if draw(st.booleans()):
        number += draw(st.sampled_from("eE")) + str(draw(st.integers(-40, 40)))
    return number


AMOUNTS = st.builds(
    Amount,
    st.integers(-AMOUNT_MAX, AMOUNT_MAX) | st.integers(-(10**6), 10**6),
    st.integers(0, SCALE_MAX),
)
CURRENCIES = st.sampled_from(sorted(EXPONENTS))


def value_of(amount: Amount) -> Decimal:
    with localcontext(EXACT):
        return Decimal(amount.unscaled).scaleb(-amount.scale)


@given(printed())
def test_an_amount_is_exactly_what_was_printed_or_refused(text):
    try:
        amount = amount_from_text(text)
    except Rejected as refusal:
        reason = refusal.reason
    else:
        assert value_of(amount) == Decimal(text)
        printed_scale = max(0, -int(Decimal(text).as_tuple().exponent))
        # Zeros at the end are dropped only where the number would not fit with them.
        assert amount.scale == printed_scale or abs(amount.unscaled) * 10 > AMOUNT_MAX
        return
    assert reason is RejectCode.BAD_AMOUNT
    assert not fits(text)


def fits(text: str) -> bool:
    with localcontext(EXACT):
        number = Decimal(text)
        exponent = int(number.as_tuple().exponent)
        scale = max(0, -int(number.normalize().as_tuple().exponent))
        # Zero times 10^31 would fit, but it is not a number that anyone prints.
        return (
            len(text) <= 64
            and abs(exponent) <= SCALE_MAX
            and abs(number.scaleb(scale)) <= AMOUNT_MAX
        )


@given(st.text(max_size=70))
def test_any_text_is_an_amount_or_refused(text):
    try:
        amount_from_text(text)
    except Rejected as refusal:
        reason = refusal.reason
    else:
        Decimal(text)
        return
    assert reason is RejectCode.BAD_AMOUNT


@given(AMOUNTS, CURRENCIES)
def test_minor_units_are_exact_or_refused(amount, currency):
    with localcontext(EXACT):
        expected = value_of(amount).scaleb(EXPONENTS[currency])
    try:
        minor = minor_units(amount, currency)
    except Rejected as refusal:
        reason = refusal.reason
    else:
        assert minor == expected
        assert type(minor) is int
        return
    if expected != expected.to_integral_value():
        assert reason is RejectCode.AMOUNT_SCALE
    else:
        assert reason is RejectCode.BAD_AMOUNT
        assert abs(expected) > AMOUNT_MAX


@given(st.integers(-(10**12), 10**12), CURRENCIES)
def test_minor_units_come_back_from_what_a_person_reads(minor, currency):
    assert (
        minor_units(amount_from_text(format_minor(minor, EXPONENTS[currency])), currency) == minor
    )


@given(AMOUNTS, st.integers(0, SCALE_MAX))
def test_truncation_takes_less_than_one_digit_and_never_adds(amount, scale):
    cut = truncate(amount, scale)
    assert cut.scale == min(scale, amount.scale)
    assert abs(value_of(cut)) <= abs(value_of(amount))
    with localcontext(EXACT):
        assert abs(value_of(amount) - value_of(cut)) < Decimal(1).scaleb(-scale)
    assert value_of(cut) * value_of(amount) >= 0
