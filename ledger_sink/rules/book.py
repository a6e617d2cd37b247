"""The rows that one group of batches reads and changes, in memory while it is decided.

The store fills a book with what the events may touch, the posting rules change it, and the store
writes what is new. Nothing here reads a clock, a database or the order of a dictionary: the same
events on the same book give the same rows, live and in a replay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

from ledger_sink.rules.accounts import BONUS, CASH, HELD, player_account
from ledger_sink.rules.amounts import CURRENCIES_DIFFER, OUT_OF_RANGE, PERIOD_ARCHIVED, Unpostable
from ledger_sink.rules.journal import (
    SETTLED,
    Action,
    Answer,
    Closing,
    Entry,
    OpenedDeposit,
    PlayerState,
    Proposal,
    Quarantine,
    Transfer,
    Wallet,
    WalletSnapshot,
)
from schemas.errors import InvariantBroken
from schemas.events import Attempt, Group, Position, WalletTransaction
from schemas.identity import referenced_event_id, referenced_event_ids
from schemas.money import AMOUNT_MAX, exponent_of
from schemas.policies import DEFAULT_POLICY, LedgerPolicy

K = TypeVar("K")
T = TypeVar("T")

_SMALL: Final = AMOUNT_MAX // 4

NO_PLAYER: Final = ""
"""The player id of a closing that names no player."""


class LogEvent(msgspec.Struct, gc=False):
    """An event and its position in the log, with the id of the event that its reference means.

    `logged_at` is the record's time in the log, epoch ms. `reference_ids` are the events that a
    reference may mean that does not say its operation: the rules choose `reference_id` among them.
    `members` are the events that are decided with this one, itself included and first; empty but
    for the first event of a group. `quarantine`: the event cannot be booked, and two people have
    decided that the ledger goes on behind it.
    """

    event: WalletTransaction
    source: Position
    logged_at: int | None = None
    reference_id: str | None = None
    reference_ids: tuple[str, ...] = ()
    members: tuple[LogEvent, ...] = ()
    quarantine: Quarantine | None = None

    def __post_init__(self) -> None:
        """Compute the referenced id once: reading, deciding and writing all need it."""
        event = self.event
        reference = event.reference
        if reference is not None:
            self.reference_id = referenced_event_id(event.brand, event.provider, reference)
            if reference.other_operations:
                self.reference_ids = referenced_event_ids(event.brand, event.provider, reference)
        if event.group is not None and event.group.members:
            self.members = (self, *_members(event, event.group, self.source, self.logged_at))

    def __str__(self) -> str:
        source = self.source
        return f"{source.topic}-{source.partition}@{source.offset}"


def _members(
    event: WalletTransaction, group: Group, source: Position, logged_at: int | None
) -> Iterator[LogEvent]:
    """Yield the further events of a group as their own records hold them."""
    shared = Group(group.id, 0, group.size, [])
    for index, member in enumerate(group.members, 1):
        transaction = msgspec.structs.replace(
            event,
            event_id=member.event_id,
            operation=member.operation,
            provider_tx_id=member.provider_tx_id,
            attempt=msgspec.structs.replace(event.attempt, record_index=member.record_index),
            legs=member.legs,
            reference=member.reference,
            round_id=member.round_id,
            round_closed=member.round_closed,
            game_id=member.game_id,
            occurred_at=member.occurred_at,
            time_source=member.time_source,
            provider_at=member.provider_at,
            fingerprint=member.fingerprint,
            signature=member.signature,
            decision_required=member.decision_required,
            cause=member.cause,
            group=msgspec.structs.replace(shared, index=index),
            is_billable=member.is_billable,
        )
        yield LogEvent(transaction, source, logged_at)


class DecidedEvent(msgspec.Struct, frozen=True, gc=False):
    """Result of one record of the log. `decision` is None where nothing new was decided."""

    log_event: LogEvent
    answer: Answer
    decision: int | None
    transfers: int = 0
    redelivered: bool = False
    contribution_rest: str | None = None


@dataclass(slots=True)
class Book:
    """Everything that a decision may read, and the rows that it adds."""

    entries: dict[str, list[Entry]] = field(default_factory=dict)
    closings: dict[tuple[str, str], Closing] = field(default_factory=dict)
    wallets: dict[tuple[str, str], Wallet] = field(default_factory=dict)
    brands: dict[str, str] = field(default_factory=dict)
    """By player, the brand of the event that moved the player's money first."""
    states: dict[str, PlayerState] = field(default_factory=dict)
    transfers_of: dict[tuple[str, int], list[Transfer]] = field(default_factory=dict)
    misread_players: dict[str, str] = field(default_factory=dict)
    """Players of whom a wallet cannot be read by this configuration, with the reason."""
    archived_event_ids: set[str] = field(default_factory=set)
    """Events whose movements are not in the tables any more."""
    proposals: dict[str, Proposal] = field(default_factory=dict)
    opened_deposits: dict[str, OpenedDeposit] = field(default_factory=dict)
    repeats: dict[tuple[str, Attempt], Answer] = field(default_factory=dict)
    """Answers to further attempts of an event; an attempt that comes again gets the same one."""

    decisions: list[DecidedEvent] = field(default_factory=list)
    new_transfers: list[tuple[LogEvent, int, Transfer]] = field(default_factory=list)
    new_closings: dict[tuple[str, str], tuple[LogEvent, Closing]] = field(default_factory=dict)
    new_proposals: list[Proposal] = field(default_factory=list)
    new_opened_deposits: list[OpenedDeposit] = field(default_factory=list)
    changed_wallets: dict[tuple[str, str], Wallet] = field(default_factory=dict)
    changed_states: dict[str, PlayerState] = field(default_factory=dict)
    _currencies: dict[str, set[str]] = field(default_factory=dict)

    def wallet(self, player_id: str, currency: str) -> Wallet:
        """Return the wallet as it is now; a player's first event in a currency opens one."""
        key = (player_id, currency)
        wallet = self.wallets.get(key)
        if wallet is None:
            wallet = self.wallets[key] = Wallet(player_id, currency, exponent_of(currency))
            if self._currencies:
                self._currencies.setdefault(player_id, set()).add(currency)
        return wallet

    def add_wallet(self, wallet: Wallet) -> None:
        """Add a wallet as it is stored, or as an earlier group has left it."""
        self.wallets[wallet.player_id, wallet.currency] = wallet
        if wallet.brand:
            self.brands[wallet.player_id] = wallet.brand

    def has_wallets(self, player_id: str) -> bool:
        """Return whether money has ever moved for the player, in any currency."""
        return bool(self._moved_wallets(player_id))

    def known_wallet(self, event: WalletTransaction) -> Wallet | None:
        """Return the wallet that an event is about though it selects none.

        It is the one in the currency that the event names, else the player's only one. None for a
        wallet in which nothing has moved yet.
        """
        if event.player_id is None:
            return None
        for leg in event.legs:
            if leg.currency is not None:
                wallet = self.wallets.get((event.player_id, leg.currency))
                return wallet if wallet is not None and wallet.version else None
        moved = self._moved_wallets(event.player_id)
        return moved[0] if len(moved) == 1 else None

    def _moved_wallets(self, player_id: str) -> list[Wallet]:
        if not self._currencies:  # built only when an event does not name the wallet that it finds
            for player, currency in self.wallets:
                self._currencies.setdefault(player, set()).add(currency)
        wallets, currencies = self.wallets, self._currencies.get(player_id, ())
        found = [wallets[player_id, currency] for currency in currencies]
        return [wallet for wallet in found if wallet.version]

    def player_state(self, player_id: str) -> PlayerState:
        """Return the player's blocks, holds, limits and requirements."""
        return self.states.get(player_id) or PlayerState(player_id)

    def closing(self, event_id: str, player_id: str) -> Closing | None:
        """Return the closing of an event, by its player or made before its player was known."""
        closings = self.closings
        if not closings:
            return None
        own = closings.get((event_id, player_id))
        if own is not None and own.action != SETTLED:
            return own
        # The mark of a win that has named the event does not hide a real closing.
        return closings.get((event_id, NO_PLAYER)) or own

    def movements(self, entry: Entry) -> list[Transfer]:
        """Return what an entry moved, in order.

        An entry that moved nothing (a free round, a zero bet) has no rows to be read.
        """
        return self.transfers_of[entry.event_id, entry.decision] if entry.transfers else []

    def reversible_movements(self, entry: Entry) -> list[Transfer]:
        """Return what an entry moved, to be moved back.

        Raises Unpostable if the month of its transfers was moved away from the tables.
        """
        if entry.event_id in self.archived_event_ids:
            raise Unpostable(PERIOD_ARCHIVED)
        return self.movements(entry)

    def add_repeat(
        self, log_event: LogEvent, answer: Answer, *, redelivered: bool = False
    ) -> DecidedEvent:
        """Add the answer to an attempt that moves nothing.

        `redelivered`: the attempt itself was answered before.
        """
        if not redelivered:
            event = log_event.event
            self.repeats[event.event_id, event.attempt] = answer
        decided = DecidedEvent(log_event, answer, None, redelivered=redelivered)
        self.decisions.append(decided)
        return decided

    def add_proposal(self, proposal: Proposal) -> None:
        """Store a proposal that waits for a second operator."""
        self.proposals[proposal.event_id] = proposal
        self.new_proposals.append(proposal)

    def add_opened_deposit(self, opened: OpenedDeposit) -> None:
        """Store what the cashier expects of a payment provider."""
        self.opened_deposits[opened.event_id] = opened
        self.new_opened_deposits.append(opened)

    def set_state(self, state: PlayerState) -> None:
        """Replace a player's state."""
        self.states[state.player_id] = state
        self.changed_states[state.player_id] = state


