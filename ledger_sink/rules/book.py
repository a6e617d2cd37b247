"""The rows that one group of batches reads and changes, in memory while it is decided.

The store fills a book with what the events may touch, the posting rules change it, and the store
writes what is new. Nothing here reads a clock, a database or the order of a dictionary: the same
events on the same book give the same rows, live and in a replay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec

from ledger_sink.rules.amounts import PERIOD_ARCHIVED, Unpostable
from ledger_sink.rules.journal import (
    SETTLED,
    Answer,
    Closing,
    Entry,
    OpenedDeposit,
    OpenItem,
    OperatorLimit,
    PlayerState,
    Proposal,
    Quarantine,
    Transfer,
    Wallet,
)
from schemas.events import Attempt, Group, Position, WalletTransaction
from schemas.identity import referenced_event_id, referenced_event_ids
from schemas.money import exponent_of

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
    open_items: dict[str, OpenItem] = field(default_factory=dict)
    operator_limits: dict[str, OperatorLimit] = field(default_factory=dict)
    repeats: dict[tuple[str, Attempt], Answer] = field(default_factory=dict)
    """Answers to further attempts of an event; an attempt that comes again gets the same one."""

    decisions: list[DecidedEvent] = field(default_factory=list)
    new_transfers: list[tuple[LogEvent, int, Transfer]] = field(default_factory=list)
    new_closings: dict[tuple[str, str], tuple[LogEvent, Closing]] = field(default_factory=dict)
    new_proposals: list[Proposal] = field(default_factory=list)
    new_opened_deposits: list[OpenedDeposit] = field(default_factory=list)
    new_open_items: dict[str, OpenItem] = field(default_factory=dict)
    closed_items: dict[str, None] = field(default_factory=dict)
    """The ids of items that are not open any more, in the order in which they were closed."""
    new_limits: dict[str, OperatorLimit] = field(default_factory=dict)
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

    def open_item(self, item: OpenItem) -> None:
        """Add an item that waits for a person, or replace that of an earlier decision."""
        self.closed_items.pop(item.event_id, None)
        self.open_items[item.event_id] = self.new_open_items[item.event_id] = item

    def close_item(self, event_id: str) -> None:
        """Remove an item, whether it is open or not."""
        self.open_items.pop(event_id, None)
        self.new_open_items.pop(event_id, None)
        self.closed_items[event_id] = None

    def set_limit(self, limit: OperatorLimit) -> None:
        """Replace the limit of one operator in a currency."""
        self.operator_limits[limit.currency] = self.new_limits[limit.currency] = limit

    def set_state(self, state: PlayerState) -> None:
        """Replace a player's state."""
        self.states[state.player_id] = state
        self.changed_states[state.player_id] = state
