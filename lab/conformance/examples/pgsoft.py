"""A round at PG Soft: bets and wins in one message, a feature, a free game, a prize."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Final

from lab.conformance.examples.fill import CURRENCIES as ORDINARY
from lab.conformance.examples.fill import Example, Fill, units
from lab.conformance.examples.written import ExampleWriter
from lab.conformance.intents import Intent, Verb
from lab.conformance.writers.pgsoft import WRITER, amount_of, money_of
from streams.providers.dialect import KeyMaterial

KEYS: Final[KeyMaterial] = {"secret_key": "pg-4c8f0d31aa", "operator_token": "pg-operator-19e7"}
BALANCE_DECIMALS: Final = 0
CURRENCIES: Final = (*ORDINARY, "VND", "IDR", "IQD")
"""The last three are printed in thousands; their wallets have 0, 2 and 3 decimals."""

_PGSOFT: Final = ExampleWriter(WRITER, KEYS)
_ZERO: Final = Decimal(0)


def examples(fill: Fill) -> list[Example]:
    """Return spins, a feature's spin, a free game, the question after a spin, corrections."""
    bet, won, lost, prize = (fill.amount(n) for n in range(4))
    spin, write = partial(_spin, fill), partial(_PGSOFT.example, fill)
    correct = partial(_PGSOFT.intent, fill, Verb.GAME_ADJUSTMENT)
    free = _PGSOFT.intent(fill, Verb.FREE_SPIN, fill.tx(3), won, campaign=fill.campaign)
    return [
        write(spin(0, bet, won)),
        write(spin(1, lost, _ZERO, is_end_round="True"), name="a lost spin", round_closed=True),
        write(spin(2, _ZERO, won, is_feature="True"), name="a feature's spin", decides=False),
        write(free, name="a free game"),
        write(
            spin(4, bet, won, is_validate_bet="True"), name="a spin that is sent again to be sure"
        ),
        write(correct(fill.tx(5), prize), name="a tournament's prize"),
        write(correct(fill.tx(6), -prize), name="a deduction"),
        _odd(fill, fill.tx(7), bet),
    ]


def _spin(fill: Fill, n: int, bet: Decimal, win: Decimal, **details: str) -> Intent:
    """Return a spin. A bet of zero counts as none, and the message is a win."""
    legs = [("BET", bet), ("WIN", win)] if bet else [("WIN", win)]
    fields = {"bet_id": str(fill.number(n)), **details}
    return _PGSOFT.intent(fill, Verb.SPIN, fill.tx(n), legs=legs, details=tuple(fields.items()))


def _odd(fill: Fill, tx_id: str, bet: Decimal) -> Example:
    """Return a spin in scientific notation, its currency in lower case, with odd fields.

    Some fields are empty, and one is unknown.
    """
    intent, minor = _spin(fill, 7, bet, _ZERO), units(bet, fill.scale)
    printed = Decimal(amount_of(minor, fill.currency))
    fields = {
        "transaction_id": tx_id,
        "transfer_amount": f"{-printed:E}",
        "real_transfer_amount": f"{Decimal(money_of(-minor, fill.currency)):E}",
        "bet_amount": f"{printed:E}",
        "win_amount": "0E+2",
        "novelty": "a=b&c d",
        "currency_code": fill.currency.lower(),
        "parent_bet_id": fill.round,
        "bet_id": tx_id,
        "game_id": fill.game,
        "updated_time": str(fill.at_ms),
        "create_time": str(fill.first_at_ms),
        "free_game_transaction_id": "",
        "is_end_round": "",
        **KEYS,
        "player_name": fill.player,
    }
    message, expected = WRITER.wrap(intent, fields), _PGSOFT.expect(intent)
    return _PGSOFT.wrap(fill, message, expected, name="a spin in scientific notation")
