"""What the checks look at: topics and tables read anew, whole.

No counter of any worker is trusted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ledger_sink.rules.book import LogEvent
from ledger_sink.store.database import LedgerDatabase
from replay.topics import read_topics
from runtime.postgres.statements import statements_of
from schemas import codec
from schemas.errors import Rejected
from schemas.events import (
    Attempt,
    DeadLetter,
    FraudAlert,
    MarketSettlement,
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
    SETTLEMENTS,
    TRANSACTIONS,
    UNRESOLVED,
    dead_letter_topic,
    qualified_name,
    raw_topic,
)
from streams.normalise.mapping.normaliser import Normaliser
from streams.providers.registry import DIALECTS

SQL = statements_of("replay.audit", "checks")
_OURS = (TRANSACTIONS, UNRESOLVED, PLAYER_EVENTS, SETTLEMENTS, BALANCES, OUTCOMES, ALERTS)


@dataclass(slots=True)
class TopicEvidence:
    """The topics of an installation."""

    raw: set[Position] = field(default_factory=set)
    item_counts: dict[Position, int] = field(default_factory=dict)
    """How many items a raw record holds, where that is more than one."""
    log: dict[int, list[LogEvent]] = field(default_factory=dict)
    log_offsets: set[Position] = field(default_factory=set)
    unresolved: set[Position] = field(default_factory=set)
    without_player: dict[Position, tuple[str, Attempt]] = field(default_factory=dict)
    """Event and attempt of what is on the topic of events that name no player."""
    attempts: set[Attempt] = field(default_factory=set)
    """What the normaliser made of raw records, on whatever topic it put it."""
    dead_letters: list[DeadLetter] = field(default_factory=list)
    balances: dict[str, WalletBalance] = field(default_factory=dict)
    """The latest by key, as a reader who drops `version <= seen` has them."""
    balance_history: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Version and producer time (epoch ms) of every balance by key, in the order of the topic."""
    alerts: dict[str, FraudAlert] = field(default_factory=dict)
    outcomes: dict[tuple[str, Attempt], WalletOutcome] = field(default_factory=dict)
    contradictions: list[str] = field(default_factory=list)
    """Two outcomes for one attempt that say different things; a record under another's key, or at
    odds with itself.
    """


class AnswerRow(msgspec.Struct, frozen=True):
    """A row of the ledger that answers one record of the log."""

    partition: int
    source_offset: int
    event_id: str
    outcome: str
    reason: str
    currency: str | None
    available_minor: int | None
    version: int | None
    attempt: Attempt
    brand: str
    provider: str
    operation: str
    provider_tx_id: str
    player_id: str | None


@dataclass(slots=True)
class TableEvidence:
    """The ledger's tables, as far as the checks compare them with something else."""

    wallets: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    answers: list[AnswerRow] = field(default_factory=list)
    parked: set[tuple[int, int]] = field(default_factory=set)
    unappended: set[tuple[int, int]] = field(default_factory=set)
    """Of `parked`, what still waits for its player."""
    waiting_records: set[Position] = field(default_factory=set)
    """Raw records that wait behind a dead letter of their player."""
    batches: list[tuple[int, int, int]] = field(default_factory=list)
    digests: dict[str, int] = field(default_factory=dict)
    """A hash over all columns of all rows of one record of the log, table by table."""


async def read_tables(database: LedgerDatabase) -> TableEvidence:
    """Wallets by `player:currency`, answers by place, parked rows, batches in the order of their
    commits.
    """
    wallets = await database.query(SQL["wallets"])
    answers = await database.query(SQL["answers"])
    parked = await database.query(SQL["parked_offsets"])
    return TableEvidence(
        wallets={f"{row[0]}:{row[1]}": tuple(row[2:]) for row in wallets},
        answers=[_answered(row) for row in answers],
        parked={(part, offset) for part, offset, _ in parked},
        unappended={(part, offset) for part, offset, appended in parked if not appended},
        waiting_records={Position(*row) for row in await database.query(SQL["waiting_raw"])},
        batches=[
            (part, first, after) for part, first, after in await database.query(SQL["batches"])
        ],
        digests=dict(await database.query(SQL["digests"])),
    )


def _answered(row: Sequence[Any]) -> AnswerRow:
    part, offset, event_id, outcome, reason, currency, available, version, *rest = row
    attempt, identity = Attempt(*rest[:4]), rest[4:]
    return AnswerRow(
        part, offset, event_id, outcome, reason, currency, available, version, attempt, *identity
    )


