"""The calls that wait for their outcomes, by the place and by the identities of their attempts."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import msgspec

from gateway.appender import PendingAppend
from gateway.decisions.reading import Identity, ReadCall
from schemas import codec
from schemas.events import WalletOutcome
from streams.providers.dialect import Draft

AttemptPlace: TypeAlias = tuple[str, int, int]
"""Topic, partition and offset of a raw record."""


class WaitingCall:
    """A call from the moment it is read until its answer is known."""

    __slots__ = (
        "append",
        "call",
        "decided",
        "finished",
        "is_expired",
        "outcomes",
        "ticket",
        "turn",
    )

    def __init__(self, call: ReadCall) -> None:
        """Wait for nothing yet."""
        loop = asyncio.get_running_loop()
        self.call: Final = call
        self.append: PendingAppend | None = None
        self.turn: asyncio.Future[bool] | None = None
        """While others go first: whether its turn came before its time was over."""
        self.ticket = 0
        self.is_expired = False
        self.outcomes: list[WalletOutcome] = []
        self.decided: asyncio.Future[bool] = loop.create_future()
        """Whether every outcome has come; False when the time is over before."""
        self.finished: asyncio.Future[Sequence[WalletOutcome] | None] = loop.create_future()
        """For calls that joined: the outcomes to answer with; None means unavailable."""

    def add(self, outcome: WalletOutcome) -> None:
        """Take one outcome in."""
        if self.call.pending.add(outcome):
            self.outcomes.append(outcome)
            if self.call.pending.is_complete and not self.decided.done():
                self.decided.set_result(True)

    def expire(self) -> None:
        """End the wait: take the record back if it was not sent, else decide nothing more."""
        self.is_expired = True
        if self.turn is not None and not self.turn.done():
            self.turn.set_result(False)
            return
        if self.append is not None and self.append.withdraw():
            return
        if not self.decided.done():
            self.decided.set_result(False)

    def asks_the_same(self, other: ReadCall) -> bool:
        """Return whether another call is this one sent again: the same in all that is decided."""
        ours, theirs = self.call.drafts, other.drafts
        return ours.keys() == theirs.keys() and all(
            _bare(draft) == _bare(theirs[identity]) for identity, draft in ours.items()
        )


def _bare(draft: Draft) -> Draft:
    """Return a draft without what two sendings of one transaction may differ in."""
    return msgspec.structs.replace(draft, provider_at=None, signature="")


class Attempts:
    """Every call of this process that waits.

    An outcome may be faster than the acknowledgement of its attempt. So while records are being
    appended, outcomes of unknown attempts are kept: each until the appends are acknowledged that
    had begun before it came.
    """

    def __init__(self) -> None:
        """Wait for nothing."""
        self._peek = codec.decoder(WalletOutcome, ("attempt",))
        self._decode = codec.decoder(WalletOutcome)
        self._by_place: dict[AttemptPlace, WaitingCall] = {}
        self._by_identity: dict[Identity, WaitingCall] = {}
        self._tickets = 0
        self._appending: dict[int, None] = {}
        """Tickets of the appends that are not acknowledged, the oldest first."""
        self._early: OrderedDict[AttemptPlace, tuple[int, list[bytes]]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many attempts wait for an outcome."""
        return len(self._by_place)

    def overlapping(self, identities: Iterable[Identity]) -> list[WaitingCall]:
        """Return the waiting calls that hold one of these transactions, each once."""
        found = {}
        for identity in identities:
            waiting = self._by_identity.get(identity)
            if waiting is not None:
                found[id(waiting)] = waiting
        return list(found.values())

    def begin(self, waiting: WaitingCall) -> None:
        """Register a call that waits for its turn, so that it is known if it comes again."""
        for identity in waiting.call.drafts:
            self._by_identity[identity] = waiting

    def begin_append(self, waiting: WaitingCall) -> None:
        """Register that the record of a call is about to be appended."""
        self._tickets += 1
        waiting.ticket = self._tickets
        self._appending[waiting.ticket] = None

    def expect(self, waiting: WaitingCall) -> None:
        """Wait for the outcomes of a call whose record has its place now."""
        place = waiting.call.record.place
        self._by_place[place] = waiting
        _, values = self._early.pop(place, (0, []))
        for value in values:
            waiting.add(self._decode(value))
        self.end_append(waiting)

    def end_append(self, waiting: WaitingCall) -> None:
        """Forget the append of a call, however it ended, and the outcomes kept for it."""
        self._appending.pop(waiting.ticket, None)
        oldest = next(iter(self._appending), self._tickets + 1)
        while self._early:
            place, (ticket, _) = next(iter(self._early.items()))
            if ticket >= oldest:
                break
            del self._early[place]

    def end(self, waiting: WaitingCall, outcomes: Sequence[WalletOutcome] | None) -> None:
        """Forget a call whose answer is known, and tell those that joined it."""
        self.end_append(waiting)
        self._by_place.pop(waiting.call.record.place, None)
        for identity in waiting.call.drafts:
            if self._by_identity.get(identity) is waiting:
                del self._by_identity[identity]
        if not waiting.finished.done():
            waiting.finished.set_result(outcomes)

    def deliver(self, values: Sequence[bytes]) -> None:
        """Take values of the outcomes topic in; those of other connectors are dropped."""
        for value in values:
            (attempt,) = self._peek(value)
            place = (attempt.topic, attempt.partition, attempt.offset)
            waiting = self._by_place.get(place)
            if waiting is not None:
                waiting.add(self._decode(value))
            elif self._appending:
                self._early.setdefault(place, (self._tickets, []))[1].append(value)
