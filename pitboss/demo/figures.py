"""The figures of a demo, computed from its topics and tables. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from lab.bench.rates import Latencies
from pitboss.demo.decisions import DecisionTimesByPhase, TrafficFigures
from replay.audit.checks import Check
from replay.audit.evidence import TableEvidence, TopicEvidence


class Latency(msgspec.Struct, frozen=True):
    """Latencies in milliseconds, from the append of a raw record to its balance.

    They begin with the broker's time on the raw record and end with the producer's time on the
    first balance that contains it.
    """

    p50: int
    p99: int


class DemoFigures(msgspec.Struct, frozen=True):
    """Figures of a demo: the JSON object of `pitboss demo --json`."""

    seed: int
    events_in: int
    settled: int
    duplicates: int
    transfers: int
    dead_letters: int
    alerts: int
    events_per_s: int
    latency_ms: Latency
    outcomes_by_code: dict[str, int]
    dead_letters_by_code: dict[str, int]
    killed_at: int
    fed_per_s: int
    """Bets and wins that were fed a second, up to the last acknowledgement."""
    decision_ms: DecisionTimesByPhase
    kill_gap_ms: int
    """The longest time without any outcome around the kill."""
    checks: dict[str, bool]
    unmet: list[str]
    """The expectations that were not met, a sentence each: see `pitboss.demo.expectations`."""


def latencies_ms(
    topics: TopicEvidence,
    tables: TableEvidence,
    published_at: Mapping[str, Sequence[tuple[int, int]]],
) -> list[int]:
    """Return the latency of each posted event with a wallet, in ascending order.

    A latency ends with the first published balance of the event's version or a later one.
    `published_at` has (version, producer time) by `player:currency`, in the order of the topic.
    """
    appended = {
        (partition, log_event.source.offset): log_event.event
        for partition, log in topics.log.items()
        for log_event in log
    }
    latencies = []
    for answer in tables.answers:
        event = appended.get((answer.partition, answer.source_offset))
        if event is None or answer.version is None or answer.outcome != "POSTED":
            continue
        for version, at_ms in published_at.get(f"{event.player_id}:{answer.currency}", ()):
            if version >= answer.version:
                latencies.append(at_ms - event.appended_at)
                break
    return sorted(latencies)


def figures_of(
    topics: TopicEvidence,
    tables: TableEvidence,
    checks: Iterable[Check],
    *,
    seed: int,
    traffic: TrafficFigures,
    transfers: int,
    alerts: int,
    duplicates: int,
    published_at: Mapping[str, Sequence[tuple[int, int]]],
    unmet: Sequence[str] = (),
) -> DemoFigures:
    """Compute the figures of a demo."""
    latencies = latencies_ms(topics, tables, published_at)
    appended = [one.event.appended_at for log in topics.log.values() for one in log]
    published = [at_ms for times in published_at.values() for _, at_ms in times]
    span_ms = max(1, max(published, default=1) - min(appended, default=0))
    return DemoFigures(
        seed=seed,
        events_in=len(topics.raw),
        settled=len(tables.answers) - duplicates,
        duplicates=duplicates,
        transfers=transfers,
        dead_letters=len(topics.dead_letters),
        alerts=alerts,
        events_per_s=round(len(topics.raw) * 1000 / span_ms),
        latency_ms=_latency(latencies),
        outcomes_by_code=_count_by_code(answer.outcome for answer in tables.answers),
        dead_letters_by_code=_count_by_code(letter.code for letter in topics.dead_letters),
        killed_at=traffic.killed_at,
        fed_per_s=traffic.fed_per_s,
        decision_ms=traffic.decision_ms,
        kill_gap_ms=traffic.kill_gap_ms,
        checks={check.name: check.holds for check in checks},
        unmet=list(unmet),
    )


def _latency(took_ms: Sequence[int]) -> Latency:
    if not took_ms:
        return Latency(0, 0)
    latencies = Latencies.of(took_ms)
    return Latency(round(latencies.p50_ms), round(latencies.p99_ms))


def _count_by_code(codes: Iterable[Any]) -> dict[str, int]:
    return dict(Counter(str(code) for code in codes).most_common())
