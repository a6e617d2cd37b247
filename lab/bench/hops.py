"""`pitboss bench latency --hops`: where a bet waits, hop by hop.

The normaliser and the ledger run with an open tap (`runtime.hop_tap`): a line a batch, with the
offsets and the time. The times of a bet are put together afterwards, from the taps, the broker's
timestamp of the raw record, and the generator's clock. All processes share one machine, and so one
clock.

| hop | ends when |
|---|---|
| append | the broker has the raw record (its own timestamp, to a millisecond) |
| fetch_raw | the normaliser's intake has the record |
| normalise | its batch is gathered, mapped, and given to the producer |
| produce | the broker has acknowledged the event, or the ledger has it already |
| fetch_log | the ledger's intake has the event |
| decide | its batch is gathered and decoded, its group is decided, and the write begins |
| commit | PostgreSQL has committed the group |
| publish | the broker has acknowledged the outcome, or a reader has it already |
| fetch_outcome | a reader has the outcome |

A hop begins where the one before it ends, so the hops of a bet sum to its whole time. `decide` is
shown in three parts as well: until the agent takes the batch (`gather`), until its group's turn
comes after the group before (`queue`), and reading, deciding (`read_and_decide`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any, Final, NamedTuple

from lab.bench.hop_traces import TraceComparison
from lab.bench.load_generator import Call
from lab.bench.processes import BenchFailed
from lab.bench.rates import Latencies
from lab.bench.report import BenchEnvironment, FigureRow
from runtime.hop_tap import HopStep

HOPS: Final = (
    "append",
    "fetch_raw",
    "normalise",
    "produce",
    "fetch_log",
    "decide",
    "commit",
    "publish",
    "fetch_outcome",
)
WHOLE: Final = "whole"
DECIDE_PARTS: Final = ("gather", "queue", "read_and_decide")

_RAW_STEPS: Final[tuple[HopStep, ...]] = ("fetched", "normalised", "produced")
_LOG_STEPS: Final[tuple[HopStep, ...]] = ("fetched", "decided", "committed", "published")


class RecordPlace(NamedTuple):
    """Where a record lies, and when the broker got it (0: the producer's time, of no use)."""

    partition: int
    offset: int
    appended_ms: int = 0


class TapNotes:
    """When each step of each record ended, as the taps noted it, in ns."""

    def __init__(self, lines: Iterable[str]) -> None:
        """Read the lines of all taps."""
        self._times: defaultdict[tuple[str, str], dict[tuple[int, int], int]] = defaultdict(dict)
        for line in lines:
            step, topic, partition, first, after, time_ns = line.split()
            times, number = self._times[step, topic], int(partition)
            for offset in range(int(first), int(after)):
                # Chunks are noted as they are fetched, and again when they are joined.
                if step == "fetched":
                    times.setdefault((number, offset), int(time_ns))
                else:
                    times[number, offset] = int(time_ns)

    def of(self, step: HopStep, topic: str, place: RecordPlace) -> int:
        """Return when a step of a record ended. Raises BenchFailed if that was not noted."""
        try:
            return self._times[step, topic][place.partition, place.offset]
        except KeyError:
            raise BenchFailed(
                f"{topic}-{place.partition}@{place.offset}: no tap noted when it was {step}"
            ) from None


def hop_times_ns(
    call: Call, raw: RecordPlace, log: RecordPlace, topics: tuple[str, str], notes: TapNotes
) -> list[int]:
    """Return the nine ends of a bet's hops after its beginning, ten times that never fall."""
    raw_topic, log_topic = topics
    times = [
        call.sent_ns,
        raw.appended_ms * 1_000_000,
        *(notes.of(step, raw_topic, raw) for step in _RAW_STEPS),
        *(notes.of(step, log_topic, log) for step in _LOG_STEPS),
        call.arrived_ns,
    ]
    # An acknowledgement may be read after the next process has the record: then that was the end.
    for index in range(len(times) - 2, 0, -1):
        times[index] = min(times[index], times[index + 1])
    # The broker's clock shows whole milliseconds, so its time may lie before that of the send.
    return [max(time_ns, call.sent_ns) for time_ns in times]


def to_hops_ms(times_ns: Sequence[int]) -> list[float]:
    """Return the time of each hop; their sum is that of the whole."""
    return [(end - begin) / 1e6 for begin, end in pairwise(times_ns)]


def to_decide_parts_ms(
    times_ns: Sequence[int], log: RecordPlace, log_topic: str, notes: TapNotes
) -> list[float]:
    """Return the three parts of the hop `decide` of a bet; `times_ns` are those of its hops."""
    first, end = times_ns[5], times_ns[6]
    steps: tuple[HopStep, HopStep] = ("taken", "grouped")
    inner = [min(max(notes.of(step, log_topic, log), first), end) for step in steps]
    return to_hops_ms([first, *inner, end])


def match_places(
    calls: Sequence[Call], raw_records: Iterable[tuple[bytes, RecordPlace]]
) -> list[RecordPlace]:
    """Return the place of each call's record, for all calls that ever came back from a topic.

    The records of a key, and its calls, are in their order. Raises BenchFailed where the counts
    differ.
    """
    places: defaultdict[bytes, list[RecordPlace]] = defaultdict(list)
    for key, place in raw_records:
        places[key].append(place)
    for of_key in places.values():
        of_key.sort(key=lambda place: place.offset, reverse=True)
    sent = sum(map(len, places.values()))
    counts = Counter(call.key for call in calls)
    if sent != len(calls) or any(len(places[key]) != count for key, count in counts.items()):
        raise BenchFailed(f"{len(calls)} calls came back, and {sent} records lie on the raw topic")
    return [places[call.key].pop() for call in calls]


@dataclass(frozen=True)
class HopFigures:
    """Hops of the bets of one load."""

    load: str
    bets: int
    latencies: Mapping[str, Latencies]
    """By hop, by part of `decide`, and of the whole."""
    mean_ms: Mapping[str, float]

    @classmethod
    def of(
        cls, load: str, hops_ms: Sequence[Sequence[float]], parts_ms: Sequence[Sequence[float]]
    ) -> HopFigures:
        """Summarise the hops of at least one bet, and the parts of `decide`."""
        columns = dict(zip(HOPS, zip(*hops_ms, strict=True), strict=True))
        columns |= zip(DECIDE_PARTS, zip(*parts_ms, strict=True), strict=True)
        columns[WHOLE] = tuple(map(sum, hops_ms))
        return cls(
            load,
            len(hops_ms),
            {name: Latencies.of(column) for name, column in columns.items()},
            {name: fmean(column) for name, column in columns.items()},
        )

    def as_json(self) -> dict[str, dict[str, float]]:
        """Return p50, p99 and mean of each hop and of the whole."""
        return self._summary((*HOPS, WHOLE))

    def parts_as_json(self) -> dict[str, dict[str, float]]:
        """Return the same of the parts of `decide`."""
        return self._summary(DECIDE_PARTS)

    def _summary(self, names: Iterable[str]) -> dict[str, dict[str, float]]:
        return {
            name: {
                "p50_ms": round(self.latencies[name].p50_ms, 2),
                "p99_ms": round(self.latencies[name].p99_ms, 2),
                "mean_ms": round(self.mean_ms[name], 2),
            }
            for name in names
        }

    def rows(self) -> list[FigureRow]:
        """Return a row a hop."""
        rows = [FigureRow(f"{self.load}, {self.bets:,} bets", "p50 ms", "   p99 ms     mean")]
        rows += [
            FigureRow(
                f"    of decide: {name}" if name in DECIDE_PARTS else f"  {name}",
                f"{self.latencies[name].p50_ms:.2f}",
                f"{self.latencies[name].p99_ms:>9.2f} {self.mean_ms[name]:>8.2f}",
            )
            for name in (*HOPS[:6], *DECIDE_PARTS, *HOPS[6:], WHOLE)
        ]
        return rows


@dataclass(frozen=True)
class HopBenchFigures:
    """Hops under each load."""

    loads: Sequence[HopFigures]
    seconds: float
    topics: Mapping[str, int]
    environment: BenchEnvironment
    traces: Sequence[TraceComparison] = ()
    """Traces of the same bets, where they were asked for."""

    def as_json(self) -> dict[str, Any]:
        """Return one JSON object; the means of the hops sum to that of the whole."""
        traces: dict[str, dict[str, Any]] = {}
        for one in self.traces:
            traces.setdefault(one.load, {})[one.kind] = one.as_json()
        return {
            "bench": "latency",
            "hops": {load.load: load.as_json() for load in self.loads},
            "decide": {load.load: load.parts_as_json() for load in self.loads},
            "bets": {load.load: load.bets for load in self.loads},
            # Null where they were not asked for.
            "traces": traces or None,
            "traces_hold": all(one.holds for one in self.traces) if self.traces else None,
            "seconds": self.seconds,
            "partitions": dict(self.topics),
            **self.environment.as_json(),
        }

    def rows(self) -> list[FigureRow]:
        """Return the figures as rows for a person."""
        figures: list[HopFigures | TraceComparison] = [*self.loads, *self.traces]
        return [row for each in figures for row in each.rows()]
