"""The messages of the casino's own cashier and back office: every operation."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from lab.conformance.examples.fill import Example, Fill
from lab.conformance.examples.written import ExampleWriter
from lab.conformance.intents import Intent, IntentLeg, Verb
from lab.conformance.writers.house import OF_ITEMS, WRITER
from schemas.identity import ENTRY, event_id
from streams.providers.dialect import KeyMaterial

KEYS: Final[KeyMaterial] = {
    "hmac_hex": "a81c6f40d2937be5540f1e9d8c3b7a26e7f5d4c3b2a1908f7e6d5c4b3a291807"
}
BALANCE_DECIMALS: Final = 0

_HOUSE: Final = ExampleWriter(WRITER, KEYS)
_ACTOR: Final = (("actor", "ops-7"), ("reason", 'said <so> & "meant" it'))


def examples(fill: Fill) -> list[Example]:
    """Return every operation, some in two forms, and a heartbeat, which names no player."""
    return [
        _write(fill, intent)
        for intent in (*_cashier(fill), *_back_office(fill), *_operators(fill), *_others(fill))
    ]


def _write(fill: Fill, intent: Intent) -> Example:
    below_zero = any(leg.minor is not None and leg.minor < 0 for leg in intent.legs)
    name = f"{intent.operation} below zero" if below_zero else intent.operation
    if intent.leg("WAGERING"):
        name = f"{intent.operation}, to be wagered"
    if intent.verb in OF_ITEMS and intent.reference is not None:
        named = (ENTRY, event_id(*intent.reference))
        return _HOUSE.example(fill, intent, name=name, reference=named)
    return _HOUSE.example(fill, intent, name=name)


def _cashier(fill: Fill) -> list[Intent]:
    """Return a deposit, a withdrawal in each state, adjustments, bonuses."""
    make, money = partial(_make, fill), partial(_money, fill)
    of_withdrawal: dict[str, Any] = {"refers_to": (Verb.WITHDRAWAL_REQUESTED, fill.tx(1))}
    of_campaign = {"campaign": fill.campaign}
    return [
        money(Verb.DEPOSIT_OPENED, 0, details=(("psp", "adyen"),)),
        money(Verb.WITHDRAWAL_REQUESTED, 1),
        make(Verb.WITHDRAWAL_APPROVED, 2, **of_withdrawal),
        make(Verb.WITHDRAWAL_PAID, 3, **of_withdrawal),
        make(Verb.WITHDRAWAL_REFUSED, 4, details=(("reason", "no"),), **of_withdrawal),
        money(Verb.ADJUSTMENT, 5, details=_ACTOR),
        make(Verb.ADJUSTMENT, 6, -fill.amount(6), details=_ACTOR),
        money(Verb.BONUS_GRANTED, 7, **of_campaign),
        money(Verb.BONUS_RELEASED, 8, **of_campaign),
        money(Verb.BONUS_FORFEITED, 9, **of_campaign),
    ]


def _back_office(fill: Fill) -> list[Intent]:
    """Return blocks and limits, and an adjustment that a second person approves."""
    make, money = partial(_make, fill, details=_ACTOR), partial(_money, fill, details=_ACTOR)
    approval = (("actor", "ops-8"),)
    proposed = (Verb.ADJUSTMENT_PROPOSED, fill.tx(13))
    unlimited = make(Verb.PLAYER_UNLIMITED, 16)
    return [
        make(Verb.PLAYER_BLOCKED, 10, details=(*_ACTOR, ("alert_id", fill.uuid(99)))),
        make(Verb.PLAYER_RELEASED, 11),
        money(Verb.PLAYER_LIMITED, 12),
        money(Verb.ADJUSTMENT_PROPOSED, 13),
        make(Verb.ADJUSTMENT_APPROVED, 14, refers_to=proposed, details=approval),
        make(Verb.PLAYER_HELD, 15, details=(*_ACTOR, ("source", "kyc"))),
        replace(unlimited, legs=(IntentLeg("PLAYER_STATE", None, fill.currency),)),
    ]


def _operators(fill: Fill) -> list[Intent]:
    """Return acts on money in suspense, an answer and a limit, each with its approval."""
    make, without = partial(_make, fill), partial(_without_player, fill)
    item: dict[str, Any] = {"refers_to": (Verb.DEPOSIT_OPENED, fill.tx(0)), "details": _ACTOR}

    def approval(verb: Verb, n: int) -> dict[str, Any]:
        return {"refers_to": (verb, fill.tx(n)), "details": (("actor", "ops-8"),)}

    return [
        make(Verb.SUSPENSE_ASSIGNED, 20, **item),
        make(Verb.ASSIGNMENT_PROPOSED, 21, **item),
        make(Verb.ASSIGNMENT_APPROVED, 22, **approval(Verb.ASSIGNMENT_PROPOSED, 21)),
        without(Verb.SUSPENSE_RETURNED, 23, **item),
        without(Verb.RETURN_PROPOSED, 24, **item),
        without(Verb.RETURN_APPROVED, 25, **approval(Verb.RETURN_PROPOSED, 24)),
        without(Verb.ITEM_ANSWERED, 26, **item),
        without(Verb.LIMIT_PROPOSED, 27, fill.amount(27), details=_ACTOR),
        without(Verb.LIMIT_APPROVED, 28, **approval(Verb.LIMIT_PROPOSED, 27)),
    ]


def _without_player(
    fill: Fill, verb: Verb, n: int, amount: Decimal | None = None, **more: Any
) -> Intent:
    return replace(_make(fill, verb, n, amount, **more), player=None)


def _others(fill: Fill) -> list[Intent]:
    """Return a bonus that is to be wagered, and a sign of life."""
    legs = [("BONUS_GRANT", fill.amount(17)), ("WAGERING", fill.amount(18))]
    wagered = _make(fill, Verb.BONUS_GRANTED, 17, legs=legs, campaign=fill.campaign)
    heartbeat = _HOUSE.intent(fill, Verb.HEARTBEAT, fill.uuid(50))
    return [wagered, replace(heartbeat, player=None)]


def _make(fill: Fill, verb: Verb, n: int, amount: Decimal | None = None, **more: Any) -> Intent:
    return _HOUSE.intent(fill, verb, fill.tx(n), amount, **more)


def _money(fill: Fill, verb: Verb, n: int, **more: Any) -> Intent:
    return _make(fill, verb, n, fill.amount(n), **more)
