"""What the checks look at: topics and tables read anew, whole. No counter of any worker is trusted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ledger_sink.book import Sourced
from ledger_sink.database import Database
from ledger_sink.statements import statements_of
from replay.topics import read_topics
from schemas import codec
from schemas.errors import Rejected
from schemas.events import (
    Attempt,
    DeadLetter,
    FraudAlert,
    PlayerEvent,
    Position,
    WalletBalance,
    WalletOutcome,
    WalletTransaction,
)
from schemas.topics import (
    ALERTS,
    BALANCES,
    DEAD_LETTER_SUFFIX,
    OUTCOMES,
    PLAYER_EVENTS,
    TRANSACTIONS,
    UNRESOLVED,
    dead_letter_topic,
    qualified,
    raw_topic,
)

SQL = statements_of("replay", "checks")
_OURS = (TRANSACTIONS, UNRESOLVED, PLAYER_EVENTS, BALANCES, OUTCOMES, ALERTS)


@dataclass(slots=True)
class Topics:
    """The topics of an installation."""

    raw: set[Position] = field(default_factory=set)
    log: dict[int, list[Sourced]] = field(default_factory=dict)
    log_offsets: set[Position] = field(default_factory=set)
    unresolved: set[Position] = field(default_factory=set)
    attempts: set[Attempt] = field(default_factory=set)
    """What the normaliser made of raw records, on whatever topic it put it."""
    dead: list[DeadLetter] = field(default_factory=list)
    balances: dict[str, WalletBalance] = field(default_factory=dict)
    """The latest by key, as a reader who drops `version <= seen` has them."""
    published_at: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Version and producer time (epoch ms) of every balance by key, in the order of the topic."""
    alerts: dict[str, FraudAlert] = field(default_factory=dict)
    outcomes: dict[tuple[str, Attempt], WalletOutcome] = field(default_factory=dict)
    contradictions: list[str] = field(default_factory=list)
    """Two outcomes for one attempt that say different things."""


class Answered(msgspec.Struct, frozen=True):
    """A row of the ledger that answers one record of the log."""

    part: int
    source_offset: int
    event_id: str
    outcome: str
    reason: str
    currency: str | None
    available_minor: int | None
    version: int | None
    attempt: Attempt


@dataclass(slots=True)
class Tables:
    """The ledger's tables, as far as the checks compare them with something else."""

    wallets: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    answers: list[Answered] = field(default_factory=list)
    parked: set[tuple[int, int]] = field(default_factory=set)
    batches: list[tuple[int, int, int]] = field(default_factory=list)


async def read_tables(database: Database) -> Tables:
    """Wallets by `player:currency`, answers by place, parked rows, batches in the order of their commits."""
    wallets = await database.query(SQL["wallets"])
    answers = await database.query(SQL["answers"])
    return Tables(
        wallets={f"{row[0]}:{row[1]}": tuple(row[2:]) for row in wallets},
        answers=[_answered(row) for row in answers],
        parked={(part, offset) for part, offset in await database.query(SQL["parked_offsets"])},
        batches=[(part, first, after) for part, first, after in await database.query(SQL["batches"])],
    )


def _answered(row: Sequence[Any]) -> Answered:
    part, offset, event_id, outcome, reason, currency, available, version, *attempt = row
    return Answered(part, offset, event_id, outcome, reason, currency, available, version, Attempt(*attempt))


async def read_all_topics(bootstrap_servers: str, namespace: str, providers: Collection[str]) -> Topics:
    """Every record of the topics that the checks compare. Raises Unavailable, UsageError."""
    topics = Topics()
    raw = {qualified(raw_topic(provider), namespace) for provider in providers}
    ours = {qualified(name, namespace) for name in _OURS}
    dead = {qualified(dead_letter_topic(raw_topic(provider)), namespace) for provider in providers} | {
        qualified(dead_letter_topic(name), namespace) for name in (TRANSACTIONS, UNRESOLVED)
    }
    readers = _readers(topics, namespace)
    async for record in read_topics(bootstrap_servers, raw | ours | dead):
        where = Position(record.topic, record.partition, record.offset)
        if record.topic.endswith(DEAD_LETTER_SUFFIX):
            topics.dead.append(codec.decoder(DeadLetter)(record.value))
        elif record.topic in raw:
            topics.raw.add(where)
        else:
            readers[record.topic](where, record)
    return topics


def _readers(topics: Topics, namespace: str) -> Mapping[str, Any]:
    transaction, player_event = codec.decoder(WalletTransaction), codec.decoder(PlayerEvent)
    balance, outcome = codec.decoder(WalletBalance), codec.decoder(WalletOutcome)
    alert = codec.decoder(FraudAlert)

    def log(where: Position, record: Any) -> None:
        topics.log_offsets.add(where)
        try:
            event = transaction(record.value)
        except Rejected:
            return  # the ledger buries it; `offsets_accounted` looks for the dead letter
        topics.log.setdefault(where.partition, []).append(Sourced(event, where))
        topics.attempts.add(event.attempt)

    def unresolved(where: Position, record: Any) -> None:
        topics.unresolved.add(where)
        topics.attempts.add(transaction(record.value).attempt)

    def player(_: Position, record: Any) -> None:
        topics.attempts.add(player_event(record.value).attempt)

    def balances(_: Position, record: Any) -> None:
        key = record.key.decode()
        read = balance(record.value)
        topics.published_at.setdefault(key, []).append((read.version, record.timestamp))
        if key not in topics.balances or topics.balances[key].version < read.version:
            topics.balances[key] = read

    def outcomes(_: Position, record: Any) -> None:
        read = outcome(record.value)
        known = topics.outcomes.setdefault((read.event_id, read.attempt), read)
        if known != read:
            topics.contradictions.append(f"{read.attempt}: {known.outcome} and {read.outcome}")

    def alerts(_: Position, record: Any) -> None:
        read = alert(record.value)
        topics.alerts[read.alert_id] = read

    by_name = {
        TRANSACTIONS: log, UNRESOLVED: unresolved, PLAYER_EVENTS: player, BALANCES: balances, OUTCOMES: outcomes,
        ALERTS: alerts,
    }  # fmt: skip
    return {qualified(name, namespace): reader for name, reader in by_name.items()}
