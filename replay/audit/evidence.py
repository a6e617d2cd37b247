"""Evidence of the checks: topics and tables, read whole and only for the checks.

No counter of any worker is trusted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ledger_sink.rules.book import LogEvent
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.log_check import checksum
from replay.audit.rerun import name_record, rerun_detectors
from runtime.kafka.topic_reader import partition_bounds, read_topics
from runtime.postgres.statements import statements_of
from runtime.security import BrokerAddress
from schemas import codec
from schemas.errors import Rejected
from schemas.events import (
    Attempt,
    DeadLetter,
    FraudAlert,
    GameResult,
    MarketSettlement,
    PlayerEvent,
    Position,
    RiskSignal,
    WalletBalance,
    WalletOutcome,
    WalletTransaction,
)
from schemas.topics import (
    ALERTS,
    BALANCES,
    DEAD_LETTER_SUFFIX,
    GAME_RESULTS,
    OUTCOMES,
    PLAYER_EVENTS,
    SETTLEMENTS,
    SIGNALS,
    TRANSACTIONS,
    UNRESOLVED,
    dead_letter_topic,
    qualified_name,
    raw_topic,
)
from streams.normalise.mapping.normaliser import Normaliser
from streams.providers.registry import DIALECTS

SQL = statements_of("replay.audit", "checks")
_OURS = (
    TRANSACTIONS,
    UNRESOLVED,
    PLAYER_EVENTS,
    GAME_RESULTS,
    SETTLEMENTS,
    SIGNALS,
    BALANCES,
    OUTCOMES,
    ALERTS,
)


@dataclass(slots=True)
class TopicEvidence:
    """Contents of an installation's topics, as far as the checks need them."""

    raw: set[Position] = field(default_factory=set)
    item_counts: dict[Position, int] = field(default_factory=dict)
    """Number of items of a raw record, where it is more than one."""
    log: dict[int, list[LogEvent]] = field(default_factory=dict)
    log_offsets: set[Position] = field(default_factory=set)
    log_records: dict[Position, tuple[int, int]] = field(default_factory=dict)
    """Of the records of the log: the CRC-32 of key and value, by which a quarantine names them, and
    the time in the log."""
    unresolved: set[Position] = field(default_factory=set)
    without_player: dict[Position, tuple[str, Attempt]] = field(default_factory=dict)
    """Event and attempt of each record on the topic of events without a player."""
    attempts: set[Attempt] = field(default_factory=set)
    """Attempts of all events that the normaliser wrote, on any topic."""
    dead_letters: list[DeadLetter] = field(default_factory=list)
    balances: dict[str, WalletBalance] = field(default_factory=dict)
    """Latest balances by key, as a reader has them that drops `version <= seen`."""
    balance_history: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Version and producer time (epoch ms) of every balance by key, in the order of the topic."""
    alerts: dict[str, FraudAlert] = field(default_factory=dict)
    watched: dict[str, dict[int, list[tuple[int, Any]]]] = field(default_factory=dict)
    """What detectors read beside the log: records by topic and partition, with their offsets."""
    partitions: int = 0
    """Number of partitions of the log."""
    outcomes: dict[tuple[str, Attempt], WalletOutcome] = field(default_factory=dict)
    contradictions: list[str] = field(default_factory=list)
    """Outcomes of one attempt that differ; records under a wrong key, at odds with themselves, or
    unreadable."""


class AnswerRow(msgspec.Struct, frozen=True):
    """Row of the ledger that answers one record of the log."""

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
    decided_at: int | None = None


@dataclass(slots=True)
class TableEvidence:
    """Contents of the ledger's tables, as far as the checks compare them with something else."""

    wallets: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    answers: list[AnswerRow] = field(default_factory=list)
    parked: set[tuple[int, int]] = field(default_factory=set)
    unappended: set[tuple[int, int]] = field(default_factory=set)
    """Those of `parked` that still wait for their player."""
    waiting_records: set[Position] = field(default_factory=set)
    """Raw records that wait behind a dead letter of their player."""
    quarantined: set[tuple[int, int]] = field(default_factory=set)
    """Places of the log behind which the ledger went on by a quarantine."""
    batches: list[tuple[int, int, int]] = field(default_factory=list)
    digests: dict[str, int] = field(default_factory=dict)
    """Hash over all columns of all rows of one record of the log, by table and record."""


