"""Money in and out: deposits with their notices, captures, refunds, withdrawals, bonuses.

Also how the payment provider sends its notices: several of one merchant account in one request.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Final

from lab.sandbox.actions import Action, GameAction, HouseAction, PspBatch, PspItem
from lab.sandbox.agenda import Agenda
from lab.sandbox.ids import Ids
from lab.sandbox.players import Player
from lab.sandbox.seats import Deposit, Seat
from schemas.money import format_minor

AUTHORISATION_REFUSED_SHARE: Final = 0.04
CAPTURED_SHARE: Final = 0.7
WITHDRAWAL_SHARE: Final = 0.5  # of players who leave a table with funds left
WITHDRAWAL_OVERDRAWN_SHARE: Final = 0.03  # more than there is: the ledger must refuse it
WITHDRAWAL_REFUSED_SHARE: Final = 0.1
BONUS_SHARE: Final = 0.08  # of sittings
TOP_UP_SHARE: Final = 0.3  # of sittings, independent of the funds
REFUSALS: Final = ("Refused", "CVC Declined", "Not enough balance")


class Cashier:
    """The casino's cashier and the payment provider behind it."""

    def __init__(self, agenda: Agenda, rng: Random, ids: Ids) -> None:
        self._agenda = agenda
        self._rng = rng
        self._ids = ids
        self._reversible: list[Deposit] = []

    def first_deposit(
        self,
        seat: Seat,
        amount_minor: int,
        *,
        opened_at_ms: int,
        settled_at_ms: int,
        may_be_reversed: bool = True,
    ) -> tuple[HouseAction, PspItem]:
        """Plan a player's first deposit, opened and authorised at the given times."""
        opened = self._open_deposit(seat.player, amount_minor, opened_at_ms)
        deposit = self._credit_deposit(seat, opened.id, amount_minor)
        if may_be_reversed:
            self._reversible.append(deposit)
        return opened, _authorisation(deposit, settled_at_ms)

    def top_up(self, seat: Seat, at_ms: int) -> Iterable[Action]:
        """Open a further deposit; its notice comes some seconds later and may refuse the card."""
        if seat.awaits_deposit:
            return
        seat.awaits_deposit = True
        amount_minor = self._rng.choice(seat.player.purse.deposits_minor)
        opened = self._open_deposit(seat.player, amount_minor, at_ms)
        notify = partial(self._notify, seat, opened.id, amount_minor)
        self._agenda.plan(at_ms + self._rng.randint(2_000, 9_000), notify)
        yield opened

    def _open_deposit(self, player: Player, amount_minor: int, at_ms: int) -> HouseAction:
        fields = (*_money(player, amount_minor), ("psp", "adyen"))
        return HouseAction(at_ms, "deposit.opened", self._ids.uuid(), player, fields)

    def _notify(
        self, seat: Seat, reference: str, amount_minor: int, at_ms: int
    ) -> Iterable[Action]:
        seat.awaits_deposit = False
        if self._rng.random() < AUTHORISATION_REFUSED_SHARE:
            yield PspItem(
                at_ms=at_ms,
                event_code="AUTHORISATION",
                success=False,
                psp_reference=self._ids.psp_reference(),
                merchant_reference=reference,
                player=seat.player,
                amount_minor=amount_minor,
                reason=self._rng.choice(REFUSALS),
            )
            return
        deposit = self._credit_deposit(seat, reference, amount_minor)
        self._reversible.append(deposit)
        yield _authorisation(deposit, at_ms)
        if self._rng.random() < CAPTURED_SHARE:
            capture = partial(self._follow_up, "CAPTURE", deposit, success=True)
            self._agenda.plan(at_ms + self._rng.randint(5_000, 20_000), capture)

    def _credit_deposit(self, seat: Seat, reference: str, amount_minor: int) -> Deposit:
        seat.funds_minor += amount_minor
        return Deposit(seat, reference, self._ids.psp_reference(), amount_minor)

    def _follow_up(
        self, event_code: str, deposit: Deposit, at_ms: int, *, success: bool, reason: str = ""
    ) -> Iterable[Action]:
        yield PspItem(
            at_ms=at_ms,
            event_code=event_code,
            success=success,
            psp_reference=self._ids.psp_reference(),
            merchant_reference=deposit.merchant_reference,
            player=deposit.seat.player,
            amount_minor=deposit.amount_minor,
            original_reference=deposit.psp_reference,
            reason=reason,
        )

    def refund(self, at_ms: int, *, success: bool = True) -> Iterable[Action]:
        """Give one deposit back, whole; a refund that fails changes nothing."""
        reason = "" if success else "Insufficient balance on payment"
        return self._reverse("REFUND", at_ms, success=success, reason=reason)

    def charge_back(self, at_ms: int) -> Iterable[Action]:
        """Have the card holder's bank take a deposit back, even one that is spent."""
        return self._reverse("CHARGEBACK", at_ms, success=True, reason="Other Fraud")

    def _reverse(
        self, event_code: str, at_ms: int, *, success: bool, reason: str
    ) -> Iterable[Action]:
        if not self._reversible:  # few players, and all that they ever deposited has gone back
            return ()
        # Preferably from a player who still has it; after ten draws the last one is taken.
        for _ in range(10):
            deposit = self._rng.choice(self._reversible)
            if deposit.seat.funds_minor >= deposit.amount_minor:
                break
        if success:
            self._reversible.remove(deposit)
            deposit.seat.funds_minor -= deposit.amount_minor
        return self._follow_up(event_code, deposit, at_ms, success=success, reason=reason)

    def after_table(self, seat: Seat, at_ms: int) -> Iterable[Action]:
        """Let a player who leaves a table withdraw half of their funds, or more than they have.

        The decision follows some seconds later, the payment after that.
        """
        purse = seat.player.purse
        unit = purse.stakes_minor[0]
        half = seat.funds_minor // 2 // unit * unit
        if half < purse.stakes_minor[-1] or self._rng.random() >= WITHDRAWAL_SHARE:
            return
        id_ = self._ids.uuid()
        if self._rng.random() < WITHDRAWAL_OVERDRAWN_SHARE:
            requested = seat.funds_minor + purse.deposits_minor[-1]
        else:
            requested = half
            seat.funds_minor -= half
            self._agenda.plan(
                at_ms + self._rng.randint(3_000, 15_000),
                partial(self._decide_withdrawal, seat, id_, half),
            )
        yield HouseAction(
            at_ms, "withdrawal.requested", id_, seat.player, _money(seat.player, requested)
        )

    def _decide_withdrawal(
        self, seat: Seat, withdrawal: str, amount_minor: int, at_ms: int
    ) -> Iterable[Action]:
        which = ("withdrawal_id", withdrawal)
        if self._rng.random() < WITHDRAWAL_REFUSED_SHARE:
            seat.funds_minor += amount_minor
            fields = (which, ("reason", "documents missing"))
            yield HouseAction(at_ms, "withdrawal.refused", self._ids.uuid(), seat.player, fields)
            return
        self._agenda.plan(
            at_ms + self._rng.randint(2_000, 20_000), partial(self._pay_out, seat.player, which)
        )
        yield HouseAction(at_ms, "withdrawal.approved", self._ids.uuid(), seat.player, (which,))

    def _pay_out(self, player: Player, which: tuple[str, str], at_ms: int) -> Iterable[Action]:
        yield HouseAction(at_ms, "withdrawal.paid", self._ids.uuid(), player, (which,))

    def before_table(self, seat: Seat, at_ms: int) -> Iterable[Action]:
        """Let some players deposit when they sit down, and grant some a bonus."""
        if self._rng.random() < TOP_UP_SHARE:
            yield from self.top_up(seat, at_ms)
        if self._rng.random() >= BONUS_SHARE:
            return
        amount_minor = seat.player.purse.deposits_minor[0] // 4
        seat.funds_minor += amount_minor
        fields = (*_money(seat.player, amount_minor), ("campaign_id", "welcome-back"))
        yield HouseAction(at_ms, "bonus.granted", self._ids.uuid(), seat.player, fields)


