"""The way of one event, from the provider's bytes to its answer, put together from what is stored.

It needs no collector: the ledger's tables name the attempts and their places, and the broker's
times of the records on the way are the hops. The outcome of an attempt is found behind the time of
its event in the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from ledger_sink.queries.history import EventDecision, EventHistory, RepeatedAttempt
from pitboss.settings import Runtime
from runtime.kafka.clients import start_client, stop_client
from runtime.kafka.records import readable_headers
from runtime.kafka.topic_reader import partition_bounds, read_offsets
from runtime.telemetry.traces import find_traceparent, parse_traceparent, trace_id_of
from schemas import codec
from schemas.errors import Rejected, Unavailable
from schemas.events import FraudAlert, Position, WalletBalance, WalletOutcome, WalletTransaction
from schemas.topics import ALERTS, BALANCES, OUTCOMES, TRANSACTIONS, UNRESOLVED

ATTEMPTS_MAX: Final = 16
SCAN_MAX: Final = 20_000
"""Records of each topic that are looked through for an event."""
_TIMEOUT_S: Final = 20.0
_RECEIVED: Final = "received-at"


@dataclass(frozen=True)
class TraceHop:
    """One record on the way, or the receipt before the first."""

    step: str
    at_ms: int
    place: str
    """`topic-partition@offset`; empty for a receipt."""
    detail: str = ""


@dataclass(frozen=True)
class AttemptTrace:
    """The way of one attempt of an event."""

    outcome: str
    reason: str
    is_repeat: bool
    hops: list[TraceHop] = field(default_factory=list)


@dataclass(frozen=True)
class EventTrace:
    """The way of an event, attempt by attempt."""

    event_id: str
    trace_id: str
    operation: str
    provider: str
    attempts: Sequence[AttemptTrace]
    notes: list[str] = field(default_factory=list)
    """What is not on the broker any more, or was not found."""

    def as_json(self) -> dict[str, Any]:
        """Return the trace as one JSON object."""
        return asdict(self)


Step = EventDecision | RepeatedAttempt


async def read_trace(runtime: Runtime, history: EventHistory) -> EventTrace:
    """Return the way of the event of a history that is not empty. Raises Unavailable."""
    first = history.decisions[0]
    steps: list[Step] = list(history.decisions)
    steps = (steps + list(history.repeats))[:ATTEMPTS_MAX]
    log = runtime.topic(TRANSACTIONS)
    records = await _read_places(runtime, steps, log)
    notes: list[str] = []
    attempts, trace_id = [], trace_id_of(first.event_id)
    for step in steps:
        raw = records.get(_raw_place(step))
        event = records.get((log, step.partition, step.source_offset))
        attempt = AttemptTrace(step.outcome, step.reason, isinstance(step, RepeatedAttempt))
        if raw is None:
            notes.append(f"{_format(*_raw_place(step))} is not on the broker any more")
        else:
            attempt.hops.extend(_raw_hops(raw))
            if (value := find_traceparent(readable_headers(raw))) is not None:
                trace_id = parse_traceparent(value).trace_id
        if event is None:
            notes.append(f"{log}-{step.partition}@{step.source_offset} is not on the broker")
        else:
            attempt.hops.append(_hop("log", event))
        attempts.append(attempt)
    await _add_answers(runtime, first.event_id, steps, attempts, notes)
    return EventTrace(
        first.event_id, f"{trace_id:032x}", first.operation, first.provider, attempts, notes
    )


def _raw_place(step: Step) -> tuple[str, int, int]:
    return step.attempt_topic, step.attempt_partition, step.attempt_offset


async def _read_places(
    runtime: Runtime, steps: Sequence[Step], log: str
) -> dict[tuple[str, int, int], Any]:
    wanted: dict[TopicPartition, set[int]] = {}
    for step in steps:
        topic, partition, offset = _raw_place(step)
        wanted.setdefault(TopicPartition(topic, partition), set()).add(offset)
        wanted.setdefault(TopicPartition(log, step.partition), set()).add(step.source_offset)
    places = {tp: sorted(offsets) for tp, offsets in wanted.items()}
    return {
        (record.topic, record.partition, record.offset): record
        async for record in read_offsets(runtime.broker, places)
    }


def _raw_hops(raw: Any) -> list[TraceHop]:
    received = dict(readable_headers(raw)).get(_RECEIVED) or b""
    hops = [TraceHop("received", int(received), "")] if received.isdigit() else []
    return [*hops, _hop("raw", raw)]


def _hop(step: str, record: Any, detail: str = "") -> TraceHop:
    place = _format(record.topic, record.partition, record.offset)
    return TraceHop(step, record.timestamp, place, detail)


def _format(topic: str, partition: int, offset: int) -> str:
    return f"{topic}-{partition}@{offset}"


async def _add_answers(
    runtime: Runtime,
    event_id: str,
    steps: Sequence[Step],
    attempts: Sequence[AttemptTrace],
    notes: list[str],
) -> None:
    """Add what is found by reading topics on from the first of the known times."""
    since = [max((hop.at_ms for hop in one.hops), default=None) for one in attempts]
    known = [at_ms for at_ms in since if at_ms is not None]
    if not known:
        return
    places = {_raw_place(step): attempt for step, attempt in zip(steps, attempts, strict=True)}
    # An event without a player is on a topic of its own before it is in the log.
    unresolved = _decode_all(WalletTransaction, lambda one: one.event_id == event_id)
    first_ms = min(hop.at_ms for one in attempts for hop in one.hops)
    found = await _scan(runtime, UNRESOLVED, first_ms, unresolved, len(steps), notes)
    _add_by_attempt("unresolved", found, places, lambda _: "")
    outcomes = _decode_all(WalletOutcome, lambda one: one.event_id == event_id)
    found = await _scan(runtime, OUTCOMES, min(known), outcomes, len(steps), notes)
    _add_by_attempt("outcome", found, places, lambda one: str(one.outcome))
    log = runtime.topic(TRANSACTIONS)
    sources = {Position(log, step.partition, step.source_offset): one
               for step, one in zip(steps, attempts, strict=True)}  # fmt: skip
    moved = sum(isinstance(step, EventDecision) and step.transfers > 0 for step in steps)
    if moved:
        balances = _decode_all(WalletBalance, lambda one: one.source in sources)
        for record, balance in await _scan(runtime, BALANCES, min(known), balances, moved, notes):
            sources[balance.source].hops.append(_hop("balance", record))
    alerts = _decode_all(FraudAlert, lambda one: event_id in one.sample_event_ids)
    for record, alert in await _scan(runtime, ALERTS, min(known), alerts, SCAN_MAX, notes):
        attempts[0].hops.append(_hop("alert", record, f"{alert.rule_id} {alert.severity}"))


def _add_by_attempt(
    step: str,
    found: Sequence[tuple[Any, Any]],
    places: Mapping[tuple[str, int, int], AttemptTrace],
    describe: Callable[[Any], str],
) -> None:
    """Add the first record of each attempt as a hop; `found` are records with their contents."""
    for record, value in found:
        at = value.attempt
        attempt = places.get((at.topic, at.partition, at.offset))
        if attempt is not None and all(hop.step != step for hop in attempt.hops):
            attempt.hops.append(_hop(step, record, describe(value)))


def _decode_all(kind: type[Any], is_wanted: Callable[[Any], bool]) -> Callable[[Any], Any | None]:
    decode = codec.decoder(kind)

    def read(record: Any) -> Any | None:
        try:
            value = decode(record.value or b"")
        except Rejected:
            return None
        return value if is_wanted(value) else None

    return read


async def _scan(
    runtime: Runtime,
    name: str,
    since_ms: int,
    read: Callable[[Any], Any | None],
    count: int,
    notes: list[str],
) -> list[tuple[Any, Any]]:
    """Return up to `count` records of a topic since a time for which `read` returns something."""
    found: list[tuple[Any, Any]] = []
    looked_at = 0
    async for record in _records_since(runtime, runtime.topic(name), since_ms):
        looked_at += 1
        if (value := read(record)) is not None:
            found.append((record, value))
            if len(found) >= count:
                return found
        if looked_at >= SCAN_MAX:
            notes.append(f"{runtime.topic(name)}: only {SCAN_MAX:,} records were looked through")
            return found
    return found


async def _records_since(runtime: Runtime, topic: str, since_ms: int) -> AsyncIterator[Any]:
    """Yield the records of a topic from a time to its present end. Raises Unavailable."""
    consumer = AIOKafkaConsumer(
        **runtime.broker.aiokafka_options(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    try:
        await start_client(consumer, runtime.broker)
        left, ends = await _seek(consumer, runtime, topic, since_ms)
        while left:
            async with asyncio.timeout(_TIMEOUT_S):
                fetched = await consumer.getmany(*left, timeout_ms=200)
            for records in fetched.values():
                for record in records:
                    yield record
            for tp in [tp for tp in left if await consumer.position(tp) >= ends[tp]]:
                left.discard(tp)
                consumer.pause(tp)
    except (KafkaError, TimeoutError) as error:
        raise Unavailable(f"the broker does not deliver {topic}: {error!r}") from error
    finally:
        await stop_client(consumer)


async def _seek(
    consumer: AIOKafkaConsumer, runtime: Runtime, topic: str, since_ms: int
) -> tuple[set[TopicPartition], Mapping[TopicPartition, int]]:
    """Go to a time in every partition, and return those that hold something since, and the ends."""
    bounds = await partition_bounds(runtime.broker, [topic])
    ends = {tp: end for tp, (_, end) in bounds.items()}
    if not ends:
        return set(), {}
    consumer.assign(sorted(ends))
    starts = await consumer.offsets_for_times(dict.fromkeys(ends, since_ms))
    left = {tp for tp in ends if starts.get(tp) is not None and starts[tp].offset < ends[tp]}
    for tp in left:
        consumer.seek(tp, starts[tp].offset)
    for tp in set(ends) - left:
        consumer.pause(tp)
    return left, ends
