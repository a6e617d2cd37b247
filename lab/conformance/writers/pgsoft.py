"""PG Soft's wallet calls: forms, the shared secrets inside.

Field names as public integrators have them. One TransferInOut is a bet and its win; the net of both
moves. A spin of a feature and a free game bet nothing. Amounts are decimal text, at times with an
exponent. `is_validate_bet` asks whether a transfer that went unanswered has arrived.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from random import Random
from types import MappingProxyType
from typing import ClassVar, Final

from lab.conformance.intents import Game, Intent, IntentLeg, Verb, scale_of
from lab.conformance.writers.encoding import form_body
from lab.conformance.writers.ids import Ids
from lab.conformance.writers.writer import FORM, Message, Secrets, Sending, Writer
from schemas.money import format_minor

_THOUSANDS: Final = (
    "BIF",
    "CDF",
    "COP",
    "GNF",
    "IDR",
    "IQD",
    "IRR",
    "KHR",
    "KRW",
    "LAK",
    "LBP",
    "MGA",
    "MMK",
    "MNT",
    "PYG",
    "RWF",
    "SLL",
    "TZS",
    "UGX",
    "UZS",
    "VND",
)
EXPONENTS_OF_UNITS: Final[Mapping[str, int]] = MappingProxyType(dict.fromkeys(_THOUSANDS, 3))
"""Power of ten of the unit that amounts are printed in, by currency: 3 where it is a thousand.

A currency that is not named is printed in major units. Source: two integrators' public lists.
"""

_ADJUSTMENT_TYPE: Final = "900"
_CASH_WALLET: Final = "C"
_REAL_MONEY: Final = "1"


class PGSoftWriter(Writer):
    """Writes spins, free games and adjustments."""

    provider = "pgsoft"
    says: ClassVar = {
        Verb.SPIN: "TransferInOut",
        Verb.FREE_SPIN: "TransferInOut",
        Verb.GAME_ADJUSTMENT: "Adjustment",
    }
    secret_names = ("secret_key", "operator_token")
    games = (Game("1101"), Game("1134"), Game("1207"), Game("1318"))

    def write(self, items: Sequence[Intent], sending: Sending, secrets: Secrets | None) -> Message:
        """Write one call; the secrets are inside."""
        [intent] = items
        return self.wrap(intent, self.fields(intent, sending, secrets), sending.style)

    def fields(self, intent: Intent, sending: Sending, secrets: Secrets | None) -> dict[str, str]:
        """Build the fields of the form; further ones of a transfer are the intent's details."""
        fields: dict[str, str] = {}
        if secrets is not None:
            fields |= {name: secrets[name] for name in self.secret_names}
        fields["player_name"] = intent.player or ""
        if intent.verb is Verb.GAME_ADJUSTMENT:
            return fields | _adjustment_fields(intent, sending)
        return fields | _transfer_fields(intent, sending) | dict(intent.details)

    def wrap(
        self, intent: Intent, fields: Mapping[str, str], style: Random | None = None
    ) -> Message:
        """Return the message with these fields."""
        path = f"/pgsoft/Cash/{intent.operation}"
        return Message(intent.player or "", form_body(fields, style), path, FORM)

    def draw_id(self, ids: Ids, verb: Verb, at_ms: int) -> str:
        """Draw a number."""
        del verb, at_ms
        return str(ids.number())

    def draw_campaign(self, ids: Ids) -> str:
        """Draw a number."""
        return str(ids.number())


def _transfer_fields(intent: Intent, sending: Sending) -> dict[str, str]:
    """Build the fields of a spin. One without a leg of a bet bets nothing."""
    bet, win = intent.leg("BET"), intent.leg("WIN")
    assert win is not None, "every spin has a win, of zero where it is lost"
    bet_minor, win_minor, currency = _minor_of(bet), _minor_of(win), win.currency or ""
    style, round_id = sending.style, intent.round_id or ""
    fields = {
        "game_id": intent.game or "",
        "parent_bet_id": round_id,
        "bet_id": round_id,
        "currency_code": currency,
        "bet_amount": amount_of(bet_minor, currency, style),
        "win_amount": amount_of(win_minor, currency, style),
        "transfer_amount": amount_of(win_minor - bet_minor, currency, style),
        "real_transfer_amount": money_of(win_minor - bet_minor, currency),
        "transaction_id": intent.tx_id,
        "wallet_type": _CASH_WALLET,
        "bet_type": _REAL_MONEY,
        "create_time": str(intent.at_ms),
        "updated_time": str(sending.at_ms),
        "is_validate_bet": str(style is not None),
        "is_adjustment": "False",
        "is_end_round": str(intent.round_closed),
        "is_feature": "False",
    }
    if intent.session is not None:
        fields["operator_player_session"] = intent.session.token
    if win.campaign:
        fields |= {
            "free_game_transaction_id": win.campaign,
            "free_game_name": "weekend",
            "free_game_id": "12",
        }
    return fields


def _adjustment_fields(intent: Intent, sending: Sending) -> dict[str, str]:
    [leg] = intent.legs
    currency = leg.currency or ""
    return {
        "currency_code": currency,
        "transfer_amount": amount_of(_minor_of(leg), currency, sending.style),
        "real_transfer_amount": money_of(_minor_of(leg), currency),
        "adjustment_id": intent.tx_id,
        "adjustment_transaction_id": intent.tx_id,
        "adjustment_time": str(sending.at_ms),
        "transaction_type": _ADJUSTMENT_TYPE,
        "bet_type": _REAL_MONEY,
    }


def amount_of(minor: int, currency: str, style: Random | None = None) -> str:
    """Format an amount in the currency's unit; a style adds zeros, or prints an exponent."""
    zeros = 0 if style is None else style.choice((0, 0, 1, 2))
    decimals = scale_of(currency) + EXPONENTS_OF_UNITS.get(currency.upper(), 0)
    text = format_minor(minor * int(10**zeros), decimals + zeros)
    has_exponent = style is not None and style.random() < 0.3
    return f"{Decimal(text):E}" if has_exponent else text


def money_of(minor: int, currency: str) -> str:
    """Format an amount in major units, as in `real_transfer_amount`."""
    return format_minor(minor, scale_of(currency))


def _minor_of(leg: IntentLeg | None) -> int:
    return 0 if leg is None or leg.minor is None else leg.minor


WRITER: Final = PGSoftWriter()