async def read_all_topics(
    bootstrap_servers: str, namespace: str, providers: Collection[str]
) -> TopicEvidence:
    """Every record of the topics that the checks compare. Raises Unavailable, UsageError."""
    topics = TopicEvidence()
    raw = {qualified_name(raw_topic(provider), namespace) for provider in providers}
    ours = {qualified_name(name, namespace) for name in _OURS}
    dead = {
        qualified_name(dead_letter_topic(raw_topic(provider)), namespace) for provider in providers
    } | {qualified_name(dead_letter_topic(name), namespace) for name in (TRANSACTIONS, UNRESOLVED)}
    readers = _TopicReaders(topics, namespace)
    async for record in read_topics(bootstrap_servers, raw | ours | dead):
        readers.read(record)
    return topics


class _TopicReaders:
    """One function a topic, that takes down what its records say."""

    def __init__(self, topics: TopicEvidence, namespace: str) -> None:
        self._topics = topics
        self._transaction, self._player_event = (
            codec.decoder(WalletTransaction),
            codec.decoder(PlayerEvent),
        )
        self._balance, self._outcome = codec.decoder(WalletBalance), codec.decoder(WalletOutcome)
        self._settlement = codec.decoder(MarketSettlement)
        self._alert, self._dead_letter = codec.decoder(FraudAlert), codec.decoder(DeadLetter)
        # Whatever key signs a record, its body has so many items; the events themselves are not
        # wanted.
        self._normaliser = Normaliser(DIALECTS, {}, lambda _: b"")
        by_name = {
            TRANSACTIONS: self._log,
            UNRESOLVED: self._unresolved,
            PLAYER_EVENTS: self._player,
            SETTLEMENTS: self._settled,
            BALANCES: self._balances,
            OUTCOMES: self._outcomes,
            ALERTS: self._alerts,
        }
        self._by_topic = {qualified_name(name, namespace): read for name, read in by_name.items()}

    def read(self, record: Any) -> None:
        where = Position(record.topic, record.partition, record.offset)
        try:
            if record.topic.endswith(DEAD_LETTER_SUFFIX):
                self._topics.dead_letters.append(self._dead_letter(record.value))
            elif record.topic in self._by_topic:
                self._by_topic[record.topic](where, record)
            else:
                self._raw(where, record)
        except Rejected as error:  # on a topic that only our workers write to, and nobody buries what he cannot read
            self._contradicts(where, f"nobody can read it: {error}")

    def _contradicts(self, where: Position, what: str) -> None:
        self._topics.contradictions.append(
            f"{where.topic}-{where.partition}@{where.offset}: {what}"
        )

    def _raw(self, where: Position, record: Any) -> None:
        self._topics.raw.add(where)
        items = len(self._normaliser.normalise(record))
        if items > 1:
            self._topics.item_counts[where] = items

    def _log(self, where: Position, record: Any) -> None:
        topics = self._topics
        topics.log_offsets.add(where)
        try:
            event = self._transaction(record.value)
        except Rejected:
            return  # the ledger buries it; `offsets_accounted` looks for the dead letter
        topics.log.setdefault(where.partition, []).append(LogEvent(event, where))
        topics.attempts.add(event.attempt)

    def _unresolved(self, where: Position, record: Any) -> None:
        topics = self._topics
        topics.unresolved.add(where)
        try:
            event = self._transaction(record.value)
        except Rejected:
            return  # as in the log
        topics.without_player[where] = (event.event_id, event.attempt)
        topics.attempts.add(event.attempt)

    def _player(self, _: Position, record: Any) -> None:
        self._topics.attempts.add(self._player_event(record.value).attempt)

    def _settled(self, _: Position, record: Any) -> None:
        self._topics.attempts.add(self._settlement(record.value).attempt)

    def _balances(self, where: Position, record: Any) -> None:
        topics, key, read = self._topics, _text(record.key), self._balance(record.value)
        topics.balance_history.setdefault(key, []).append((read.version, record.timestamp))
        if key != f"{read.player_id}:{read.currency}":
            self._contradicts(
                where, f"under the key {key} stands the balance of {read.player_id}:{read.currency}"
            )
        if read.balance_minor != read.available_minor + read.held_minor:
            self._contradicts(where, f"balance v{read.version} of {key} does not add up")
        known = topics.balances.get(key)
        if known is None or known.version < read.version:
            topics.balances[key] = read
        elif known.version == read.version and known != read:
            self._contradicts(
                where, f"balance v{read.version} of {key} was {known.balance_minor} before"
            )

    def _outcomes(self, where: Position, record: Any) -> None:
        topics, read = self._topics, self._outcome(record.value)
        known = topics.outcomes.setdefault((read.event_id, read.attempt), read)
        if _text(record.key) != (read.provider_tx_id if read.player_id is None else read.player_id):
            self._contradicts(
                where, f"the outcome of {read.attempt} stands under the key {record.key!r}"
            )
        if known != read:
            self._contradicts(where, f"{read.attempt} was told {known.outcome} and {read.outcome}")

    def _alerts(self, _: Position, record: Any) -> None:
        read = self._alert(record.value)
        self._topics.alerts[read.alert_id] = read


def _text(key: bytes | None) -> str:
    return (key or b"").decode("utf-8", "replace")
