"""The part of the ledger that one group of batches can see and change, held in memory while it is decided.

The store fills a book with what the events may touch, the posting rules change it, and the store writes down what is
new. Nothing here reads a clock, a database or the order of a dictionary: the same events on the same book give the
same rows, live and in a replay.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from ledger_sink.accounts import BONUS, CASH, HELD, player_account
from ledger_sink.journal import Action, Answer, Closing, Entry, PlayerState, Transfer, Wallet
from schemas.errors import InvariantBroken
from schemas.events import Attempt, Position, WalletTransaction
from schemas.money import AMOUNT_MAX, exponent_of


class OutOfRange(InvariantBroken):
    """A movement would take a wallet beyond 64 bits; the posting rules decide what becomes of its event."""


@dataclass(frozen=True, slots=True)
class Sourced:
    """An event and its place in the log."""

    event: WalletTransaction
    source: Position

    def __str__(self) -> str:
        where = self.source
        return f"{where.topic}-{where.partition}@{where.offset}"


@dataclass(frozen=True, slots=True)
class Decided:
    """What one record of the log came to. `decision` is None where nothing new was decided."""

    sourced: Sourced
    answer: Answer
    decision: int | None
    redelivered: bool = False


@dataclass(slots=True)
class Book:
    """What a decision may read, and the rows that follow from it."""

    entries: dict[str, list[Entry]] = field(default_factory=dict)
    closings: dict[tuple[str, str], Closing] = field(default_factory=dict)
    wallets: dict[tuple[str, str], Wallet] = field(default_factory=dict)
    states: dict[str, PlayerState] = field(default_factory=dict)
    transfers_of: dict[tuple[str, int], list[Transfer]] = field(default_factory=dict)
    repeats: dict[tuple[str, Attempt], Answer] = field(default_factory=dict)
    """What further attempts of an event were told; an attempt that comes again must not hear anything else."""

    decided: list[Decided] = field(default_factory=list)
    new_transfers: list[tuple[Sourced, int, Transfer]] = field(default_factory=list)
    new_closings: list[tuple[Sourced, Closing]] = field(default_factory=list)
    changed_wallets: dict[tuple[str, str], Wallet] = field(default_factory=dict)
    changed_states: dict[str, PlayerState] = field(default_factory=dict)

    def wallet(self, player_id: str, currency: str) -> Wallet:
        """The wallet as it stands; a player's first event in a currency opens one."""
        key = (player_id, currency)
        wallet = self.wallets.get(key)
        if wallet is None:
            wallet = self.wallets[key] = Wallet(player_id, currency, exponent_of(currency))
        return wallet

    def state(self, player_id: str) -> PlayerState:
        """What may stop the player's bets."""
        return self.states.get(player_id) or PlayerState(player_id)

    def movements(self, entry: Entry) -> list[Transfer]:
        """What an entry moved, in order. One that moved nothing (a free round, a zero bet) has no rows to be read."""
        return self.transfers_of[entry.event_id, entry.decision] if entry.transfers else []

    def close(self, sourced: Sourced, event_id: str, player_id: str, action: Action) -> None:
        """Close an event, come or not come yet, for good."""
        closing = Closing(event_id, player_id, action, sourced.event.event_id)
        self.closings[event_id, player_id] = closing
        self.new_closings.append((sourced, closing))

    def set_state(self, state: PlayerState) -> None:
        """Replace what may stop a player's bets."""
        self.states[state.player_id] = state
        self.changed_states[state.player_id] = state