def _authorisation(deposit: Deposit, at_ms: int) -> PspItem:
    return PspItem(
        at_ms=at_ms,
        event_code="AUTHORISATION",
        success=True,
        psp_reference=deposit.psp_reference,
        merchant_reference=deposit.merchant_reference,
        player=deposit.seat.player,
        amount_minor=deposit.amount_minor,
    )


def _money(player: Player, amount_minor: int) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("amount", format_minor(amount_minor, player.purse.scale)), ("currency", player.currency)


BATCH_ITEMS_MAX: Final = 5
BATCH_WAIT_MS: Final = 1_500


@dataclass(slots=True)
class _OpenBatch:
    full_at: int
    due_ms: int
    items: list[PspItem] = field(default_factory=list)


def batch_notices(
    actions: Iterable[Action], rng: Random
) -> Iterator[GameAction | HouseAction | PspBatch]:
    """Gather the notices among the actions into batches; all other actions pass through.

    Actions come in order of time. A batch goes when it is full or has waited long enough. Items of
    different brands never share a batch: each brand has its own merchant account, and the connector
    knows the brand by the address that the request came to.
    """
    open_batches: dict[str, _OpenBatch] = {}
    for action in actions:
        yield from _pop_due(open_batches, action.at_ms)
        if not isinstance(action, PspItem):
            yield action
            continue
        brand = action.player.brand
        batch = open_batches.get(brand)
        if batch is None:
            batch = _OpenBatch(rng.randint(1, BATCH_ITEMS_MAX), action.at_ms + BATCH_WAIT_MS)
            open_batches[brand] = batch
        batch.items.append(action)
        if len(batch.items) == batch.full_at:
            del open_batches[brand]
            yield PspBatch(action.at_ms, tuple(batch.items))
    for batch in sorted(open_batches.values(), key=lambda batch: batch.due_ms):
        yield PspBatch(batch.due_ms, tuple(batch.items))


def _pop_due(open_batches: dict[str, _OpenBatch], now_ms: int) -> Iterator[PspBatch]:
    late = [brand for brand, batch in open_batches.items() if batch.due_ms <= now_ms]
    for brand in sorted(late, key=lambda brand: open_batches[brand].due_ms):
        batch = open_batches.pop(brand)
        yield PspBatch(batch.due_ms, tuple(batch.items))
