"""Money as exact integers: printed amounts, and minor units of currencies. No float anywhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Final

from schemas.errors import RejectCode, Rejected, UsageError
from schemas.events import Amount

AMOUNT_MAX: Final = 2**63 - 1
SCALE_MAX: Final = 30  # 23 printed decimals have been seen (RTG); more is not money

# ISO 4217, list one as of amendment 180 (2026-01-01): minor units of the currencies that do not
# have 2; all others of the list do. Codes of funds are left out, since no wallet holds them, but
# for CLF and UYW.
_EXPONENT_NOT_TWO: Final = {
    **dict.fromkeys(
        "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0
    ),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
    "CLF": 4,
    "UYW": 4,
}
_EXPONENT_TWO: Final = dict.fromkeys(
    (
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN "
        "BZD CAD CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS "
        "GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR "
        "LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD "
        "PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN "
        "SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XAD XCD XCG YER "
        "ZAR ZMW ZWG"
    ).split(),
    2,
)
# Refunds and chargebacks come for more than a year after a code has ended, and old wallets hold
# what they hold.
_ENDED: Final = dict.fromkeys("ANG BGN CUC HRK SLL ZWL".split(), 2)
_CRYPTO: Final = {"BTC": 8, "ETH": 8, "USDT": 6, "USDC": 6}
_exponents: Final = {**_EXPONENT_TWO, **_EXPONENT_NOT_TWO, **_ENDED, **_CRYPTO}
EXPONENTS: Final[Mapping[str, int]] = MappingProxyType(_exponents)
"""Decimals of the minor unit by currency code: ISO 4217, the crypto-currencies that casinos keep
wallets in, and those that an installation has configured."""

EXPONENT_MAX: Final = 8

_DECIMAL: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_PLAIN_MAX: Final = 18
_CODE: Final = re.compile(r"[A-Z][A-Z0-9]{2,9}", re.ASCII)
_POWERS: Final = tuple(10**n for n in range(SCALE_MAX + 1))


def amount_from_text(text: str) -> Amount:
    """Read a decimal number exactly as printed.

    PG Soft sends scientific notation, which is read too.

    Raises Rejected(BAD_AMOUNT) for anything that is not a finite decimal of at most 64 bits and 30
    decimals.
    """
    whole, _, fraction = text.partition(".")
    # Nearly all amounts are digits with a point in them; any 18 digits fit 64 bits.
    if (
        len(text) <= _PLAIN_MAX
        and text.isascii()
        and whole.isdigit()
        and (not fraction or fraction.isdigit())
    ):
        return Amount(int(whole + fraction), len(fraction))
    if len(text) > 64 or not _DECIMAL.fullmatch(text):
        raise Rejected(RejectCode.BAD_AMOUNT, f"{text[:64]!r} is not a decimal number")
    try:
        sign, digits, exponent = Decimal(text).as_tuple()
    except InvalidOperation as error:
        raise Rejected(RejectCode.BAD_AMOUNT, f"{text[:64]!r} is not a decimal number") from error
    assert isinstance(exponent, int)
    unscaled = int("".join(map(str, digits)))
    if exponent > 0:
        if exponent > len(_POWERS) - 1:
            raise Rejected(RejectCode.BAD_AMOUNT, f"{text!r} does not fit 64 bits")
        unscaled *= _POWERS[exponent]
    scale = max(0, -exponent)
    while unscaled > AMOUNT_MAX and scale and unscaled % 10 == 0:
        # RTG prints 1.5 with 23 decimals: trailing zeros are not digits of the amount and need not
        # fit 64 bits.
        unscaled, scale = unscaled // 10, scale - 1
    return amount_of(-unscaled if sign else unscaled, scale)


def amount_of(unscaled: int, scale: int) -> Amount:
    """Return an amount of 64 bits and up to 30 decimals. Raises Rejected(BAD_AMOUNT)."""
    if not -AMOUNT_MAX <= unscaled <= AMOUNT_MAX or not 0 <= scale <= SCALE_MAX:
        detail = f"{unscaled} at scale {scale} does not fit 64 bits and {SCALE_MAX} decimals"
        raise Rejected(RejectCode.BAD_AMOUNT, detail)
    return Amount(unscaled, scale)


def configure_currencies(decimals: Mapping[str, int]) -> None:
    """Let wallets hold further currencies in this process; called once, when it is composed.

    Every process of an installation, and a replay too, must be given the same currencies. A
    currency's decimals never change: booked amounts would be read wrong. Raises UsageError for a
    code or a number that cannot be one, and for a change.
    """
    for code, exponent in decimals.items():
        if not _CODE.fullmatch(code):
            raise UsageError(
                f"currency {code[:16]!r}: write 3 to 10 capital letters and digits, a letter first"
            )
        if type(exponent) is not int or not 0 <= exponent <= EXPONENT_MAX:
            raise UsageError(
                f"currency {code}: {exponent!r} decimals; "
                f"give a whole number from 0 to {EXPONENT_MAX}"
            )
        if _exponents.get(code, exponent) != exponent:
            raise UsageError(
                f"currency {code} has {_exponents[code]} decimals; "
                f"they cannot be changed to {exponent}"
            )
    _exponents.update(decimals)


def exponent_of(currency: str) -> int:
    """Return the decimals of a currency's minor unit.

    Raises Rejected(BAD_CURRENCY) for a code that is not configured.
    """
    try:
        return EXPONENTS[currency]
    except KeyError:
        raise Rejected(
            RejectCode.BAD_CURRENCY, f"currency {currency[:16]!r} is not configured"
        ) from None


def minor_units(amount: Amount, currency: str) -> int:
    """Return the amount in the currency's minor units, exactly.

    Raises Rejected(AMOUNT_SCALE) where digits would be lost, Rejected(BAD_AMOUNT) outside 64 bits.
    """
    shift = exponent_of(currency) - amount.scale
    if shift >= 0:
        minor: int = amount.unscaled * _POWERS[shift]
    else:
        minor, rest = divmod(amount.unscaled, _POWERS[-shift])
        if rest:
            raise Rejected(
                RejectCode.AMOUNT_SCALE,
                f"{amount.unscaled} at scale {amount.scale} is not a whole number of "
                f"minor units of {currency}",
            )
    if not -AMOUNT_MAX <= minor <= AMOUNT_MAX:
        raise Rejected(
            RejectCode.BAD_AMOUNT, f"{minor} minor units of {currency} do not fit 64 bits"
        )
    return minor


def truncate(amount: Amount, scale: int) -> Amount:
    """Cut an amount toward zero to `scale` decimals.

    Only for providers whose document requires it (100HP).
    """
    if amount.scale <= scale:
        return amount
    magnitude = abs(amount.unscaled) // _POWERS[amount.scale - scale]
    return Amount(magnitude if amount.unscaled >= 0 else -magnitude, scale)


def format_minor(minor: int, scale: int) -> str:
    """Format minor units as a person reads them: 1234 at scale 2 is '12.34'."""
    digits = str(abs(minor)).rjust(scale + 1, "0")
    sign = "-" if minor < 0 else ""
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}" if scale else f"{sign}{digits}"
