"""The canonical workload of `pitboss bench ledger`: two figures, and the line of one in flight.

Bets and wins of 100,000 wallets by Zipf's law with exponent 1.0, with balance checks, idempotency
and seals. As benchmarks of ledgers print it: transfers a second with batches as they come, the wait
of a batch, and then one event at a time, each committed before the next. What differs from them: a
transfer here is a whole decision (identity, limits, balance, two entries and the answer that is
kept), the client is the ledger's own process, and sealing follows the ledger on a connection of its
own, so its time is added to that of the commits.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from lab.bench.ledger_harness import LedgerHarness, LedgerRun
from lab.bench.ledger_traffic import LedgerTraffic, TrafficMix
from lab.bench.progress import BenchProgress
from lab.bench.rates import Latencies
from lab.bench.report import FigureRow
from ledger_sink.proof.sealing import seal_partitions
from schemas.topics import TRANSACTIONS

CANONICAL: Final = TrafficMix("canonical", zipf=1.0)
ONE_IN_FLIGHT_EVENTS: Final = 1_000


@dataclass(frozen=True)
class CanonicalFigures:
    """Figures of the canonical workload."""

    batched: LedgerRun
    seal_s: float
    single: LedgerRun

    @property
    def transfers_per_s(self) -> float:
        """Transfers a second, committed and sealed."""
        return self.batched.rate.events / (self.batched.rate.took_s + self.seal_s)

    def as_json(self) -> dict[str, Any]:
        """Return the figures as one JSON object."""
        batch, single = Latencies.of(self.batched.batch_ms), Latencies.of(self.single.batch_ms)
        return {
            "zipf": CANONICAL.zipf,
            "balance_checks": True,
            "idempotency": True,
            "seals": True,
            "transfers_per_s": round(self.transfers_per_s),
            "committed_per_s": round(self.batched.rate.per_s),
            "seal_s": round(self.seal_s, 2),
            "batch_p50_ms": round(batch.p50_ms, 1),
            "batch_p99_ms": round(batch.p99_ms, 1),
            "batch_max_ms": round(batch.max_ms, 1),
            "one_in_flight": {
                "transfers_per_s": round(self.single.rate.per_s),
                "p50_ms": round(single.p50_ms, 2),
                "p99_ms": round(single.p99_ms, 2),
                "max_ms": round(single.max_ms, 2),
            },
        }

    def rows(self) -> list[FigureRow]:
        """Return the figures as rows for a person."""
        batch, single = Latencies.of(self.batched.batch_ms), Latencies.of(self.single.batch_ms)
        return [
            FigureRow(
                "transfers accepted",
                f"{self.transfers_per_s:,.0f}/s",
                f"Zipf 1.0, balance checks, idempotency, seals ({self.seal_s:.1f} s of them);"
                f" {self.batched.rate.per_s:,.0f}/s committed",
            ),
            FigureRow(
                "batch latency p50, p99, p100",
                f"{batch.p50_ms:,.0f}, {batch.p99_ms:,.0f}, {batch.max_ms:,.0f} ms",
                "of 2,000 events at most, 24 partitions at once",
            ),
            FigureRow(
                "one in flight",
                f"{self.single.rate.per_s:,.0f}/s",
                f"p50 {single.p50_ms:.2f}, p99 {single.p99_ms:.2f}, p100 {single.max_ms:.2f} ms",
            ),
        ]


async def run_canonical(
    bench: LedgerHarness, traffic: LedgerTraffic, events: int, progress: BenchProgress
) -> CanonicalFigures:
    """Run the workload over a ledger whose players have money; the ledger is sealed before."""
    with psycopg.connect(bench.database_url, autocommit=True) as sealing:
        seal_partitions(sealing, TRANSACTIONS)
        progress.begin("canonical workload: making events")
        records = traffic.play(CANONICAL, events)
        progress.begin("canonical workload")
        batched = await bench.run(records, progress.update)
        start_s = time.monotonic()
        seal_partitions(sealing, TRANSACTIONS)
        seal_s = time.monotonic() - start_s
    progress.begin("canonical workload, one in flight")
    singles = traffic.play(CANONICAL, min(events, ONE_IN_FLIGHT_EVENTS))
    single = await bench.run_one_in_flight(singles, progress.update)
    found = CanonicalFigures(batched, seal_s, single)
    progress.end(f"{found.transfers_per_s:,.0f}/s, one in flight {single.rate.per_s:,.0f}/s")
    return found
