"""`pitboss bench latency --hops --traces`: the hops of bets beside the traces of the same bets.

A bet has two traces: the spans that the ledger exports, and what `pitboss trace` puts together from
topics and tables. Both are held against the taps. A trace has fewer steps than there are hops,
because it knows a moment only where a record or a commit has a time:

| step | spans | `pitboss trace` | hops of the taps |
|---|---|---|---|
| append | `send` of the raw record | received to raw | append |
| normalise | `process` of the raw record | raw to log | fetch_raw, normalise |
| book | `process` of the log's record | log to outcome | produce, fetch_log, decide, commit |
| publish | `send` of the outcome | | publish |

The records of the log and of the outcomes carry their sender's time. It packs those of the log
right after `normalise`, and an outcome in the hop `publish`: the publisher takes what was committed
while it sent the batch before. So the `book` of `pitboss trace` also has the wait for that, up to
the tap `packed`. Times of records are whole milliseconds, rounded down, so the taps' times at the
same moments are rounded down, too. The ends are those that the taps noted; a hop of `--hops` also
ends where the next process has the record already.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any, Final, NamedTuple

from lab.bench.report import FigureRow

STEPS: Final = ("append", "normalise", "book", "publish")
SHOWN_STEPS: Final = STEPS[:3]
"""Those of `pitboss trace`, which does not know when the broker had the outcome."""
SHOWN_HOPS: Final = ("received", "raw", "log", "outcome", "balance")
"""What `pitboss trace` shows of a booked bet, each once."""
WHOLE: Final = "whole"
DIFFERENCE_MAX: Final = 0.1

_MS: Final = 1_000_000


class BetTimes(NamedTuple):
    """When a bet was where, by the generator's clock, the broker and the taps, in epoch ns."""

    event_id: str
    sent_ns: int
    appended_ns: int
    normalised_ns: int
    committed_ns: int
    packed_ns: int
    published_ns: int


class ExportedSpan(NamedTuple):
    """A span as a collector got it."""

    name: str
    span_id: bytes
    parent_id: bytes
    start_ns: int
    end_ns: int


