"""Money in and out: deposits with their notices, captures, refunds, withdrawals, bonuses.

Also how providers that batch send their messages: several of one brand in one request.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Final

from lab.conformance.intents import Identity, Intent, Verb
from lab.conformance.writers.ids import Ids
from lab.conformance.writers.writer import Writer
from lab.sandbox.actions import HOUSE, IntentRequest
from lab.sandbox.agenda import Agenda
from lab.sandbox.players import Player
from lab.sandbox.seats import Deposit, Seat, can_serve, choose, make_intent, payment_method

AUTHORISATION_REFUSED_SHARE: Final = 0.04
CAPTURED_SHARE: Final = 0.7
WITHDRAWAL_SHARE: Final = 0.5  # of players who leave a table with funds left
WITHDRAWAL_OVERDRAWN_SHARE: Final = 0.03  # more than there is: the ledger must refuse it
WITHDRAWAL_REFUSED_SHARE: Final = 0.1
BONUS_SHARE: Final = 0.08  # of sittings
TOP_UP_SHARE: Final = 0.3  # of sittings, independent of the funds
REFUSALS: Final = ("Refused", "CVC Declined", "Not enough balance")
TAKEN_BACK_SHARE: Final = 0.5  # of refunds and chargebacks, at providers that know it
PAYOUT_SHARE: Final = 0.5  # of withdrawals, at providers that report what they paid out

_NO_REGION: Final = ""  # a payment provider's connector knows no player, so no licence
_TAKEN_BACK_BY: Final = {
    Verb.REFUND: Verb.REFUND_RETURNED,
    Verb.CHARGEBACK: Verb.CHARGEBACK_WON,
}


class Cashier:
    """The casino's cashier and the payment providers behind it."""

    def __init__(
        self, agenda: Agenda, rng: Random, ids: Ids, writers: Mapping[str, Writer]
    ) -> None:
        self._agenda = agenda
        self._rng = rng
        self._ids = ids
        self._writers = writers
        self._house = writers[HOUSE]
        self._payers = [writer for writer in writers.values() if Verb.DEPOSIT in writer.says]
        self._reversible: list[Deposit] = []

    def first_deposit(
        self,
        seat: Seat,
        amount_minor: int,
        *,
        opened_at_ms: int,
        settled_at_ms: int,
        may_be_reversed: bool = True,
    ) -> tuple[Intent, Intent]:
        """Plan a player's first deposit, opened and authorised at the given times."""
        payer = self._choose_payer(seat.player)
        opened = self._open_deposit(seat.player, payer, amount_minor, opened_at_ms)
        deposit = self._credit_deposit(seat, payer, opened.identity, amount_minor, settled_at_ms)
        if may_be_reversed:
            self._reversible.append(deposit)
        return opened, self._authorisation(deposit, settled_at_ms)

    def top_up(self, seat: Seat, at_ms: int) -> Iterable[Intent]:
        """Open a further deposit; its notice comes some seconds later and may refuse the card."""
        if seat.awaits_deposit:
            return
        seat.awaits_deposit = True
        amount_minor = self._rng.choice(seat.player.purse.deposits_minor)
        payer = self._choose_payer(seat.player)
        opened = self._open_deposit(seat.player, payer, amount_minor, at_ms)
        notify = partial(self._notify, seat, payer, opened.identity, amount_minor)
        self._agenda.plan(at_ms + self._rng.randint(2_000, 9_000), notify)
        yield opened

    def _choose_payer(self, player: Player) -> Writer:
        payers = [writer for writer in self._payers if can_serve(writer, player)]
        return choose(self._rng, payers)

    def _open_deposit(self, player: Player, payer: Writer, amount_minor: int, at_ms: int) -> Intent:
        verb = Verb.DEPOSIT_OPENED
        tx_id = payer.shape_deposit_id(self._house.draw_id(self._ids, verb, at_ms))
        details = (("psp", payer.provider),)
        return make_intent(self._house, verb, player, tx_id, at_ms, amount_minor, details=details)

    def _say(
        self,
        verb: Verb,
        player: Player,
        at_ms: int,
        amount_minor: int | None = None,
        **more: Any,
    ) -> Intent:
        tx_id = self._house.draw_id(self._ids, verb, at_ms)
        return make_intent(self._house, verb, player, tx_id, at_ms, amount_minor, **more)

    def _notify(
        self, seat: Seat, payer: Writer, opened: Identity, amount_minor: int, at_ms: int
    ) -> Iterable[Intent]:
        seat.awaits_deposit = False
        if self._rng.random() < AUTHORISATION_REFUSED_SHARE:
            if Verb.DEPOSIT_REFUSED in payer.says:  # elsewhere the money just does not come
                yield self._refuse_deposit(seat.player, payer, opened, amount_minor, at_ms)
            return
        deposit = self._credit_deposit(seat, payer, opened, amount_minor, at_ms)
        self._reversible.append(deposit)
        yield self._authorisation(deposit, at_ms)
        if Verb.CAPTURE in payer.says and self._rng.random() < CAPTURED_SHARE:
            capture = partial(self._follow_up, Verb.CAPTURE, deposit)
            self._agenda.plan(at_ms + self._rng.randint(5_000, 20_000), capture)

    def _refuse_deposit(
        self, player: Player, payer: Writer, opened: Identity, amount_minor: int, at_ms: int
    ) -> Intent:
        tx_id = payer.draw_id(self._ids, Verb.DEPOSIT_REFUSED, at_ms)
        return make_intent(
            payer,
            Verb.DEPOSIT_REFUSED,
            player,
            tx_id,
            at_ms,
            amount_minor,
            reference=opened,
            deposit_id=opened[3],
            region=_NO_REGION,
            details=(
                ("method", payment_method(player)),
                ("reason", self._rng.choice(REFUSALS)),
            ),
        )

    def _credit_deposit(
        self, seat: Seat, payer: Writer, opened: Identity, amount_minor: int, at_ms: int
    ) -> Deposit:
        seat.funds_minor += amount_minor
        tx_id = payer.draw_id(self._ids, Verb.DEPOSIT, at_ms)
        identity = (seat.player.brand, payer.provider, payer.says[Verb.DEPOSIT], tx_id)
        return Deposit(seat, opened, identity, amount_minor)

    def _authorisation(self, deposit: Deposit, at_ms: int) -> Intent:
        return self._notice(
            Verb.DEPOSIT, deposit, deposit.identity[3], at_ms, reference=deposit.opened
        )

    def _notice(self, verb: Verb, deposit: Deposit, tx_id: str, at_ms: int, **more: Any) -> Intent:
        player = deposit.seat.player
        details = (("method", payment_method(player)), *more.pop("details", ()))
        return make_intent(
            self._writers[deposit.identity[1]],
            verb,
            player,
            tx_id,
            at_ms,
            deposit.amount_minor,
            deposit_id=deposit.opened[3],
            region=_NO_REGION,
            details=details,
            **more,
        )

    def _follow_up(
        self, verb: Verb, deposit: Deposit, at_ms: int, reason: str = ""
    ) -> Iterable[Intent]:
        tx_id = self._writers[deposit.identity[1]].draw_id(self._ids, verb, at_ms)
        details = (("reason", reason),) if reason else ()
        yield self._notice(verb, deposit, tx_id, at_ms, reference=deposit.identity, details=details)

    def refund(self, at_ms: int) -> Iterable[Intent]:
        """Give one deposit back, whole."""
        return self._reverse(Verb.REFUND, at_ms)

    def refuse_refund(self, at_ms: int) -> Iterable[Intent]:
        """Try to give one deposit back; it fails and changes nothing."""
        reason = "Insufficient balance on payment"
        return self._reverse(Verb.REFUND_REFUSED, at_ms, reason)

    def charge_back(self, at_ms: int) -> Iterable[Intent]:
        """Have the card holder's bank take a deposit back, even one that is spent."""
        return self._reverse(Verb.CHARGEBACK, at_ms, "Other Fraud")

    def _reverse(self, verb: Verb, at_ms: int, reason: str = "") -> Iterable[Intent]:
        known = [
            deposit
            for deposit in self._reversible
            if verb in self._writers[deposit.identity[1]].says
        ]
        if not known:  # few players, and all that they ever deposited has gone back
            return
        # Preferably from a player who still has it; after ten draws the last one is taken.
        for _ in range(10):
            deposit = self._rng.choice(known)
            if deposit.seat.funds_minor >= deposit.amount_minor:
                break
        if verb is not Verb.REFUND_REFUSED:
            self._reversible.remove(deposit)
            deposit.seat.funds_minor -= deposit.amount_minor
        yield from self._follow_up(verb, deposit, at_ms, reason)
        taken_back = _TAKEN_BACK_BY.get(verb)
        says = self._writers[deposit.identity[1]].says
        if taken_back is None or taken_back not in says:
            return
        if self._rng.random() < TAKEN_BACK_SHARE:
            back = partial(self._take_back, taken_back, deposit)
            self._agenda.plan(at_ms + self._rng.randint(5_000, 20_000), back)

    def _take_back(self, verb: Verb, deposit: Deposit, at_ms: int) -> Iterable[Intent]:
        deposit.seat.funds_minor += deposit.amount_minor
        return self._follow_up(verb, deposit, at_ms)

    def after_table(self, seat: Seat, at_ms: int) -> Iterable[Intent]:
        """Let a player who leaves a table withdraw half of their funds, or more than they have.

        The decision follows some seconds later, the payment after that.
        """
        purse = seat.player.purse
        unit = purse.stakes_minor[0]
        half = seat.funds_minor // 2 // unit * unit
        if half < purse.stakes_minor[-1] or self._rng.random() >= WITHDRAWAL_SHARE:
            return
        verb = Verb.WITHDRAWAL_REQUESTED
        requested = self._say(verb, seat.player, at_ms, half)
        if self._rng.random() < WITHDRAWAL_OVERDRAWN_SHARE:
            amount_minor = seat.funds_minor + purse.deposits_minor[-1]
            id_ = requested.tx_id
            yield make_intent(self._house, verb, seat.player, id_, at_ms, amount_minor)
            return
        seat.funds_minor -= half
        decide = partial(self._decide_withdrawal, seat, requested.identity, half)
        self._agenda.plan(at_ms + self._rng.randint(3_000, 15_000), decide)
        yield requested

    def _decide_withdrawal(
        self, seat: Seat, requested: Identity, amount_minor: int, at_ms: int
    ) -> Iterable[Intent]:
        if self._rng.random() < WITHDRAWAL_REFUSED_SHARE:
            seat.funds_minor += amount_minor
            yield self._say(
                Verb.WITHDRAWAL_REFUSED,
                seat.player,
                at_ms,
                reference=requested,
                details=(("reason", "documents missing"),),
            )
            return
        pay = partial(self._pay_out, seat.player, requested, amount_minor)
        self._agenda.plan(at_ms + self._rng.randint(2_000, 20_000), pay)
        yield self._say(Verb.WITHDRAWAL_APPROVED, seat.player, at_ms, reference=requested)

    def _pay_out(
        self, player: Player, requested: Identity, amount_minor: int, at_ms: int
    ) -> Iterable[Intent]:
        yield self._say(Verb.WITHDRAWAL_PAID, player, at_ms, reference=requested)
        payers = [
            writer
            for writer in self._payers
            if Verb.PAYOUT in writer.says and can_serve(writer, player)
        ]
        if payers and self._rng.random() < PAYOUT_SHARE:
            payer = choose(self._rng, payers)
            tx_id = payer.draw_id(self._ids, Verb.PAYOUT, at_ms)
            yield make_intent(
                payer, Verb.PAYOUT, player, tx_id, at_ms, amount_minor, region=_NO_REGION
            )

    def before_table(self, seat: Seat, at_ms: int) -> Iterable[Intent]:
        """Let some players deposit when they sit down, and grant some a bonus."""
        if self._rng.random() < TOP_UP_SHARE:
            yield from self.top_up(seat, at_ms)
        if self._rng.random() >= BONUS_SHARE:
            return
        amount_minor = seat.player.purse.deposits_minor[0] // 4
        seat.funds_minor += amount_minor
        yield self._say(
            Verb.BONUS_GRANTED, seat.player, at_ms, amount_minor, campaign="welcome-back"
        )


