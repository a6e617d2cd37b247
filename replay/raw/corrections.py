"""What an adapter's fault did to a player's money, by the rules of the ledger. Pure.

A player's events are decided twice: as the log has them, and with the repaired adapter's in their
places. What an event moved in one and not in the other is corrected, event by event. Answers stand:
a bet that was refused stays refused, and one that was accepted is not refused now, as its provider
has acted on the answer. The first run must end at the player's present balances; where it does not,
something else than the player's own events is in them, and nothing is proposed.
"""

from __future__ import annotations

import copy
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from ledger_sink.rules.accounts import BONUS, CASH, HELD, purse_of
from ledger_sink.rules.adjustments import PROPOSED
from ledger_sink.rules.book import Book, LogEvent
from ledger_sink.rules.journal import APPROVED, Wallet
from ledger_sink.rules.posting import post
from schemas.errors import InvariantBroken
from schemas.events import WalletTransaction
from schemas.identity import HOUSE
from schemas.policies import DEFAULT_POLICY, LedgerPolicy
from streams.normalise.mapping.renormalise import EventComparison, EventFinding

ID_PREFIX: Final = "raw-replay"
_REFUSED: Final = "REFUSED"

Balances = tuple[int, int, int]
"""Cash, bonus and held, in minor units."""
Effects = Mapping[tuple[str, str], Balances]
"""What each event moved, by its id and the currency."""


class Correction(msgspec.Struct, frozen=True):
    """What is to be moved for one event of one player: a proposal of two people."""

    id: str
    """The same for the same correction, so that it is proposed once."""
    player_id: str
    brand: str
    currency: str
    amount_minor: int
    event_id: str
    provider: str
    operation: str
    provider_tx_id: str
    is_proposed: bool = False
    """Whether it waits for its second person already."""


class UnproposedMove(msgspec.Struct, frozen=True):
    """A difference in bonus money or held money, which no adjustment moves: for a person."""

    player_id: str
    currency: str
    bonus_minor: int
    held_minor: int
    event_id: str


class PlayerCorrections(msgspec.Struct, frozen=True):
    """What follows for one player."""

    player_id: str
    corrections: list[Correction]
    unproposed: list[UnproposedMove]
    unexplained: str | None = None
    """Why nothing is proposed for the player."""


class AdapterChanges:
    """The differences of a period as changes of the log: what to put in an event's place."""

    def __init__(self, found: Iterable[EventComparison], known: Collection[str] = ()) -> None:
        """Take the differences; an event under another identity is a surplus and a missing one.

        `known` are the ids of events that the log has: they are not missing.
        """
        self._again: dict[tuple[str, tuple[object, ...]], WalletTransaction | None] = {}
        self.missing: list[WalletTransaction] = []
        self.players: set[str] = set()
        for one in found:
            stored, again = one.stored, one.again
            is_same_event = one.finding is EventFinding.CHANGED and "event_id" not in one.fields
            if stored is not None:
                self._again[_key(stored)] = again if is_same_event else None
            if again is not None and not is_same_event and again.event_id not in known:
                self.missing.append(again)
            self.players |= {
                event.player_id
                for event in (stored, again)
                if event is not None and event.player_id
            }

    def apply(self, player_id: str, events: Mapping[str, Sequence[LogEvent]]) -> list[LogEvent]:
        """Return a player's events as they would be without the fault, in the order of the log.

        An event may have been another player's.
        """
        wanted: list[LogEvent] = []
        taken: set[tuple[object, ...]] = set()
        for owner, rows in events.items():
            for row in rows:
                key = _key(row.event)
                if key not in self._again:
                    if owner == player_id:
                        wanted.append(row)
                    continue
                again = self._again[key]
                place = (row.source.partition, row.source.offset)
                if again is None or place in taken:
                    continue
                meant = again.player_id or row.event.player_id
                if meant == player_id:
                    taken.add(place)
                    repaired = replace(again, player_id=meant)
                    wanted.append(LogEvent(repaired, row.source, row.logged_at))
        return sorted(wanted, key=_log_order)


def correct_players(
    events: Mapping[str, Sequence[LogEvent]],
    changes: AdapterChanges,
    live: Mapping[str, Sequence[Wallet]],
    policies: Mapping[str, LedgerPolicy],
) -> list[PlayerCorrections]:
    """Return what follows for each player.

    `events` are each player's in the log, `live` their wallets in the ledger.
    """
    runs: dict[str, _Run] = {}
    unexplained: dict[str, str] = {}
    for player_id, rows in events.items():
        run = runs[player_id] = _Run(policies)
        try:
            run.decide(sorted(rows, key=_log_order))
        except InvariantBroken as error:
            unexplained[player_id] = str(error)
            continue
        if difference := run.differs_from(player_id, live.get(player_id, ())):
            unexplained[player_id] = difference
    # An event may have been booked for another player: its answer was given all the same.
    answers = {key: answer for run in runs.values() for key, answer in run.answers.items()}
    found = []
    for player_id in sorted(events):
        if player_id not in unexplained:
            meant = _Run(policies, answers)
            try:
                meant.decide(changes.apply(player_id, events))
            except InvariantBroken as error:
                unexplained[player_id] = str(error)
            else:
                found.append(_compare(player_id, events, runs[player_id], meant))
                continue
        found.append(PlayerCorrections(player_id, [], [], unexplained[player_id]))
    return found


