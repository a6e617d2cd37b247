"""`pitboss bench latency --replay`: decision times while a replay reads, in turns with none.

The replay exports a history of its own from the same broker, on the same machine, at the default
quota of the replay commands; once more, without a pair, as fast as it goes.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from lab.bench.latency import LatencyAtRate, LatencyBenchFigures, LatencyBenchPlan
from lab.bench.latency import run as run_latency
from lab.bench.ledger_traffic import PLAIN, LedgerTraffic
from lab.bench.processes import ProcessCommand
from lab.bench.progress import BenchProgress
from lab.bench.rates import Spread
from lab.bench.report import BenchEnvironment, FigureRow, range_text, spread_as_json
from replay.export.request import ExportRequest
from replay.export.run import export_to
from replay.log.broker import BrokerLog
from replay.log.pace import ReplayPace, yield_processor
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.security import BrokerAddress
from schemas.topics import TRANSACTIONS

TARGET_RATIO: Final = 1.5
HISTORY_EVENTS: Final = 200_000
"""Ten seconds of the default quota; the export begins again behind them."""
_CHUNK: Final = 20_000
_PLAYERS: Final = 5_000


class ReplayLoad(msgspec.Struct, frozen=True):
    """What is exported again and again: a topic of events, at so many records a second."""

    broker: BrokerAddress
    topic: str
    records_per_s: float
    """0: as fast as it goes."""


@dataclass(frozen=True)
class ReplayLatencyPlan:
    """The measurement of decision times, with what is read beside it."""

    latency: LatencyBenchPlan
    """Its rates are of no account."""
    rate: int
    history: str
    """Topic that the replay reads."""
    at_quota: ProcessCommand
    at_full_speed: ProcessCommand
    records_per_s: float
    pairs: int
    events: int = HISTORY_EVENTS

    def measured(self) -> LatencyBenchPlan:
        """Return the plan of all measurements: quiet and replay in turns, then full speed."""
        beside = {2 * number + 1: self.at_quota for number in range(self.pairs)}
        beside[2 * self.pairs] = self.at_full_speed
        rates = (self.rate,) * (2 * self.pairs + 1)
        return replace(self.latency, rates=rates, beside=beside)


@dataclass(frozen=True)
class ReplayLatencyFigures:
    """Figures of all pairs."""

    plan: ReplayLatencyPlan
    latency: LatencyBenchFigures

    @property
    def environment(self) -> BenchEnvironment:
        """Where it was measured."""
        return self.latency.environment

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints; milliseconds."""
        ratio = self._ratio()
        return {
            "bench": "latency-replay",
            "rate": self.plan.rate,
            "quota_records_per_s": self.plan.records_per_s,
            "ratio": spread_as_json(ratio),
            "target": {"ratio": TARGET_RATIO},
            "holds": ratio.median <= TARGET_RATIO,
            "pairs": [
                {"quiet": _as_json(quiet), "replay": _as_json(beside)}
                for quiet, beside in self._pairs()
            ],
            "full_speed": _as_json(self.latency.results[-1]),
            **self.environment.as_json(),
        }

    def rows(self) -> list[FigureRow]:
        """Return the figures as rows for a person."""
        ratio, full = self._ratio(), self.latency.results[-1].latencies
        quiet = Spread.of([one.latencies.p99_ms for one, _ in self._pairs()])
        beside = Spread.of([other.latencies.p99_ms for _, other in self._pairs()])
        verdict = "reached" if ratio.median <= TARGET_RATIO else "NOT reached"
        target = f"target {TARGET_RATIO}: {verdict}"
        return [
            FigureRow("p99 without a replay", f"{quiet.median:.0f} ms", range_text(quiet)),
            FigureRow("p99 beside a replay", f"{beside.median:.0f} ms", range_text(beside)),
            FigureRow("ratio", f"{ratio.median:.2f}", f"{range_text(ratio, 2)}; {target}"),
            FigureRow("p99 beside one at full speed", f"{full.p99_ms:.0f} ms"),
        ]

    def _pairs(self) -> Iterator[tuple[LatencyAtRate, LatencyAtRate]]:
        results = self.latency.results
        for number in range(self.plan.pairs):
            yield results[2 * number], results[2 * number + 1]

    def _ratio(self) -> Spread:
        return Spread.of(
            [other.latencies.p99_ms / one.latencies.p99_ms for one, other in self._pairs()]
        )


def _as_json(one: LatencyAtRate) -> Mapping[str, float]:
    return {
        "p50_ms": round(one.latencies.p50_ms, 1),
        "p99_ms": round(one.latencies.p99_ms, 1),
        "max_ms": round(one.latencies.max_ms, 1),
        "busy_cores": round(one.busy_cores, 2),
    }


async def run(plan: ReplayLatencyPlan, progress: BenchProgress) -> ReplayLatencyFigures:
    """Fill the history, and measure. Raises BenchFailed."""
    progress.begin(f"appending a history of {plan.events:,} events")
    traffic = LedgerTraffic(7, _PLAYERS)
    async with BatchProducer(ProducerSettings(plan.latency.broker, "pitboss.bench")) as producer:
        for done in range(0, plan.events, _CHUNK):
            chunk = traffic.play(PLAIN, min(_CHUNK, plan.events - done))
            await producer.send_keyed(
                plan.history, [(key, value, (), None) for key, value in chunk]
            )
            progress.update(done, plan.events)
    return ReplayLatencyFigures(plan, await run_latency(plan.measured(), progress))


def main(arguments: list[str]) -> None:
    """Be the replay: export a history again and again, until the process is ended."""
    yield_processor()
    load = msgspec.json.decode(arguments[0], type=ReplayLoad)
    pace = ReplayPace(load.records_per_s)
    with (
        tempfile.TemporaryDirectory(prefix="pitboss-bench-") as folder,
        BrokerLog(load.broker, pace) as source,
    ):
        number = 0
        while True:
            result = Path(folder) / f"{number}.parquet"
            export_to(source, ExportRequest(TRANSACTIONS), load.topic, result, pace=pace)
            result.unlink()
            number += 1


if __name__ == "__main__":
    main(sys.argv[1:])