BATCH_WAIT_MS: Final = 1_500


@dataclass(slots=True)
class _OpenBatch:
    full_at: int
    due_ms: int
    intents: list[Intent] = field(default_factory=list)


def batch_intents(
    intents: Iterable[Intent], rng: Random, writers: Mapping[str, Writer]
) -> Iterator[IntentRequest]:
    """Gather the intents of providers that batch; all others travel alone.

    Intents come in order of time. A batch goes when it is full or has waited long enough. Intents
    of different brands never share one: each brand has its own merchant account, and the connector
    knows the brand by the address that the request came to.
    """
    open_batches: dict[tuple[str, str], _OpenBatch] = {}
    for intent in intents:
        yield from _pop_due(open_batches, intent.at_ms)
        batch_max = writers[intent.provider].batch_max
        if batch_max == 1:
            yield IntentRequest(intent.at_ms, (intent,))
            continue
        account = intent.provider, intent.brand
        batch = open_batches.get(account)
        if batch is None:
            batch = _OpenBatch(rng.randint(1, batch_max), intent.at_ms + BATCH_WAIT_MS)
            open_batches[account] = batch
        batch.intents.append(intent)
        if len(batch.intents) == batch.full_at:
            del open_batches[account]
            yield IntentRequest(intent.at_ms, tuple(batch.intents))
    for batch in sorted(open_batches.values(), key=lambda batch: batch.due_ms):
        yield IntentRequest(batch.due_ms, tuple(batch.intents))


def _pop_due(
    open_batches: dict[tuple[str, str], _OpenBatch], now_ms: int
) -> Iterator[IntentRequest]:
    late = [account for account, batch in open_batches.items() if batch.due_ms <= now_ms]
    for account in sorted(late, key=lambda account: open_batches[account].due_ms):
        batch = open_batches.pop(account)
        yield IntentRequest(batch.due_ms, tuple(batch.intents))