async def read_tables(database: LedgerDatabase) -> TableEvidence:
    """Read wallets by `player:currency`, answers, parked rows, and batches in commit order."""
    wallets = await database.query(SQL["wallets"])
    answers = await database.query(SQL["answers"])
    parked = await database.query(SQL["parked_offsets"])
    return TableEvidence(
        wallets={f"{row[0]}:{row[1]}": tuple(row[2:]) for row in wallets},
        answers=[_answer_row(row) for row in answers],
        parked={(partition, offset) for partition, offset, _ in parked},
        unappended={(partition, offset) for partition, offset, appended in parked if not appended},
        waiting_records={Position(*row) for row in await database.query(SQL["waiting_raw"])},
        quarantined={(part, offset) for part, offset in await database.query(SQL["quarantined"])},
        batches=[
            (partition, first, after)
            for partition, first, after in await database.query(SQL["batches"])
        ],
        digests=dict(await database.query(SQL["digests"])),
    )


async def read_provider_moves(
    database: LedgerDatabase, providers: Collection[str]
) -> dict[str, dict[str, int]]:
    """Return what each transaction of these providers moved for its player, by provider and event.

    In minor units, positive to the player, cash, bonus and held money together; a rollback or
    cancel counts for the event that it takes back. What moved nothing in the end is left out.
    """
    moves: dict[str, dict[str, int]] = {}
    rows = await database.query(SQL["provider_moves"], {"providers": list(providers)})
    for provider, event, minor in rows:
        moves.setdefault(provider, {})[event] = int(minor)
    return moves


def _answer_row(row: Sequence[Any]) -> AnswerRow:
    partition, offset, event_id, outcome, reason, currency, available, version, *rest = row
    attempt, identity = Attempt(*rest[:4]), rest[4:]
    return AnswerRow(
        partition,
        offset,
        event_id,
        outcome,
        reason,
        currency,
        available,
        version,
        attempt,
        *identity,
    )


async def read_all_topics(
    broker: BrokerAddress, namespace: str, providers: Collection[str]
) -> TopicEvidence:
    """Read every record of the topics that the checks compare. Raises Unavailable, UsageError."""
    topics = TopicEvidence()
    raw = {qualified_name(raw_topic(provider), namespace) for provider in providers}
    ours = {qualified_name(name, namespace) for name in _OURS}
    dead = {
        qualified_name(dead_letter_topic(raw_topic(provider)), namespace) for provider in providers
    } | {qualified_name(dead_letter_topic(name), namespace) for name in (TRANSACTIONS, UNRESOLVED)}
    log = qualified_name(TRANSACTIONS, namespace)
    topics.partitions = len(await partition_bounds(broker, {log}))
    readers = _TopicReaders(topics, namespace)
    async for record in read_topics(broker, raw | ours | dead):
        readers.read(record)
    return topics


def raised_again(topics: TopicEvidence) -> dict[str, FraudAlert]:
    """Return the alerts that the rules of the release raise over these topics."""
    return rerun_detectors(topics.log, others=topics.watched, partitions=topics.partitions)


