"""`pitboss bench telemetry`: what metrics and traces cost, in turns with the same code.

Both sides are the workers of this code under the same steady rate, as in `base_latency`; one of
them has its pages scraped and sends its spans and metrics to a collector that drops them, in the
process of the benchmark. CPU is that of the normalise and the ledger worker alone.
"""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from lab.bench.base_latency import BaseLatencyFigures, BaseLatencyPlan
from lab.bench.base_latency import run as run_pairs
from lab.bench.progress import BenchProgress
from lab.bench.rates import Spread
from lab.bench.report import FigureRow, range_text, spread_as_json

RATIO_CPU_MAX: Final = 1.03
ON: Final = "telemetry on"
OFF: Final = "telemetry off"
SCRAPE_EVERY_S: Final = 5.0
_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True)
class TelemetryBenchFigures(BaseLatencyFigures):
    """Runs with and without telemetry, in pairs."""

    def as_json(self) -> dict[str, Any]:
        """Return one JSON object; ratios are those of the highest rate."""
        rate = max(self.plan.rates)
        rates = super().as_json()["rates"]
        for row in rates.values():
            row["off"] = row.pop("base")
            row.pop("holds")
        _, cpu = self.ratios(rate)
        on_ms, off_ms = self._p99_ms(rate)
        return {
            "bench": "telemetry",
            "rates": rates,
            "ratio_cpu": round(cpu.median, 3),
            "ratio_cpu_spread": spread_as_json(cpu, 3),
            "p99_ms_on": spread_as_json(Spread.of(on_ms)),
            "p99_ms_off": spread_as_json(Spread.of(off_ms)),
            "p99_is_within_spread": self.is_p99_within_spread(rate),
            "holds": cpu.median <= RATIO_CPU_MAX and self.is_p99_within_spread(rate),
            "targets": {"ratio_cpu_max": RATIO_CPU_MAX},
            "pairs": len(self.runs[rate]),
            "pairs_wanted": self.plan.pairs,
            "seconds": self.plan.seconds,
            **self.environment.as_json(),
        }

    def is_p99_within_spread(self, rate: int) -> bool:
        """Return whether the median p99 with telemetry is at most the highest without it."""
        on, off = self._p99_ms(rate)
        return median(on) <= max(off)

    def _p99_ms(self, rate: int) -> tuple[list[float], list[float]]:
        on, off = zip(*self.runs[rate], strict=True)
        return [run.latencies.p99_ms for run in on], [run.latencies.p99_ms for run in off]

    def rows(self) -> list[FigureRow]:
        """Return the figures as rows for a person."""
        rows = []
        for rate in self.plan.rates:
            on_ms, off_ms = self._p99_ms(rate)
            for name, times in ((ON, on_ms), (OFF, off_ms)):
                spread = Spread.of(times)
                rows.append(
                    FigureRow(
                        f"{rate:,} a second, {name}",
                        f"p99 {spread.median:.1f} ms",
                        range_text(spread, 1),
                    )
                )
            _, cpu = self.ratios(rate)
            rows.append(
                FigureRow(
                    "  workers' CPU, on by off",
                    f"{cpu.median:.3f}",
                    f"{range_text(cpu, 3)}, at most {RATIO_CPU_MAX:g}",
                )
            )
        return rows


async def run(plan: BaseLatencyPlan, progress: BenchProgress) -> TelemetryBenchFigures:
    """Run both sides in turns. Raises BenchFailed."""
    found = await run_pairs(plan, progress)
    return TelemetryBenchFigures(found.plan, found.runs, found.environment)


@contextmanager
def scraping(ports: Sequence[int]) -> Iterator[None]:
    """Scrape the pages on these ports every few seconds, where they answer."""
    is_over = threading.Event()

    def scrape() -> None:
        while not is_over.wait(SCRAPE_EVERY_S):
            for port in ports:
                with suppress(OSError):
                    url = f"http://127.0.0.1:{port}/metrics"
                    urllib.request.urlopen(url, timeout=_TIMEOUT_S).close()

    thread = threading.Thread(target=scrape, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
