"""Ledger policies of providers: data of the dialects, so that no posting rule names a provider."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Treatment: TypeAlias = Literal["BOOK", "REFUSE"]
Placement: TypeAlias = Literal["BOOK", "SUSPENSE"]


class LedgerPolicy(msgspec.Struct, frozen=True):
    """Treatment of one provider's events where providers differ.

    What a rollback moves is the same for all.

    `refused_id_reusable`: a new attempt under the id of a refused bet is decided again (Microgaming
    sends a bet that was refused for funds again under its actionid with another amount); otherwise
    the refusal is final.

    `win_without_bet`: a win that names a bet the ledger has not seen (100HP answers 605, Play'n GO
    allows it).

    `win_after_rollback`: a win that names a bet which was rolled back (100HP answers 608).

    `rollback_after_win`: a rollback of a bet that a win has named (100HP answers 609).

    `reversal_beyond_payment`: money that a payment provider takes from a payment, or gives back to
    it, of more than the payment or in another currency: it is booked with the player, or waits in
    suspense for a person, with an alert.

    `opened_amount_differs`: a payment whose amount or currency is not that of the deposit which the
    cashier opened for this provider: it is booked as it came, or waits in suspense. Either way it
    raises an alert.

    `exclusive_operations`: operations of which one transaction id is only one. What comes under the
    same id as another of them moves nothing and raises a risk signal: the provider's signature
    covers the body and not the path that names the operation (Hub88), so anyone who has seen a
    signed bet could have it paid as a win. Not for a provider that uses one id for several.

    `open_round_max_age_ms`: a round open for longer is proposed for `open_round_action` (100HP: two
    weeks, then the wallet rolls the bet back itself); None: never.
    """

    refused_id_reusable: bool = False
    win_without_bet: Treatment = "BOOK"
    win_after_rollback: Treatment = "BOOK"
    rollback_after_win: Treatment = "BOOK"
    reversal_beyond_payment: Placement = "BOOK"
    opened_amount_differs: Placement = "BOOK"
    exclusive_operations: tuple[str, ...] = ()
    open_round_max_age_ms: int | None = None
    open_round_action: Literal["ROLLBACK", "CLOSE"] = "ROLLBACK"


DEFAULT_POLICY = LedgerPolicy()
CARD_POLICY = LedgerPolicy(reversal_beyond_payment="SUSPENSE", opened_amount_differs="SUSPENSE")
"""Of card processors: they are told what to take, and what they take back was paid to them before,
in the same currency.
"""