def tap_steps_ms(bet: BetTimes) -> list[float]:
    """Return the time of each of `STEPS` by the taps."""
    times_ns = [
        *(time_ns // _MS * _MS for time_ns in bet[1:4]),
        bet.committed_ns,
        bet.published_ns,
    ]
    return [(end - start) / _MS for start, end in pairwise(times_ns)]


def tap_shown_ms(bet: BetTimes) -> list[float]:
    """Return the time of each of `SHOWN_STEPS` by the taps."""
    ends = (*bet[1:4], bet.packed_ns)
    return [float(end // _MS - start // _MS) for start, end in pairwise(ends)]


def read_spans(bodies: Iterable[bytes]) -> dict[str, list[ExportedSpan]]:
    """Return the spans of exported requests by their trace, 32 hexadecimal digits."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    found: defaultdict[str, list[ExportedSpan]] = defaultdict(list)
    for body in bodies:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    found[span.trace_id.hex()].append(
                        ExportedSpan(
                            span.name,
                            span.span_id,
                            span.parent_span_id,
                            span.start_time_unix_nano,
                            span.end_time_unix_nano,
                        )
                    )
    return dict(found)


def span_steps_ms(spans: Sequence[ExportedSpan], names: Sequence[str]) -> list[float] | None:
    """Return the time of each step by the spans of a trace, whose names are given in their order.

    None unless the trace is one root and below it each step exactly once.
    """
    roots = [span for span in spans if not span.parent_id]
    if len(roots) != 1:
        return None
    steps = [span for span in spans if span.parent_id == roots[0].span_id]
    by_name = {span.name: span for span in steps}
    if len(spans) != len(steps) + 1 or len(steps) != len(names) or by_name.keys() != {*names}:
        return None
    return [(by_name[name].end_ns - by_name[name].start_ns) / _MS for name in names]


def shown_steps_ms(hops: Sequence[tuple[str, int]]) -> list[float] | None:
    """Return the time of each of `SHOWN_STEPS` by the hops of `pitboss trace`: step and epoch ms.

    None unless each of `SHOWN_HOPS` is there exactly once.
    """
    at_ms = dict(hops)
    if len(hops) != len(SHOWN_HOPS) or at_ms.keys() != {*SHOWN_HOPS}:
        return None
    return [float(at_ms[end] - at_ms[start]) for start, end in pairwise(SHOWN_HOPS[:4])]


@dataclass(frozen=True)
class TraceComparison:
    """Steps of some bets by one kind of trace, and by the taps."""

    kind: str
    load: str
    bets: int
    incomplete: int
    """Bets whose trace lacks a step, has one twice, or was not exported at all."""
    bets_within: float
    """Share of the other bets whose whole time by the trace is within `DIFFERENCE_MAX`."""
    trace_ms: Mapping[str, float]
    """Mean of each step, and of the whole; empty where no trace is complete."""
    tap_ms: Mapping[str, float]

    @classmethod
    def of(
        cls,
        kind: str,
        load: str,
        steps: Sequence[str],
        pairs: Sequence[tuple[Sequence[float] | None, Sequence[float]]],
    ) -> TraceComparison:
        """Compare the steps of bets, by their traces and by the taps."""
        complete = [(trace, tap) for trace, tap in pairs if trace is not None]
        near = sum(_differ(sum(trace), sum(tap)) <= DIFFERENCE_MAX for trace, tap in complete)
        return cls(
            kind,
            load,
            len(pairs),
            len(pairs) - len(complete),
            near / len(complete) if complete else 0.0,
            _average(steps, [trace for trace, _ in complete]),
            _average(steps, [tap for _, tap in complete]),
        )

    def difference(self, step: str) -> float:
        """Return by which share of the taps' time the trace's differs."""
        return _differ(self.trace_ms[step], self.tap_ms[step])

    @property
    def holds(self) -> bool:
        """Whether every trace is complete and every step as long as by the taps."""
        is_complete = bool(self.trace_ms) and not self.incomplete
        return is_complete and all(
            self.difference(step) <= DIFFERENCE_MAX for step in self.trace_ms
        )

    def as_json(self) -> dict[str, Any]:
        """Return one JSON object; a step's times are means in ms."""
        return {
            "bets": self.bets,
            "incomplete": self.incomplete,
            "steps": {
                step: {
                    "trace_ms": round(self.trace_ms[step], 3),
                    "tap_ms": round(self.tap_ms[step], 3),
                    "difference": round(self.difference(step), 4),
                }
                for step in self.trace_ms
            },
            "bets_within": round(self.bets_within, 3),
            "holds": self.holds,
        }

    def rows(self) -> list[FigureRow]:
        """Return a row a step."""
        verdict = "within" if self.holds else "NOT within"
        remark = f"{self.incomplete} incomplete; {verdict} {DIFFERENCE_MAX:.0%} of the taps"
        rows = [FigureRow(f"{self.load}, {self.kind} of {self.bets:,} bets", "mean ms", remark)]
        rows += [
            FigureRow(f"  {step}", f"{self.trace_ms[step]:.2f}", f"taps {self.tap_ms[step]:.2f}")
            for step in self.trace_ms
        ]
        return rows


def _average(steps: Sequence[str], times: Sequence[Sequence[float]]) -> dict[str, float]:
    if not times:
        return {}
    means = map(fmean, zip(*times, strict=True))
    return {**dict(zip(steps, means, strict=True)), WHOLE: fmean(map(sum, times))}


def _differ(trace_ms: float, tap_ms: float) -> float:
    if not tap_ms:
        return 0.0 if trace_ms == tap_ms else float("inf")
    return abs(trace_ms - tap_ms) / tap_ms


def compare_spans(
    load: str,
    bets: Sequence[BetTimes],
    spans: Mapping[str, Sequence[ExportedSpan]],
    topics: tuple[str, str, str],
) -> TraceComparison:
    """Compare the exported spans of bets with the taps; `topics` are raw, log and outcomes."""
    raw, log, outcomes = topics
    names = (f"send {raw}", f"process {raw}", f"process {log}", f"send {outcomes}")
    pairs = [
        (span_steps_ms(spans.get(bet.event_id.replace("-", ""), ()), names), tap_steps_ms(bet))
        for bet in bets
    ]
    return TraceComparison.of("spans", load, STEPS, pairs)


def compare_shown(
    load: str, bets: Sequence[BetTimes], shown: Sequence[Sequence[tuple[str, int]]]
) -> TraceComparison:
    """Compare what `pitboss trace` shows of bets, in their order, with the taps."""
    pairs = [
        (shown_steps_ms(hops), tap_shown_ms(bet)) for bet, hops in zip(bets, shown, strict=True)
    ]
    return TraceComparison.of("pitboss trace", load, SHOWN_STEPS, pairs)
