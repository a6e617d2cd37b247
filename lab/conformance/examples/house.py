"""The messages of the casino's own cashier and back office: every operation."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from lab.conformance.examples.fill import Example, Expected, Fill, plain
from streams.providers.dialect import KeyMaterial

KEYS: Final[KeyMaterial] = {
    "hmac_hex": "a81c6f40d2937be5540f1e9d8c3b7a26e7f5d4c3b2a1908f7e6d5c4b3a291807"
}
BALANCE_DECIMALS: Final = 0

_ACTOR: Final = {"actor": "ops-7", "reason": 'said <so> & "meant" it'}


def examples(fill: Fill) -> list[Example]:
    """Return every operation, some in two forms, and a heartbeat, which names no player."""
    return [*_cashier(fill), *_back_office(fill), _wagered_bonus(fill, 17), _heartbeat(fill)]


def _cashier(fill: Fill) -> list[Example]:
    """Return a deposit, a withdrawal in each state, adjustments, bonuses."""
    of_withdrawal = {"withdrawal_id": fill.tx(1)}
    refusal = of_withdrawal | {"reason": "no"}
    requested = ("withdrawal.requested", fill.tx(1))
    reversal = ("WITHDRAWAL_REVERSAL", None)
    campaign = {"campaign_id": fill.campaign}
    return [
        _money(fill, "deposit.opened", 0, "INFORMATIONAL", {"psp": "adyen"}),
        _money(fill, "withdrawal.requested", 1, "WITHDRAWAL"),
        _message(fill, "withdrawal.approved", 2, ("INFORMATIONAL", None), of_withdrawal, requested),
        _message(fill, "withdrawal.paid", 3, ("WITHDRAWAL", None), of_withdrawal, requested),
        _message(fill, "withdrawal.refused", 4, reversal, refusal, requested),
        _money(fill, "adjustment", 5, "ADJUSTMENT", _ACTOR),
        _money(fill, "adjustment", 6, "ADJUSTMENT", _ACTOR, below_zero=True),
        _money(fill, "bonus.granted", 7, "BONUS_GRANT", campaign),
        _money(fill, "bonus.released", 8, "BONUS_RELEASE", campaign),
        _money(fill, "bonus.forfeited", 9, "BONUS_FORFEIT", campaign),
    ]


def _back_office(fill: Fill) -> list[Example]:
    """Return blocks and limits, and an adjustment that a second person approves."""
    state = ("PLAYER_STATE", None)
    approval = {"actor": "ops-8", "proposal_id": fill.tx(13)}
    proposed = ("adjustment.proposed", fill.tx(13))
    return [
        _message(fill, "player.blocked", 10, state, {**_ACTOR, "alert_id": fill.uuid(99)}),
        _message(fill, "player.released", 11, state, _ACTOR),
        _money(fill, "player.limited", 12, "PLAYER_STATE", _ACTOR),
        _money(fill, "adjustment.proposed", 13, "INFORMATIONAL", _ACTOR),
        _message(fill, "adjustment.approved", 14, ("ADJUSTMENT", None), approval, proposed),
        _message(fill, "player.held", 15, state, _ACTOR | {"source": "kyc"}),
        _message(fill, "player.unlimited", 16, state, _ACTOR | {"currency": fill.currency}),
    ]


def _money(
    fill: Fill,
    operation: str,
    n: int,
    kind: str,
    more: Mapping[str, str] | None = None,
    *,
    below_zero: bool = False,
) -> Example:
    amount = -fill.amount(n) if below_zero else fill.amount(n)
    fields = {"amount": plain(amount), "currency": fill.currency, **(more or {})}
    return _message(fill, operation, n, (kind, amount), fields)


def _wagered_bonus(fill: Fill, n: int) -> Example:
    amount, wagering = fill.amount(n), fill.amount(n + 1)
    fields = {
        "operation": "bonus.granted",
        "id": fill.tx(n),
        "player_id": fill.player,
        "at": _at(fill),
    }
    fields |= {"campaign_id": fill.campaign, "currency": fill.currency, "amount": plain(amount)}
    legs = (("BONUS_GRANT", amount), ("WAGERING", wagering))
    expected = Expected("bonus.granted", fill.tx(n), fill.player, legs)
    name = "bonus.granted, to be wagered"
    return _sign(fill, name, fields | {"wagering_amount": plain(wagering)}, fill.player, expected)


def _message(
    fill: Fill,
    operation: str,
    n: int,
    leg: tuple[str, Decimal | None],
    more: Mapping[str, str],
    reference: tuple[str, str] | None = None,
) -> Example:
    name = f"{operation} below zero" if leg[1] is not None and leg[1] < 0 else operation
    fields = {
        "operation": operation,
        "id": fill.tx(n),
        "player_id": fill.player,
        "at": _at(fill),
        **more,
    }
    expected = Expected(operation, fill.tx(n), fill.player, (leg,), reference)
    return _sign(fill, name, fields, fill.player, expected)


def _heartbeat(fill: Fill) -> Example:
    fields = {"operation": "heartbeat", "id": fill.uuid(50), "at": _at(fill)}
    expected = Expected("heartbeat", fill.uuid(50), None, (("HEARTBEAT", None),))
    return _sign(fill, "heartbeat", fields, fill.uuid(50), expected)


def _sign(
    fill: Fill, name: str, fields: Mapping[str, str], key: str, expected: Expected
) -> Example:
    body = json.dumps(fields, ensure_ascii=False).encode()
    signature = hmac.digest(bytes.fromhex(KEYS["hmac_hex"]), body, "sha256").hex().encode()
    headers = fill.headers("application/json", "/house/v1", {"x-house-signature": signature})
    return Example(name, headers, key.encode(), body, (expected,))


def _at(fill: Fill) -> str:
    # The cashier prints the time of the event, not of the message: a retry has the same time.
    seconds, ms = divmod(fill.first_at_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"
