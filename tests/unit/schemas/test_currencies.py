"""The list of currencies against ISO 4217 as the package iso4217 holds it, and the codes that have ended."""

from __future__ import annotations

from typing import Final

import pytest
from iso4217 import Currency

from schemas.events import Amount
from schemas.money import EXPONENTS, minor_units

FUNDS: Final = frozenset(["BOV", "CHE", "CHW", "COU", "MXV", "USN"])
"""Codes of funds, which the package does not mark. CLF and UYW are two more, and are in the list."""

ENDED: Final = ("ANG", "BGN", "CUC", "HRK", "SLL", "ZWL")


def published() -> dict[str, int]:
    """Return the decimals of what a wallet could hold: metals and units of account have none."""
    return {
        currency.code: currency.exponent
        for currency in Currency
        if currency.exponent is not None and currency.code not in FUNDS
    }


def test_every_currency_of_iso_4217_has_its_decimals() -> None:
    assert len(published()) > 150
    ours = {code: EXPONENTS.get(code) for code in published()}
    assert ours == published()


def test_codes_of_funds_are_left_out() -> None:
    assert {currency.code for currency in Currency} > FUNDS
    assert not FUNDS & set(EXPONENTS)


def test_metals_and_test_codes_are_left_out() -> None:
    without_decimals = {currency.code for currency in Currency if currency.exponent is None}
    assert {"XAU", "XTS", "XXX"} <= without_decimals
    assert not without_decimals & set(EXPONENTS)


@pytest.mark.parametrize("code", ENDED)
def test_a_code_that_has_ended_is_kept_for_late_events(code: str) -> None:
    assert code not in published()
    assert minor_units(Amount(10050, 2), code) == 10050


def test_what_is_beyond_iso_4217_is_named() -> None:
    beyond = set(EXPONENTS) - set(published()) - set(ENDED)
    # Other tests of the process may have configured currencies: their names begin with X or K.
    assert {code for code in beyond if len(code) == 3} == {"BTC", "ETH"}
    assert {"USDT", "USDC"} <= beyond
