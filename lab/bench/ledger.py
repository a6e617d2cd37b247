"""`pitboss bench ledger`: from encoded batches to COMMIT, against COPY of the same rows.

Ours is the handler, committer and store of a ledger worker as they are, fed with Avro bytes as an
intake passes them on; the clock stops at the last COMMIT. The floor is PostgreSQL's COPY of the
rows that ours wrote, ready made in memory, in as many transactions, into tables with the unique and
primary keys only. One connection each, the same server, in turns.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from lab.bench.ledger_canonical import CanonicalFigures, run_canonical
from lab.bench.ledger_harness import (
    BATCH_EVENTS,
    PARTITIONS,
    CopyFloor,
    LedgerHarness,
    LedgerRun,
    fill_history,
    make_month,
)
from lab.bench.ledger_traffic import PLAIN, TROUBLED, LedgerTraffic, TrafficMix
from lab.bench.machine import this_commit, this_machine
from lab.bench.progress import BenchProgress
from lab.bench.rates import Pair, Rate, Spread
from lab.bench.report import (
    BenchEnvironment,
    FigureRow,
    pair_as_json,
    range_text,
    rate_as_json,
    spread_as_json,
)
from ledger_sink.booking.committer import EVENTS_PER_TRANSACTION_MAX
from runtime.kafka.memory_tuning import GC_THRESHOLD_OBJECTS

TARGET_RATIO: Final = 0.30
TARGET_RATE_AT_10M: Final = 0.80
TARGET_DROP: Final = 0.20
EVENTS: Final = 200_000
PLAYERS: Final = 100_000
"""Each has made a deposit before anything is timed: these are the 100,000 rows of the small ledger.
"""

FULL_ROWS: Final = 10_000_000


@dataclass(frozen=True)
class LedgerBenchPlan:
    """Databases with the ledger's tables and nothing in them.

    Two are for a long and a short past, if these are measured.
    """

    database_url: str
    filled_url: str | None
    short_url: str | None
    rows: int
    pairs: int
    events: int
    servers_origin: str


@dataclass(frozen=True)
class LedgerBenchFigures:
    """Figures of the ledger; rates are transfers a second."""

    plan: LedgerBenchPlan
    canonical: CanonicalFigures
    pairs: list[Pair]
    troubled: list[tuple[LedgerRun, LedgerRun]]
    """A plain run and one with duplicates, rollbacks and few busy players."""
    filled: list[tuple[LedgerRun, LedgerRun]]
    """A run on the small ledger and one on the filled one."""
    transactions: int
    environment: BenchEnvironment

    @property
    def ratio(self) -> Spread:
        """Ours to COPY."""
        return Spread.of([pair.ratio for pair in self.pairs])

    @property
    def drop(self) -> Spread:
        """The share of the rate that is lost with trouble in the traffic."""
        return Spread.of(
            [1 - troubled.rate.per_s / plain.rate.per_s for plain, troubled in self.troubled]
        )

    @property
    def at_rows(self) -> Spread | None:
        """The rate over a long past, as a share of that over a short one."""
        shares = [filled.rate.per_s / small.rate.per_s for small, filled in self.filled]
        return Spread.of(shares) if shares else None

    @property
    def rate_at_10m(self) -> float | None:
        """The same for a past of 10 million rows; None for a shorter one."""
        return self.at_rows.median if self.at_rows and self.plan.rows >= FULL_ROWS else None

    @property
    def holds(self) -> bool | None:
        """Whether all targets are reached; None where one was not measured."""
        if self.ratio.median < TARGET_RATIO or self.drop.median > TARGET_DROP:
            return False
        return None if self.rate_at_10m is None else self.rate_at_10m >= TARGET_RATE_AT_10M

    def as_json(self) -> dict[str, Any]:
        """Return the figures as one JSON object."""
        ours, floor = [pair.ours for pair in self.pairs], [pair.peer for pair in self.pairs]
        return {
            "bench": "ledger",
            "canonical": {"wallets": PLAYERS, **self.canonical.as_json()},
            "posted_per_s": round(median(rate.per_s for rate in ours)),
            "copy_floor_per_s": round(median(rate.per_s for rate in floor)),
            "ratio": round(self.ratio.median, 3),
            "ratio_spread": spread_as_json(self.ratio, 3),
            "target_ratio": TARGET_RATIO,
            "rate_at_10m_over_100k": None
            if self.rate_at_10m is None
            else round(self.rate_at_10m, 3),
            "target_rate_at_10m_over_100k": TARGET_RATE_AT_10M,
            "rows": self.plan.rows or PLAYERS,
            "rate_at_rows_over_100k": spread_as_json(self.at_rows, 3) if self.at_rows else None,
            "drop_with_duplicates_rollbacks_zipf": round(self.drop.median, 3),
            "drop_spread": spread_as_json(self.drop, 3),
            "target_drop": TARGET_DROP,
            "troubled_per_s": round(median(run.rate.per_s for _, run in self.troubled)),
            "holds": self.holds,
            "cpu_us_per_transfer": round(median(rate.cpu_s_per_million for rate in ours), 1),
            "cpu_us_per_transfer_floor": round(median(rate.cpu_s_per_million for rate in floor), 1),
            "cpu_us_per_transfer_client": round(
                median(plain.client_cpu_s * 1e6 / plain.rate.events for plain, _ in self.troubled),
                1,
            ),
            "elsewhere_cores": round(median(rate.elsewhere_cores for rate in (*ours, *floor)), 2),
            "pairs": [pair_as_json(pair, "copy_floor") for pair in self.pairs],
            "troubled": [rate_as_json(run.rate) for _, run in self.troubled],
            "events": self.plan.events,
            "players": PLAYERS,
            "partitions": PARTITIONS,
            "events_per_batch": BATCH_EVENTS,
            "events_per_transaction_max": EVENTS_PER_TRANSACTION_MAX,
            "transactions": self.transactions,
            **self.environment.as_json(),
        }

    def rows(self) -> list[FigureRow]:
        """Return the figures as rows for a person."""
        ours, floor = [pair.ours for pair in self.pairs], [pair.peer for pair in self.pairs]
        posted, copied = (Spread.of([rate.per_s for rate in rates]) for rates in (ours, floor))
        busy = Spread.of([rate.elsewhere_cores for rate in (*ours, *floor)])
        verdict = "reached" if self.ratio.median >= TARGET_RATIO else "NOT reached"
        at_rows = self.at_rows
        return [
            *self.canonical.rows(),
            FigureRow("transfers booked", f"{posted.median:,.0f}/s", range_text(posted)),
            FigureRow("COPY of the same rows", f"{copied.median:,.0f}/s", range_text(copied)),
            FigureRow(
                "ratio",
                f"{self.ratio.median:.2f}",
                f"{range_text(self.ratio, 2)}; target {TARGET_RATIO:g}: {verdict}",
            ),
            FigureRow(
                "drop with trouble",
                f"{self.drop.median:.0%}",
                "5 % duplicates, 2 % rollbacks, Zipf; at most 20 %",
            ),
            FigureRow(
                f"rate at {self.plan.rows:,} rows",
                "not measured" if at_rows is None else f"{at_rows.median:.0%}",
                f"of that at {PLAYERS:,}; target 80 % at {FULL_ROWS:,}",
            ),
            FigureRow(
                "CPU µs a transfer",
                f"{median(rate.cpu_s_per_million for rate in ours):.1f}",
                "ours and PostgreSQL's",
            ),
            FigureRow(
                "CPU µs a transfer, COPY", f"{median(rate.cpu_s_per_million for rate in floor):.1f}"
            ),
            FigureRow("cores busy with anything else", f"{busy.median:.1f}", range_text(busy, 1)),
        ]


class _Measuring:
    def __init__(self, plan: LedgerBenchPlan, progress: BenchProgress) -> None:
        self._plan = plan
        self._progress = progress
        self._traffic = LedgerTraffic(1, PLAYERS)

    async def deposits(self, bench: LedgerHarness) -> None:
        self._progress.begin("deposits of all players")
        await bench.run(list(self._traffic.deposits()), self._progress.update)

    async def play(self, bench: LedgerHarness, mix: TrafficMix, name: str) -> LedgerRun:
        self._progress.begin(f"{name}: making events")
        records = self._traffic.play(mix, self._plan.events)
        gc.collect()
        gc.freeze()  # as a worker does; the records that wait here would be on a broker there
        self._progress.begin(name)
        run = await bench.run(records, self._progress.update)
        gc.unfreeze()
        self._progress.end(
            f"{run.rate.per_s:,.0f}/s, {run.rate.cpu_s_per_million:.1f} CPU µs a transfer"
        )
        return run

    async def run_canonical(self, bench: LedgerHarness) -> CanonicalFigures:
        return await run_canonical(bench, self._traffic, self._plan.events, self._progress)

    async def pair(
        self, bench: LedgerHarness, floor: CopyFloor, number: int
    ) -> tuple[LedgerRun, Pair]:
        name = f"pair {number} of {self._plan.pairs}"
        before = bench.next_offsets
        run = await self.play(bench, PLAIN, f"{name}, ledger")
        self._progress.begin(f"{name}, COPY")
        rows = await bench.rows(
            list(zip(before, bench.next_offsets, strict=True)), run.transactions
        )
        rate: Rate = floor.run(rows)
        self._progress.end(f"{rate.per_s:,.0f}/s, {rate.cpu_s_per_million:.1f} CPU µs a transfer")
        return run, Pair(run.rate, rate)


async def run(plan: LedgerBenchPlan, progress: BenchProgress) -> LedgerBenchFigures:
    """Warm up, run the pairs, fill the second database if there is one, run on both in turns."""
    machine = this_machine()
    gc.set_threshold(GC_THRESHOLD_OBJECTS)
    measuring = _Measuring(plan, progress)
    pairs, troubled, filled = [], [], []
    transactions = 0
    for url in (plan.database_url, plan.short_url, plan.filled_url):
        if url is not None:
            make_month(url)
    floor = CopyFloor(plan.database_url)
    async with LedgerHarness(plan.database_url) as bench:
        await measuring.deposits(bench)
        await measuring.pair(bench, floor, 0)
        canonical = await measuring.run_canonical(bench)
        for number in range(1, plan.pairs + 1):
            plain, pair = await measuring.pair(bench, floor, number)
            pairs.append(pair)
            transactions = plain.transactions
            trouble = await measuring.play(
                bench, TROUBLED, f"pair {number} of {plan.pairs}, {TROUBLED.name}"
            )
            troubled.append((plain, trouble))
        servers = {"origin": plan.servers_origin, "postgresql": await bench.server_settings()}
    if plan.filled_url is not None and plan.short_url is not None:
        filled = await _at_rows(plan, (plan.short_url, plan.filled_url), measuring, progress)
    floor.close()
    return LedgerBenchFigures(
        plan,
        canonical,
        pairs,
        troubled,
        filled,
        transactions,
        BenchEnvironment(machine, this_commit(), servers),
    )


async def _at_rows(
    plan: LedgerBenchPlan, urls: tuple[str, str], measuring: _Measuring, progress: BenchProgress
) -> list[tuple[LedgerRun, LedgerRun]]:
    """Run on a short and on a long past, in turns, the first of each for warming up."""
    for url in urls:
        async with LedgerHarness(url) as bench:
            await measuring.deposits(bench)
    fill_history(urls[1], plan.rows, PLAYERS, progress.update)
    found = []
    async with LedgerHarness(urls[0]) as short, LedgerHarness(urls[1]) as filled:
        for number in range(plan.pairs + 1):
            name = f"pair {number} of {plan.pairs}"
            one = await measuring.play(short, PLAIN, f"{name}, short past")
            other = await measuring.play(filled, PLAIN, f"{name}, {plan.rows:,} rows")
            if number:
                found.append((one, other))
    return found