class _Run:
    """One run of a player's events through the rules."""

    def __init__(
        self,
        policies: Mapping[str, LedgerPolicy],
        answers: Mapping[tuple[object, ...], str] | None = None,
    ) -> None:
        """Prepare an empty book; with `answers`, those stand whatever the rules would say."""
        self.book = Book()
        self.answers: dict[tuple[object, ...], str] = {}
        """Outcomes by event and attempt."""
        self._policies = policies
        self._standing = answers

    def decide(self, events: Iterable[LogEvent]) -> None:
        for row in events:
            event = row.event
            policy = self._policies.get(event.provider, DEFAULT_POLICY)
            if self._standing is not None and event.decision_required:
                self._decide_as_before(row, policy)
                continue
            decided = post(self.book, row, policy)
            self.answers[_key(event)] = decided.answer.outcome

    def _decide_as_before(self, row: LogEvent, policy: LedgerPolicy) -> None:
        assert self._standing is not None
        answer = self._standing.get(_key(row.event))
        if answer is None or not answer.startswith(_REFUSED):
            # It was accepted, so it is booked, into debt if need be.
            event = row.event if answer is None else replace(row.event, decision_required=False)
            post(self.book, LogEvent(event, row.source, row.logged_at), policy)
            return
        before = copy.deepcopy(self.book)
        if not post(self.book, row, policy).answer.outcome.startswith(_REFUSED):
            self.book = before

    def differs_from(self, player_id: str, live: Iterable[Wallet]) -> str | None:
        """Return how the book's balances differ from the ledger's, None if they do not."""
        ours = {
            wallet.currency: _balances(wallet)
            for (owner, _), wallet in self.book.wallets.items()
            if owner == player_id and wallet.version
        }
        theirs = {wallet.currency: _balances(wallet) for wallet in live}
        if ours == theirs:
            return None
        return (
            f"the events of {player_id} alone give the balances {ours}, and the ledger has"
            f" {theirs}: correct this player by hand"
        )

    def effects(self, player_id: str) -> Effects:
        """Return what each event moved in the player's accounts."""
        sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
        purses = (CASH, BONUS, HELD)
        for row, _, transfer in self.book.new_transfers:
            if transfer.player_id != player_id:
                continue
            moved = sums[row.event.event_id, transfer.currency]
            for account, sign in ((transfer.debit, -1), (transfer.credit, 1)):
                purse = purse_of(account)
                if purse is not None:
                    moved[purses.index(purse)] += sign * transfer.amount_minor
        return {key: (moved[0], moved[1], moved[2]) for key, moved in sums.items()}


def _compare(
    player_id: str, events: Mapping[str, Sequence[LogEvent]], stored: _Run, meant: _Run
) -> PlayerCorrections:
    was, would_be = stored.effects(player_id), meant.effects(player_id)
    made = _made_corrections(player_id, stored.book, events[player_id])
    of_event = {row.event.event_id: row.event for rows in events.values() for row in rows}
    corrections, unproposed = [], []
    for event_id, currency in sorted(was.keys() | would_be.keys()):
        event = of_event.get(event_id)
        if event is None or event.provider == HOUSE:
            continue
        now, then = (side.get((event_id, currency), (0, 0, 0)) for side in (would_be, was))
        target = now[0] - then[0]
        missing = target - made.get((event_id, currency), 0)
        if missing:
            id_ = _correction_id(event_id, player_id, currency, target)
            corrections.append(
                Correction(
                    id_,
                    player_id,
                    event.brand,
                    currency,
                    missing,
                    event_id,
                    event.provider,
                    event.operation,
                    event.provider_tx_id,
                    any(one.id == id_ for one in stored.book.proposals.values()),
                )
            )
        if now[1:] != then[1:]:
            moved = (now[1] - then[1], now[2] - then[2])
            unproposed.append(UnproposedMove(player_id, currency, *moved, event_id))
    return PlayerCorrections(player_id, corrections, unproposed)


def _made_corrections(
    player_id: str, book: Book, events: Sequence[LogEvent]
) -> dict[tuple[str, str], int]:
    """Return what was corrected before: approved proposals of a raw replay, by event."""
    made: dict[tuple[str, str], int] = defaultdict(int)
    for row in events:
        event = row.event
        if event.operation != PROPOSED or not event.provider_tx_id.startswith(f"{ID_PREFIX}:"):
            continue
        proposal, closing = (
            book.proposals.get(event.event_id),
            book.closing(event.event_id, player_id),
        )
        if proposal is not None and closing is not None and closing.action == APPROVED:
            corrected = event.provider_tx_id.split(":")[1]
            made[corrected, proposal.currency] += proposal.amount_minor
    return made


def _correction_id(event_id: str, player_id: str, currency: str, target_minor: int) -> str:
    """Return the id of a correction: of which event, for whom, and to what it makes up in all."""
    return f"{ID_PREFIX}:{event_id}:{zlib.crc32(player_id.encode()):08x}:{currency}:{target_minor}"


def _key(event: WalletTransaction) -> tuple[str, tuple[object, ...]]:
    attempt = event.attempt
    place = (attempt.topic, attempt.partition, attempt.offset, attempt.record_index)
    return event.event_id, place


def _log_order(row: LogEvent) -> tuple[int, int, int]:
    return row.logged_at or 0, row.source.partition, row.source.offset


def _balances(wallet: Wallet) -> Balances:
    return wallet.cash_minor, wallet.bonus_minor, wallet.held_minor
