"""Traces of decided events: from the provider's bytes to the published answer.

The ledger is the first to know how an event ended, so it makes the spans of the whole way, from the
times that the event brings: its receipt, its append to the raw topic, and its append to the log.
Kept is what was refused, doubled, tombstoned, not resolved, alerted or slow, what its sender has
sampled, and a share of the rest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ledger_sink.rules import debts, payments
from ledger_sink.rules.book import DecidedEvent
from ledger_sink.store.groups import AppliedGroup
from runtime.telemetry.spans import FinishedSpan, messaging_attributes
from runtime.telemetry.traces import (
    LINKS_MAX,
    SlowLimit,
    TraceParent,
    is_sampled,
    kept_for_outcome,
    parse_traceparent,
    span_id_of,
    trace_id_of,
    trace_id_of_place,
)

if TYPE_CHECKING:
    from runtime.telemetry.worker import WorkerTelemetry

DURATION: Final = "pitboss.decision.duration"
ROOT: Final = "event"
_ALERTING: Final = debts.REASONS | payments.REASONS
_MS: Final = 1_000_000


class DecisionTraces:
    """Records how long decisions took, and makes the spans of those that are kept."""

    def __init__(self, telemetry: WorkerTelemetry, topics: tuple[str, str]) -> None:
        """Take the names of the log and of the topic of outcomes."""
        self._log, self._outcomes = topics
        self._share = telemetry.settings.trace_share
        self._queue = telemetry.spans
        self._slow = SlowLimit()
        self._meters = telemetry.meters

    def observe(
        self,
        applied: AppliedGroup,
        decisions: Sequence[DecidedEvent],
        parents: Mapping[tuple[int, int], bytes],
    ) -> None:
        """Observe decisions whose outcomes the broker has acknowledged just now."""
        now_ns = time.time_ns()
        kept: list[tuple[int, int, Mapping[str, Any]]] = []
        for decided in decisions:
            event, source = decided.log_event.event, decided.log_event.source
            seconds = max(0.0, now_ns / 1e9 - event.appended_at / 1e3)
            is_slow = self._slow.add(seconds)
            value = parents.get((source.partition, source.offset)) if parents else None
            parent = None if value is None else parse_traceparent(value)
            trace_id = trace_id_of(event.event_id) if parent is None else parent.trace_id
            why = self._why_kept(decided, trace_id, parent, is_slow=is_slow)
            if self._queue is None or not why:
                self._meters.record(DURATION, (decided.answer.outcome,), seconds)
                continue
            for span in self._spans(decided, trace_id, parent, why, (applied.committed_ns, now_ns)):
                self._queue.add(span)
            root = span_id_of(trace_id, _root_step(decided))
            self._meters.record(DURATION, (decided.answer.outcome,), seconds, (trace_id, root))
            kept.append((trace_id, root, {"messaging.kafka.offset": source.offset}))
        if self._queue is not None and kept:
            self._queue.add(self._batch_span(applied, len(decisions), kept, now_ns))

    def _why_kept(
        self, decided: DecidedEvent, trace_id: int, parent: TraceParent | None, *, is_slow: bool
    ) -> str:
        """Return why a trace is kept; empty where it is not."""
        answer = decided.answer
        if decided.decision is None:
            return "doubled"
        if why := kept_for_outcome(answer.outcome):
            return why
        if answer.reason in _ALERTING:
            return "alerted"
        if is_slow:
            return "slow"
        is_chosen = is_sampled(trace_id, self._share) or (parent is not None and parent.is_sampled)
        return "sampled" if is_chosen else ""

    def _spans(
        self,
        decided: DecidedEvent,
        trace_id: int,
        parent: TraceParent | None,
        why: str,
        times_ns: tuple[int, int],
    ) -> Iterator[FinishedSpan]:
        """Yield the root and the hops, each of which begins where the one before it ends."""
        event = decided.log_event.event
        published_ns = times_ns[1]
        appended_ns = event.appended_at * _MS
        begin_ns = min(appended_ns, (event.received_at or event.appended_at) * _MS)
        step = _root_step(decided)
        root = span_id_of(trace_id, step)
        yield FinishedSpan(
            f"decide {event.operation}",
            trace_id,
            root,
            None if parent is None else parent.span_id,
            begin_ns,
            published_ns,
            attributes={
                "pitboss.event_id": event.event_id,
                "pitboss.provider": event.provider,
                "pitboss.operation": event.operation,
                "pitboss.outcome": decided.answer.outcome,
                "pitboss.reason": decided.answer.reason,
                "pitboss.kept": why,
            },
        )
        for verb, kind, place, start_ns, end_ns in self._hops(decided, begin_ns, times_ns):
            name = f"{verb} {place[0]}"
            yield FinishedSpan(
                name,
                trace_id,
                span_id_of(trace_id, f"{step} {name}"),
                root,
                start_ns,
                max(start_ns, end_ns),
                kind,
                messaging_attributes(verb, *place),
            )

    def _hops(
        self, decided: DecidedEvent, begin_ns: int, times_ns: tuple[int, int]
    ) -> Sequence[tuple[str, str, tuple[str, int | None, int | None], int, int]]:
        """Return verb, kind, place, start and end of each hop, in their order."""
        event, source = decided.log_event.event, decided.log_event.source
        committed_ns, published_ns = times_ns
        appended_ns = event.appended_at * _MS
        logged_ns = (decided.log_event.logged_at or event.appended_at) * _MS
        raw = (event.attempt.topic, event.attempt.partition, event.attempt.offset)
        log = (source.topic, source.partition, source.offset)
        return (
            ("send", "producer", raw, begin_ns, appended_ns),
            ("process", "consumer", raw, appended_ns, logged_ns),
            ("process", "consumer", log, logged_ns, committed_ns),
            ("send", "producer", (self._outcomes, None, None), committed_ns, published_ns),
        )

    def _batch_span(
        self,
        applied: AppliedGroup,
        count: int,
        kept: Sequence[tuple[int, int, Mapping[str, Any]]],
        now_ns: int,
    ) -> FinishedSpan:
        """Return the span of the transaction, which links the members that are kept."""
        first = applied.newly_committed[0] if applied.newly_committed else None
        place = f"@{now_ns}" if first is None else f"-{first.partition}@{first.from_offset}"
        trace_id = trace_id_of_place(f"{self._log}{place}")
        attributes = {
            **messaging_attributes("process", self._log, None, None),
            "messaging.batch.message_count": count,
        }
        return FinishedSpan(
            f"process {self._log} batch",
            trace_id,
            span_id_of(trace_id, "batch"),
            None,
            applied.decided_ns or now_ns,
            now_ns,
            "consumer",
            attributes,
            kept[:LINKS_MAX],
        )


def _root_step(decided: DecidedEvent) -> str:
    """Return what tells the attempts of one event apart in its trace."""
    attempt = decided.log_event.event.attempt
    return f"{ROOT} {attempt.topic}-{attempt.partition}@{attempt.offset}"
