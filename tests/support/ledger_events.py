"""Events for the ledger's tests, short to write and complete."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import msgspec

from ledger_sink.rules.book import Book, DecidedEvent, LogEvent
from ledger_sink.rules.posting import post
from runtime.kafka.partitioner import partition_for
from schemas.events import Amount, Attempt, Cause, Leg, Position, Reference, WalletTransaction
from schemas.identity import event_id, fingerprint
from schemas.policies import DEFAULT_POLICY, LedgerPolicy
from streams.normalise.mapping.grouping import group_transactions

_offsets = count()


def leg(kind: str, minor: int | None = None, currency: str | None = "EUR", **more: Any) -> Leg:
    return Leg(kind, None if minor is None else Amount(minor, 2), currency, **more)


def transaction(
    operation: str,
    tx_id: str,
    *legs: Leg,
    provider: str = "hub88",
    player: str | None = "p-1",
    reference: tuple[str, str] | None = None,
    decide: bool = False,
    cause: Cause | None = None,
    attempt: Attempt | None = None,
    round_id: str | None = "r-1",
    other_operations: Sequence[str] = (),
    is_implied: bool = False,
    is_billable: bool = True,
) -> WalletTransaction:
    pointer = Reference(*reference, list(other_operations), is_implied) if reference else None
    return WalletTransaction(
        event_id=event_id("acme", provider, operation, tx_id),
        brand="acme",
        provider=provider,
        provider_version="1",
        region="MT",
        operation=operation,
        provider_tx_id=tx_id,
        attempt=attempt or Attempt(f"provider.{provider}.raw.v1", 0, next(_offsets), 0),
        player_id=player,
        legs=list(legs),
        reference=pointer,
        round_id=round_id,
        round_closed=False,
        game_id="g-1",
        occurred_at=1_790_000_000_000,
        time_source="CONNECTOR",
        provider_at=None,
        received_at=1_790_000_000_000,
        appended_at=1_790_000_000_500,
        fingerprint=fingerprint(player, legs, pointer, round_id, "g-1"),
        fingerprint_version=1,
        signature="VALID",
        decision_required=decide,
        cause=cause,
        is_billable=is_billable,
    )


def call(*events: WalletTransaction, offset: int | None = None) -> list[WalletTransaction]:
    """These events as the items of one new raw record that are decided together."""
    number = next(_offsets) if offset is None else offset
    items = [
        msgspec.structs.replace(
            event, attempt=Attempt(f"provider.{event.provider}.raw.v1", 0, number, index)
        )
        for index, event in enumerate(events)
    ]
    return group_transactions(items) if len(items) > 1 else items


def bet(tx_id: str, minor: int, **more: Any) -> WalletTransaction:
    return transaction("bet", tx_id, leg("BET", minor), decide=True, **more)


def win(tx_id: str, minor: int, of: str, **more: Any) -> WalletTransaction:
    return transaction("win", tx_id, leg("WIN", minor), reference=("bet", of), **more)


def rollback(tx_id: str, of: str, **more: Any) -> WalletTransaction:
    return transaction(
        "rollback", tx_id, leg("ROLLBACK", None, None), reference=("bet", of), **more
    )


def deposit(tx_id: str, minor: int, **more: Any) -> WalletTransaction:
    return transaction(
        "AUTHORISATION", tx_id, leg("DEPOSIT", minor), provider="adyen", round_id=None, **more
    )


def house(operation: str, tx_id: str, *legs: Leg, **more: Any) -> WalletTransaction:
    return transaction(operation, tx_id, *legs, provider="house", round_id=None, **more)


def limit_events(minor: int, currency: str = "EUR") -> tuple[WalletTransaction, WalletTransaction]:
    """Two people let one person move up to an amount in a currency."""
    name, by = (
        f"{currency}-{minor}",
        (Cause("operator", "o", who, "a test") for who in ("ann", "bob")),
    )
    proposed = leg("PROPOSAL", minor, currency)
    return (
        house("limit.proposed", name, proposed, player=None, cause=next(by)),
        house(
            "limit.approved",
            name,
            leg("OPERATOR_LIMIT", None, None),
            player=None,
            reference=("limit.proposed", name),
            cause=next(by),
        ),
    )


def quarantine(
    operation: str, record: str, actor: str, partition: int = 0, partitions: int = 1
) -> WalletTransaction:
    """The proposal or approval of a quarantine, under an id that is a key of its partition."""
    tx_id = next(
        tx_id
        for tx_id in (f"{record}-{operation}-{actor}-{n}" for n in count())
        if partition_for(tx_id.encode(), partitions) == partition
    )
    return house(
        f"quarantine.{operation}",
        tx_id,
        leg("QUARANTINE", None, None),
        player=None,
        reference=("quarantined", record),
        cause=Cause("quarantine", record, actor, "because"),
    )


def log_event(event: WalletTransaction, partition: int = 0, offset: int | None = None) -> LogEvent:
    place = event.attempt.offset if offset is None else offset
    return LogEvent(event, Position("wallet.transactions.v1", partition, place))


def book_of(*events: WalletTransaction, policy: LedgerPolicy = DEFAULT_POLICY) -> Book:
    book = Book()
    for offset, event in enumerate(events):
        post(book, log_event(event, offset=offset), policy)
    return book


def outcomes(book: Book) -> list[str]:
    return [decided.answer.outcome for decided in book.decisions]


def last(book: Book) -> DecidedEvent:
    return book.decisions[-1]


def purse(book: Book, player: str = "p-1", currency: str = "EUR") -> tuple[int, int, int]:
    wallet = book.wallet(player, currency)
    return wallet.cash_minor, wallet.bonus_minor, wallet.held_minor
