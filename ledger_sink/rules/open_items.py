"""What waits for a person: which decisions are open items, and how much money each is about."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ledger_sink.rules.journal import OpenItem, Transfer
from schemas.errors import Rejected
from schemas.events import WalletTransaction
from schemas.money import minor_units

_SUSPENSE: Final = "suspense:"


def open_item_of(
    event: WalletTransaction, decision: int, transfers: Iterable[Transfer], opened_at_ms: int
) -> OpenItem:
    """Return the open item of an UNRESOLVED decision.

    `transfers` are what it moved: where some of it is in suspense, that is the item's money.
    """
    held: dict[str, int] = {}
    for transfer in transfers:
        sign = transfer.credit.startswith(_SUSPENSE) - transfer.debit.startswith(_SUSPENSE)
        if sign:
            held[transfer.currency] = held.get(transfer.currency, 0) + sign * transfer.amount_minor
    for currency, amount_minor in held.items():  # an event has one currency
        if amount_minor:
            return _item(event, decision, opened_at_ms, currency, amount_minor, in_suspense=True)
    currency_named, named_minor = _named_amount(event)
    return _item(event, decision, opened_at_ms, currency_named, named_minor, in_suspense=False)


def _item(
    event: WalletTransaction,
    decision: int,
    opened_at_ms: int,
    currency: str | None,
    amount_minor: int | None,
    *,
    in_suspense: bool,
) -> OpenItem:
    return OpenItem(
        event.event_id,
        decision,
        event.provider,
        event.player_id,
        currency,
        amount_minor,
        in_suspense,
        opened_at_ms,
    )


def _named_amount(event: WalletTransaction) -> tuple[str | None, int | None]:
    """Return currency and sum of an event's legs; None where a leg does not state them."""
    currencies = {leg.currency for leg in event.legs}
    currency = currencies.pop() if len(currencies) == 1 else None
    amounts = [leg.amount for leg in event.legs if leg.amount is not None]
    if currency is None or not amounts:
        return currency, None
    try:
        total = sum(minor_units(amount, currency) for amount in amounts)
    except Rejected:
        return currency, None
    return currency, total if -(2**63) <= total < 2**63 else None