@dataclass(slots=True)
class Posting:
    """One decision in the making: the movements of one event, in order."""

    book: Book
    sourced: Sourced
    decision: int
    transfers: list[Transfer] = field(default_factory=list)
    wallet: Wallet | None = None
    state: PlayerState | None = None
    """What the event makes of the player's state, if anything."""
    _before: Wallet | None = None
    _was_changed: bool = False

    @property
    def event(self) -> WalletTransaction:
        """The event that is decided."""
        return self.sourced.event

    def account(self, purse: str) -> str:
        """The address of one of the player's accounts."""
        assert self.event.player_id is not None
        return player_account(self.event.player_id, purse)

    def use(self, currency: str) -> Wallet:
        """The player's wallet in a currency; the answer tells how it stands."""
        assert self.event.player_id is not None
        self.wallet = self.book.wallet(self.event.player_id, currency)
        return self.wallet

    def credit(self, wallet: Wallet, purse: str, from_account: str, amount_minor: int) -> None:
        """Move money from a house account into one of the wallet's accounts."""
        self._move(wallet, from_account, self.account(purse), amount_minor, {purse: amount_minor})

    def debit(self, wallet: Wallet, purse: str, to_account: str, amount_minor: int) -> None:
        """Move money from one of the wallet's accounts to a house account; funds are the caller's question."""
        self._move(wallet, self.account(purse), to_account, amount_minor, {purse: -amount_minor})

    def shift(self, wallet: Wallet, from_purse: str, to_purse: str, amount_minor: int) -> None:
        """Move money between two accounts of one wallet."""
        changes = {from_purse: -amount_minor, to_purse: amount_minor}
        self._move(wallet, self.account(from_purse), self.account(to_purse), amount_minor, changes)

    def between_house_accounts(self, currency: str, debit: str, credit: str, amount_minor: int) -> None:
        """Move money that no wallet sees."""
        if amount_minor:
            self._record(Transfer(None, currency, None, debit, credit, amount_minor, None, None, None))

    def _move(self, wallet: Wallet, debit: str, credit: str, amount_minor: int, changes: dict[str, int]) -> None:
        if amount_minor < 0:
            message = f"{self.sourced}: a transfer of {amount_minor} minor units"
            raise InvariantBroken(message)
        if amount_minor == 0:
            return  # a zero win closes a round; it is an event, but it is no movement
        if self.transfers and self.transfers[-1].currency != wallet.currency:
            message = f"{self.sourced}: one event moves {self.transfers[-1].currency} and {wallet.currency}"
            raise InvariantBroken(message)
        cash = wallet.cash_minor + changes.get(CASH, 0)
        bonus = wallet.bonus_minor + changes.get(BONUS, 0)
        held = wallet.held_minor + changes.get(HELD, 0)
        available = cash + bonus
        if max(abs(cash), abs(bonus), held, abs(available), abs(available + held)) > AMOUNT_MAX:
            raise OutOfRange
        if not self.transfers:
            self._before = copy.copy(wallet)
            self._was_changed = (wallet.player_id, wallet.currency) in self.book.changed_wallets
        wallet.cash_minor, wallet.bonus_minor, wallet.held_minor = cash, bonus, held
        wallet.version += 1
        wallet.event_id = self.event.event_id
        wallet.part = self.sourced.source.partition
        wallet.source_offset = self.sourced.source.offset
        self.book.changed_wallets[wallet.player_id, wallet.currency] = wallet
        self._record(
            Transfer(
                wallet.player_id, wallet.currency, wallet.version, debit, credit, amount_minor, cash, bonus, held
            )
        )  # fmt: skip

    def _record(self, transfer: Transfer) -> None:
        self.transfers.append(transfer)
        self.book.new_transfers.append((self.sourced, self.decision, transfer))

    def undo(self) -> None:
        """Take back all that the event has moved and closed so far, as if it had not been looked at."""
        book = self.book
        if self._before is not None:
            key = (self._before.player_id, self._before.currency)
            self.wallet = book.wallets[key] = self._before
            if self._was_changed:
                book.changed_wallets[key] = self._before
            else:
                del book.changed_wallets[key]
        if self.transfers:
            del book.new_transfers[-len(self.transfers) :]
            self.transfers = []
        self.state = None
        while book.new_closings and book.new_closings[-1][0] is self.sourced:
            _, closing = book.new_closings.pop()
            del book.closings[closing.event_id, closing.player_id]

    def finish(self, outcome: str, reason: str) -> None:
        """Write the entry down with the answer that every repeat of the event will get again."""
        event, wallet = self.event, self.wallet
        if self.state is not None:
            self.book.set_state(self.state)
        if wallet is None:
            answer = Answer(outcome, reason)
        else:
            answer = Answer(outcome, reason, wallet.currency, wallet.available_minor, wallet.version)
        entry = Entry(
            event.event_id, self.decision, event.player_id, event.fingerprint, event.attempt, answer,
            len(self.transfers),
        )  # fmt: skip
        self.book.entries.setdefault(event.event_id, []).append(entry)
        self.book.transfers_of[event.event_id, self.decision] = self.transfers
        self.book.decided.append(Decided(self.sourced, answer, self.decision))
