"""Spans of an event's way that every role makes alike, from the times that the event brings.

The ledger makes them of what it keeps, and the fraud role of what it has alerted on. Ids follow
from trace and step, and the hops up to the log have the same times wherever they are made: made by
both roles, they are one span each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from runtime.telemetry.spans import FinishedSpan, messaging_attributes
from runtime.telemetry.traces import TraceParent, span_id_of, trace_id_of
from schemas.events import WalletTransaction

ROOT: Final = "event"
MS: Final = 1_000_000
"""Nanoseconds of a millisecond."""

Place: TypeAlias = tuple[str, int | None, int | None]
"""Topic, partition and offset."""
Hop: TypeAlias = tuple[str, str, Place, int, int]
"""Verb, kind, place, start and end, epoch ns."""


def root_step(event: WalletTransaction) -> str:
    """Return what tells the attempts of one event apart in its trace."""
    attempt = event.attempt
    return f"{ROOT} {attempt.topic}-{attempt.partition}@{attempt.offset}"


def trace_of_event(event: WalletTransaction, parent: TraceParent | None) -> tuple[int, int]:
    """Return the trace of an attempt, and the id of the span that its hops are below."""
    trace_id = trace_id_of(event.event_id) if parent is None else parent.trace_id
    return trace_id, span_id_of(trace_id, root_step(event))


def begin_ns(event: WalletTransaction) -> int:
    """Return when an attempt was received, or else appended."""
    return min(event.appended_at, event.received_at or event.appended_at) * MS


def root_span(
    event: WalletTransaction,
    parent: TraceParent | None,
    end_ns: int,
    attributes: Mapping[str, Any],
) -> FinishedSpan:
    """Return the span that the hops of an attempt are below."""
    trace_id, root = trace_of_event(event, parent)
    return FinishedSpan(
        f"decide {event.operation}",
        trace_id,
        root,
        None if parent is None else parent.span_id,
        begin_ns(event),
        end_ns,
        attributes={
            "pitboss.event_id": event.event_id,
            "pitboss.provider": event.provider,
            "pitboss.operation": event.operation,
            **attributes,
        },
    )


def arrival_hops(event: WalletTransaction, logged_at: int | None) -> tuple[Hop, Hop]:
    """Return the hops to the raw topic and to the log; `logged_at` is epoch ms."""
    attempt = event.attempt
    raw = (attempt.topic, attempt.partition, attempt.offset)
    appended_ns = event.appended_at * MS
    logged_ns = (logged_at or event.appended_at) * MS
    return (
        ("send", "producer", raw, begin_ns(event), appended_ns),
        ("process", "consumer", raw, appended_ns, logged_ns),
    )


def hop_spans(
    event: WalletTransaction, parent: TraceParent | None, hops: tuple[Hop, ...]
) -> Iterator[FinishedSpan]:
    """Yield the spans of hops, below the span of the attempt."""
    trace_id, root = trace_of_event(event, parent)
    for verb, kind, place, start_ns, end_ns in hops:
        name = f"{verb} {place[0]}"
        yield FinishedSpan(
            name,
            trace_id,
            span_id_of(trace_id, f"{root_step(event)} {name}"),
            root,
            start_ns,
            max(start_ns, end_ns),
            kind,
            messaging_attributes(verb, *place),
        )
