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
from runtime.telemetry.event_spans import (
    Hop,
    arrival_hops,
    hop_spans,
    root_span,
    trace_of_event,
)
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
_ALERTING: Final = debts.REASONS | payments.REASONS


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
            for span in self._spans(decided, parent, why, (applied.committed_ns, now_ns)):
                self._queue.add(span)
            _, root = trace_of_event(event, parent)
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
        parent: TraceParent | None,
        why: str,
        times_ns: tuple[int, int],
    ) -> Iterator[FinishedSpan]:
        """Yield the root and the hops, each of which begins where the one before it ends."""
        event, answer = decided.log_event.event, decided.answer
        attributes = {
            "pitboss.outcome": answer.outcome,
            "pitboss.reason": answer.reason,
            "pitboss.kept": why,
        }
        yield root_span(event, parent, times_ns[1], attributes)
        yield from hop_spans(event, parent, self._hops(decided, times_ns))

    def _hops(self, decided: DecidedEvent, times_ns: tuple[int, int]) -> tuple[Hop, ...]:
        """Return the hops in their order."""
        event, source = decided.log_event.event, decided.log_event.source
        committed_ns, published_ns = times_ns
        arrival = arrival_hops(event, decided.log_event.logged_at)
        log = (source.topic, source.partition, source.offset)
        return (
            *arrival,
            ("process", "consumer", log, arrival[-1][-1], committed_ns),
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