class _TopicReaders:
    """One function for each topic, which stores the content of its records."""

    def __init__(self, topics: TopicEvidence, namespace: str) -> None:
        self._topics = topics
        self._transaction = codec.decoder(WalletTransaction)
        self._player_event = codec.decoder(PlayerEvent)
        self._result, self._signal = codec.decoder(GameResult), codec.decoder(RiskSignal)
        self._balance, self._outcome = codec.decoder(WalletBalance), codec.decoder(WalletOutcome)
        self._settlement = codec.decoder(MarketSettlement)
        self._alert, self._dead_letter = codec.decoder(FraudAlert), codec.decoder(DeadLetter)
        # Without keys: the number of items does not depend on the signature, and events are not
        # needed.
        self._normaliser = Normaliser(DIALECTS, {}, lambda _: b"")
        by_name = {
            TRANSACTIONS: self._read_log,
            UNRESOLVED: self._read_unresolved,
            PLAYER_EVENTS: self._read_player_event,
            GAME_RESULTS: self._read_result,
            SIGNALS: self._read_signal,
            SETTLEMENTS: self._read_settlement,
            BALANCES: self._read_balance,
            OUTCOMES: self._read_outcome,
            ALERTS: self._read_alert,
        }
        self._by_topic = {qualified_name(name, namespace): read for name, read in by_name.items()}

    def read(self, record: Any) -> None:
        """Read one record into the evidence."""
        where = Position(record.topic, record.partition, record.offset)
        try:
            if record.topic.endswith(DEAD_LETTER_SUFFIX):
                self._topics.dead_letters.append(self._dead_letter(record.value))
            elif record.topic in self._by_topic:
                self._by_topic[record.topic](where, record)
            else:
                self._read_raw(where, record)
        except Rejected as error:
            # Only our workers write to this topic; its unreadable records have no dead letters.
            self._contradicts(where, f"the record cannot be read: {error}")

    def _contradicts(self, where: Position, what: str) -> None:
        self._topics.contradictions.append(
            f"{where.topic}-{where.partition}@{where.offset}: {what}"
        )

    def _read_raw(self, where: Position, record: Any) -> None:
        self._topics.raw.add(where)
        items = len(self._normaliser.normalise(record))
        if items > 1:
            self._topics.item_counts[where] = items

    def _read_log(self, where: Position, record: Any) -> None:
        topics = self._topics
        topics.log_offsets.add(where)
        topics.log_records[where] = checksum(record.key, record.value), record.timestamp
        try:
            event = self._transaction(record.value)
        except Rejected:
            # The ledger makes a dead letter, which `offsets_accounted` checks; at a record of a
            # newer release it waits.
            return
        topics.log.setdefault(where.partition, []).append(LogEvent(event, where, record.timestamp))
        topics.attempts.add(event.attempt)

    def _read_unresolved(self, where: Position, record: Any) -> None:
        topics = self._topics
        topics.unresolved.add(where)
        try:
            event = self._transaction(record.value)
        except Rejected:
            return  # as in the log
        topics.without_player[where] = (event.event_id, event.attempt)
        topics.attempts.add(event.attempt)

    def _read_player_event(self, where: Position, record: Any) -> None:
        event = self._player_event(record.value)
        self._topics.attempts.add(event.attempt)
        self._note_watched(PLAYER_EVENTS, where, event)

    def _read_result(self, where: Position, record: Any) -> None:
        self._note_watched(GAME_RESULTS, where, self._result(record.value))

    def _read_signal(self, where: Position, record: Any) -> None:
        self._note_watched(SIGNALS, where, self._signal(record.value))

    def _note_watched(self, topic: str, where: Position, event: Any) -> None:
        own = self._topics.watched.setdefault(topic, {}).setdefault(where.partition, [])
        own.append((where.offset, event))

    def _read_settlement(self, _: Position, record: Any) -> None:
        self._topics.attempts.add(self._settlement(record.value).attempt)

    def _read_balance(self, where: Position, record: Any) -> None:
        topics, key, read = self._topics, _text(record.key), self._balance(record.value)
        topics.balance_history.setdefault(key, []).append((read.version, record.timestamp))
        if key != f"{read.player_id}:{read.currency}":
            self._contradicts(
                where,
                f"the record under the key {key} is the balance of"
                f" {read.player_id}:{read.currency}",
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

    def _read_outcome(self, where: Position, record: Any) -> None:
        topics, read = self._topics, self._outcome(record.value)
        known = topics.outcomes.setdefault((read.event_id, read.attempt), read)
        if _text(record.key) != (read.provider_tx_id if read.player_id is None else read.player_id):
            self._contradicts(
                where, f"the outcome of {read.attempt} is under the key {record.key!r}"
            )
        if known != read:
            self._contradicts(
                where, f"{read.attempt} was answered {known.outcome} and {read.outcome}"
            )

    def _read_alert(self, _: Position, record: Any) -> None:
        read = self._alert(record.value)
        self._topics.alerts[name_record(read)] = read


def _text(key: bytes | None) -> str:
    return (key or b"").decode("utf-8", "replace")
