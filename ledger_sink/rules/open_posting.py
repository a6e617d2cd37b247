"""One decision while it is made: what an event moves, closes and opens.

All of it can be undone until the decision is written.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from ledger_sink.rules.accounts import BONUS, CASH, HELD, player_account
from ledger_sink.rules.amounts import CURRENCIES_DIFFER, OUT_OF_RANGE, Unpostable
from ledger_sink.rules.book import NO_PLAYER, Book, DecidedEvent, LogEvent
from ledger_sink.rules.journal import (
    Action,
    Answer,
    Closing,
    Entry,
    OpenedDeposit,
    PlayerState,
    Proposal,
    Transfer,
    Wallet,
    WalletSnapshot,
)
from ledger_sink.rules.open_items import open_item_of
from schemas.errors import InvariantBroken
from schemas.events import Outcome, WalletTransaction
from schemas.money import AMOUNT_MAX
from schemas.policies import DEFAULT_POLICY, LedgerPolicy

K = TypeVar("K")
T = TypeVar("T")

_SMALL: Final = AMOUNT_MAX // 4


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

    def close_item(self, event_id: str, action: Action) -> None:
        """Close an open item, for any player; the last step of a rule, since `undo` leaves it so.

        An event that a rollback without a player has closed keeps that closing.
        """
        if (event_id, NO_PLAYER) not in self.book.closings:
            self.close(event_id, NO_PLAYER, action)
        self.book.close_item(event_id)

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
        if outcome == Outcome.UNRESOLVED or decision:
            self._update_items(outcome)
        book.entries.setdefault(event_id, []).append(entry)
        book.transfers_of[event_id, decision] = moves
        decided = DecidedEvent(
            self.log_event, answer, decision, len(moves), False, self.contribution_rest
        )
        book.decisions.append(decided)
        return decided

    def _update_items(self, outcome: str) -> None:
        """Close the item of an earlier decision, and open one for a decision without a result."""
        event, book = self.event, self.book
        earlier = book.entries.get(event.event_id)
        if earlier and earlier[-1].answer.outcome == Outcome.UNRESOLVED:
            book.close_item(event.event_id)
        if outcome == Outcome.UNRESOLVED:
            opened_at_ms = self.log_event.logged_at or event.appended_at
            book.open_item(open_item_of(event, self.decision, self.transfers, opened_at_ms))

    def retract(self) -> None:
        """Take back a decision that `finish` has added, with all that the event has moved.

        Only for the newest decision of the book.
        """
        book, event_id = self.book, self.event.event_id
        book.decisions.pop()
        del book.transfers_of[event_id, self.decision]
        entries = book.entries[event_id]
        entries.pop()
        book.open_items.pop(event_id, None)
        book.new_open_items.pop(event_id, None)
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
