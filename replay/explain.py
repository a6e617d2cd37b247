"""What messages mean: production normaliser, player resolution and posting rules, without servers.

Bodies go through the same code as in the pipeline: `Normaliser` reads them, an event without a
player waits for the event that it refers to as it does at the resolver, and `post` decides. The
book starts empty, so what the messages do not tell (an opening balance) is zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace

from ledger_sink.rules.accounts import purse_of
from ledger_sink.rules.book import Book, LogEvent
from ledger_sink.rules.journal import Answer
from ledger_sink.rules.posting import post
from schemas.events import MarketSettlement, PlayerEvent, Position, WalletTransaction
from schemas.money import exponent_of, format_minor
from schemas.topics import TRANSACTIONS, UNRESOLVED
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser, RejectedItem
from streams.providers.keyring import Keyring
from streams.providers.registry import DIALECTS, Dialects, policies


class RawBody(msgspec.Struct, frozen=True, gc=False):
    """A record of a raw topic that was never appended: its `file` stands for its position."""

    file: str
    topic: str
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    offset: int
    timestamp: int
    key: bytes | None = None
    partition: int = 0


class ExplainedEvent(msgspec.Struct, gc=False):
    """An event of the log and how it was decided; `answer` is None until it is."""

    file: str
    event: WalletTransaction
    answer: Answer | None = None


@dataclass
class MessageExplanation:
    """Events in the order of their bodies, what was rejected, and the book that follows."""

    events: list[ExplainedEvent] = field(default_factory=list)
    rejected: list[tuple[str, RejectedItem]] = field(default_factory=list)
    settlements: list[tuple[str, MarketSettlement]] = field(default_factory=list)
    player_events: list[tuple[str, PlayerEvent]] = field(default_factory=list)
    book: Book = field(default_factory=Book)

    def balances(self) -> dict[str, dict[str, str]]:
        """Return what each player's wallets hold by currency, in decimals of the currency."""
        totals: dict[str, dict[str, str]] = {}
        for (player_id, currency), wallet in sorted(self.book.wallets.items()):
            if wallet.version:
                minor = wallet.cash_minor + wallet.bonus_minor + wallet.held_minor
                totals.setdefault(player_id, {})[currency] = _print_minor(minor, currency)
        return totals

    def house(self) -> dict[str, dict[str, str]]:
        """Return what each house account has received less what it has given, by currency."""
        sums: dict[tuple[str, str], int] = {}
        for _, _, transfer in self.book.new_transfers:
            for account, minor in (
                (transfer.debit, -transfer.amount_minor),
                (transfer.credit, transfer.amount_minor),
            ):
                if purse_of(account) is None:
                    key = account, transfer.currency
                    sums[key] = sums.get(key, 0) + minor
        totals: dict[str, dict[str, str]] = {}
        for (account, currency), minor in sorted(sums.items()):
            totals.setdefault(account, {})[currency] = _print_minor(minor, currency)
        return totals


def explain(
    bodies: Iterable[RawBody], keyring: Keyring | None = None, dialects: Dialects = DIALECTS
) -> MessageExplanation:
    """Return what bodies mean in this order, each provider under its current policy.

    Without a provider's keys its signatures are not checked. An event whose reference names nothing
    in the bodies is decided last, without a player, as it is after the resolver's barrier. Raises
    UsageError for key material that cannot be used.
    """
    normaliser, rules = Normaliser(dialects, keyring or {}), policies(dialects)
    explanation = MessageExplanation()
    waiting: list[ExplainedEvent] = []

    def decide(row: ExplainedEvent) -> None:
        book = explanation.book
        place = Position(TRANSACTIONS, 0, len(book.decisions))
        # The first event of a group decides all of them, so the newest answer may be another's.
        row.answer = post(book, LogEvent(row.event, place), rules[row.event.provider]).answer

    def decide_matched() -> None:
        while matched := [row for row in waiting if _find_player(explanation.book, row.event)]:
            for row in matched:
                waiting.remove(row)
                player_id = _find_player(explanation.book, row.event)
                row.event = replace(row.event, player_id=player_id)
                decide(row)

    for body in bodies:
        for row, is_waiting in _read(normaliser, body, explanation):
            if is_waiting:
                waiting.append(row)
            else:
                decide(row)
            decide_matched()
    while waiting:
        decide(waiting.pop(0))
        decide_matched()
    return explanation


def _read(
    normaliser: Normaliser, body: RawBody, explanation: MessageExplanation
) -> Iterator[tuple[ExplainedEvent, bool]]:
    """Yield the body's transactions, with whether they wait for a player; note all else."""
    for item in normaliser.normalise(body):
        if isinstance(item, RejectedItem):
            explanation.rejected.append((body.file, item))
        elif isinstance(item, AcceptedTransaction):
            row = ExplainedEvent(body.file, item.transaction)
            explanation.events.append(row)
            yield row, item.topic == UNRESOLVED
        elif isinstance(item.event, MarketSettlement):
            explanation.settlements.append((body.file, item.event))
        else:
            explanation.player_events.append((body.file, item.event))


def _find_player(book: Book, event: WalletTransaction) -> str | None:
    """Return the player of the event that the reference means, once it is decided."""
    target_id = LogEvent(event, Position(TRANSACTIONS, 0, 0)).reference_id
    entries = book.entries.get(target_id, []) if target_id else []
    return next((entry.player_id for entry in entries if entry.player_id), None)


def _print_minor(minor: int, currency: str) -> str:
    return format_minor(minor, exponent_of(currency))