class Posting(msgspec.Struct, gc=False):
    """One decision while it is made: the movements of one event, in order."""

    book: Book
    log_event: LogEvent
    event: WalletTransaction
    decision: int
    policy: LedgerPolicy = DEFAULT_POLICY
    transfers: list[Transfer] = []
    wallet: Wallet | None = None
    state: PlayerState | None = None
    """The player's state after the event, if the event changes it."""
    proposal: Proposal | None = None
    """The proposal that the event makes to a second operator."""
    contribution_rest: str | None = None
    """What the event contributed to jackpots less what is moved for it; see `fractions`."""
    opened: OpenedDeposit | None = None
    """The deposit that the event opens."""
    gives_brand: bool = False
    """Whether the event is the first that moves the player's money."""
    wallet_before: tuple[Wallet, bool, WalletSnapshot] | None = None
    """The wallet that is moved, whether an earlier event had moved it, and its state before."""
    state_before: tuple[PlayerState | None, str] | None = None
    """The player's state that `finish` has replaced, and whose it is."""
    was_state_changed: bool = False
    replaced_closings: list[
        tuple[tuple[str, str], Closing | None, tuple[LogEvent, Closing] | None]
    ] = []
    """For each key that the event closes, the closing that was there before."""

    def account(self, purse: str) -> str:
        """Return the address of one of the player's accounts."""
        assert self.event.player_id is not None
        return player_account(self.event.player_id, purse)

    def select_wallet(self, currency: str) -> Wallet:
        """Return the player's wallet in a currency; the answer will state its balance.

        Raises Unpostable for a second currency: an event is about one wallet, whether it moves
        anything in it or not.
        """
        assert self.event.player_id is not None
        if self.wallet is not None and self.wallet.currency != currency:
            raise Unpostable(CURRENCIES_DIFFER)
        self.wallet = self.book.wallet(self.event.player_id, currency)
        return self.wallet

    def player_state(self) -> PlayerState:
        """Return the player's state as the event has changed it so far."""
        assert self.event.player_id is not None
        return self.state or self.book.player_state(self.event.player_id)

    def close(self, event_id: str, player_id: str, action: Action) -> None:
        """Close an event, whether it has come or not.

        Only SETTLED may be replaced by another closing.
        """
        book, key = self.book, (event_id, player_id)
        self.replaced_closings.append((key, book.closings.get(key), book.new_closings.get(key)))
        book.closings[key] = closing = Closing(event_id, player_id, action, self.event.event_id)
        book.new_closings[key] = (self.log_event, closing)

    def credit(self, wallet: Wallet, purse: str, from_account: str, amount_minor: int) -> None:
        """Move money from a house account into one of the wallet's accounts.

        Here and in the methods below, an amount of zero makes no movement. Raises Unpostable where
        a balance gets out of range.
        """
        if amount_minor:
            self._move(wallet, from_account, self.account(purse), amount_minor, None, purse)

    def debit(self, wallet: Wallet, purse: str, to_account: str, amount_minor: int) -> None:
        """Move money from one of the wallet's accounts to a house account.

        The caller checks funds.
        """
        if amount_minor:
            self._move(wallet, self.account(purse), to_account, amount_minor, purse, None)

    def shift(self, wallet: Wallet, from_purse: str, to_purse: str, amount_minor: int) -> None:
        """Move money between two accounts of one wallet."""
        if amount_minor:
            debit, credit = self.account(from_purse), self.account(to_purse)
            self._move(wallet, debit, credit, amount_minor, from_purse, to_purse)

    def move_between_house_accounts(
        self, currency: str, debit: str, credit: str, amount_minor: int
    ) -> None:
        """Move money that is in no wallet.

        Raises Unpostable for a second currency and for an amount of more than 64 bits.
        """
        if self.transfers and self.transfers[-1].currency != currency:
            raise Unpostable(CURRENCIES_DIFFER)
        if amount_minor > AMOUNT_MAX:
            raise Unpostable(OUT_OF_RANGE)
        if amount_minor:
            self._record(
                Transfer(None, currency, None, debit, credit, amount_minor, None, None, None)
            )

    def _move(
        self,
        wallet: Wallet,
        debit: str,
        credit: str,
        amount: int,
        source: str | None,
        target: str | None,
    ) -> None:
        """Move an amount in minor units; `source` and `target` are the wallet's own accounts."""
        if amount < 0:
            message = f"{self.log_event}: a transfer of {amount} minor units"
            raise InvariantBroken(message)
        cash, bonus, held = wallet.cash_minor, wallet.bonus_minor, wallet.held_minor
        cash += (amount if target == CASH else 0) - (amount if source == CASH else 0)
        bonus += (amount if target == BONUS else 0) - (amount if source == BONUS else 0)
        held += (amount if target == HELD else 0) - (amount if source == HELD else 0)
        # The sums of all three have to fit as well; nearly every wallet is too small to check.
        is_small = -_SMALL < cash < _SMALL and -_SMALL < bonus < _SMALL and held < _SMALL
        if not is_small and _largest(cash, bonus, held) > AMOUNT_MAX:
            raise Unpostable(OUT_OF_RANGE)
        self._write(wallet, cash, bonus, held)
        player, currency, version = wallet.player_id, wallet.currency, wallet.version
        self._record(Transfer(player, currency, version, debit, credit, amount, cash, bonus, held))

    def _write(self, wallet: Wallet, cash: int, bonus: int, held: int) -> None:
        key, changed = (wallet.player_id, wallet.currency), self.book.changed_wallets
        if self.wallet_before is None:
            self.wallet_before = (wallet, key in changed, wallet.snapshot())
        source = self.log_event.source
        if not wallet.brand:
            brands = self.book.brands
            self.gives_brand = self.gives_brand or wallet.player_id not in brands
            wallet.brand = brands.setdefault(wallet.player_id, self.event.brand)
        wallet.cash_minor, wallet.bonus_minor, wallet.held_minor = cash, bonus, held
        wallet.version += 1
        wallet.event_id = self.event.event_id
        wallet.partition, wallet.source_offset = source.partition, source.offset
        changed[key] = wallet

    def _record(self, transfer: Transfer) -> None:
        self.transfers.append(transfer)
        self.book.new_transfers.append((self.log_event, self.decision, transfer))

    def undo(self) -> None:
        """Take back everything that the event has moved and closed so far."""
        book = self.book
        if self.wallet_before is not None:
            wallet, was_changed, snapshot = self.wallet_before
            wallet.restore(snapshot)
            if not was_changed:
                del book.changed_wallets[wallet.player_id, wallet.currency]
            if self.gives_brand:
                book.brands.pop(wallet.player_id, None)
        if self.transfers:
            del book.new_transfers[-len(self.transfers) :]
            self.transfers = []
        self.state = self.proposal = self.contribution_rest = self.opened = None
        for key, closing, new in reversed(self.replaced_closings):
            _put(book.closings, key, closing)
            _put(book.new_closings, key, new)
        self.replaced_closings = []

    def finish(self, outcome: str, reason: str) -> DecidedEvent:
        """Add the entry to the book, with the answer that every repeat of the event gets again."""
        event, book = self.event, self.book
        if self.state is not None:
            self.state_before = (book.states.get(self.state.player_id), self.state.player_id)
            self.was_state_changed = self.state.player_id in book.changed_states
            book.set_state(self.state)
        if self.proposal is not None:
            book.add_proposal(self.proposal)
        if self.opened is not None:
            book.add_opened_deposit(self.opened)
        wallet = self.wallet or book.known_wallet(event)
        if wallet is None:
            answer = Answer(outcome, reason, None, None, None, self.log_event.logged_at)
        else:
            answer = Answer(
                outcome,
                reason,
                wallet.currency,
                wallet.cash_minor + wallet.bonus_minor,
                wallet.version,
                self.log_event.logged_at,
            )
        event_id, decision, moves = event.event_id, self.decision, self.transfers
        entry = Entry(
            event_id,
            decision,
            event.player_id,
            event.fingerprint,
            event.attempt,
            answer,
            len(moves),
            None if event.group is None else event.group.id,
            self.contribution_rest,
        )
        if (earlier := book.entries.get(event_id)) is None:
            book.entries[event_id] = [entry]
        else:
            earlier.append(entry)
        book.transfers_of[event_id, decision] = moves
        decided = DecidedEvent(
            self.log_event, answer, decision, len(moves), False, self.contribution_rest
        )
        book.decisions.append(decided)
        return decided

    def retract(self) -> None:
        """Take back a decision that `finish` has added, with all that the event has moved.

        Only for the newest decision of the book.
        """
        book, event_id = self.book, self.event.event_id
        book.decisions.pop()
        del book.transfers_of[event_id, self.decision]
        entries = book.entries[event_id]
        entries.pop()
        if not entries:
            del book.entries[event_id]
        if self.proposal is not None:
            del book.proposals[self.proposal.event_id]
            book.new_proposals.pop()
        if self.opened is not None:
            del book.opened_deposits[self.opened.event_id]
            book.new_opened_deposits.pop()
        if self.state_before is not None:
            state, player_id = self.state_before
            _put(book.states, player_id, state)
            _put(book.changed_states, player_id, state if self.was_state_changed else None)
        self.undo()


def _largest(cash: int, bonus: int, held: int) -> int:
    """Return the largest of a wallet's balances and their sums, without signs."""
    return max(abs(cash), abs(bonus), held, abs(cash + bonus), abs(cash + bonus + held))


def _put(where: dict[K, T], key: K, value: T | None) -> None:
    if value is None:
        where.pop(key, None)
    else:
        where[key] = value
