"""`pitboss bench replay`: events of the log to Parquet, on one core, against a loop of libraries.

Our export and the peer read the same topic in turns, each in a process of its own that is pinned to
one core; the broker runs wherever the system puts it. A run over a tenth of the log shows whether
the memory grows with it.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from lab.bench.ledger_traffic import PLAIN, LedgerTraffic
from lab.bench.machine import this_commit, this_machine
from lab.bench.processes import BenchFailed
from lab.bench.progress import BenchProgress
from lab.bench.rates import Pair, Rate, Spread
from lab.bench.replay_sides import SideRequest, SideResult
from lab.bench.report import (
    BenchEnvironment,
    FigureRow,
    pair_as_json,
    range_text,
    spread_as_json,
)
from runtime.kafka.partitioner import partition_for
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.security import BrokerAddress

EVENTS: Final = 1_000_000
EVENTS_MIN: Final = 10_000
TARGET_PER_S: Final = 100_000
TARGET_RATIO: Final = 3.0
_PEER_SHARE: Final = 4
"""The peer reads a quarter, which takes it about as long."""
_CHUNK: Final = 20_000
_PLAYERS: Final = 50_000


@dataclass(frozen=True)
class ReplayBenchPlan:
    """A topic without records, and what is measured over it."""

    broker: BrokerAddress
    topic: str
    partitions: int
    folder: Path
    events: int
    pairs: int


@dataclass(frozen=True)
class ReplayFigures:
    """Figures of a bench."""

    environment: BenchEnvironment
    events: int
    pairs: list[Pair]
    rss_mb: float
    rss_mb_of_tenth: float
    peer_rss_mb: float
    bytes_per_event: float

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        ours = Spread.of([pair.ours.per_s for pair in self.pairs])
        peer = Spread.of([pair.peer.per_s for pair in self.pairs])
        return {
            "bench": "replay",
            "events": self.events,
            "events_per_s": round(ours.median),
            "rss_mb": round(self.rss_mb),
            "rss_mb_of_tenth": round(self.rss_mb_of_tenth),
            "peer_events_per_s": round(peer.median),
            "peer": "confluent-kafka + fastavro + pyarrow",
            "peer_rss_mb": round(self.peer_rss_mb),
            "ratio": spread_as_json(self._ratio()),
            "bytes_per_event": round(self.bytes_per_event, 1),
            "pairs": [pair_as_json(pair, "peer") for pair in self.pairs],
            "target": {"events_per_s": TARGET_PER_S, "ratio": TARGET_RATIO},
            **self.environment.as_json(),
        }

    def rows(self) -> list[FigureRow]:
        """Return the figures as rows for a person."""
        ours = Spread.of([pair.ours.per_s for pair in self.pairs])
        peer = Spread.of([pair.peer.per_s for pair in self.pairs])
        ratio = self._ratio()
        memory = f"{self.rss_mb_of_tenth:,.0f} MB for a tenth of the events"
        return [
            FigureRow("export, events/s on one core", f"{ours.median:,.0f}", range_text(ours)),
            FigureRow("peer, events/s on one core", f"{peer.median:,.0f}", range_text(peer)),
            FigureRow("ratio", f"{ratio.median:.1f}", range_text(ratio, 1)),
            FigureRow("memory of the export", f"{self.rss_mb:,.0f} MB", memory),
            FigureRow("bytes an event", f"{self.bytes_per_event:.0f}"),
        ]

    def _ratio(self) -> Spread:
        return Spread.of([pair.ratio for pair in self.pairs])


async def run(plan: ReplayBenchPlan, progress: BenchProgress) -> ReplayFigures:
    """Fill the topic and measure both sides in turns."""
    environment = BenchEnvironment(this_machine(), this_commit(), {})
    progress.begin(f"appending {plan.events:,} events")
    counts = await _fill(plan, progress)
    per_partition = max(counts)
    pairs, ours, peers = [], list[SideResult](), list[SideResult]()
    for number in range(1, plan.pairs + 1):
        progress.begin(f"pair {number} of {plan.pairs}: export")
        ours.append(await _measure(plan, "ours", per_partition))
        progress.begin(f"pair {number} of {plan.pairs}: peer")
        peers.append(await _measure(plan, "peer", per_partition // _PEER_SHARE))
        pairs.append(Pair(_rate(ours[-1]), _rate(peers[-1])))
    progress.begin("a tenth, for the memory")
    tenth = await _measure(plan, "ours", max(1, per_partition // 10))
    return ReplayFigures(
        environment,
        ours[0].events,
        pairs,
        max(each.rss_mb for each in ours),
        tenth.rss_mb,
        max(each.rss_mb for each in peers),
        ours[0].bytes / ours[0].events,
    )


def _rate(result: SideResult) -> Rate:
    return Rate(result.events, result.took_s, result.cpu_s)


async def _fill(plan: ReplayBenchPlan, progress: BenchProgress) -> list[int]:
    """Append the events to their players' partitions; return how many each has."""
    counts = [0] * plan.partitions
    settings = ProducerSettings(plan.broker, "pitboss.bench")
    async with BatchProducer(settings) as producer:
        done = 0
        for chunk in _chunks(plan.events):
            await producer.send_keyed(plan.topic, [(key, value, (), None) for key, value in chunk])
            for key, _ in chunk:
                counts[partition_for(key, plan.partitions)] += 1
            done += len(chunk)
            progress.update(done, plan.events)
    return counts


def _chunks(events: int) -> Iterator[list[tuple[bytes, bytes]]]:
    traffic = LedgerTraffic(7, _PLAYERS)
    while events > 0:
        yield traffic.play(PLAIN, min(events, _CHUNK))
        events -= _CHUNK


async def _measure(plan: ReplayBenchPlan, side: str, to_offset: int) -> SideResult:
    result = plan.folder / side
    request = SideRequest(side, plan.broker, plan.topic, to_offset, str(result))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "lab.bench.replay_sides",
        msgspec.json.encode(request).decode(),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    shutil.rmtree(result, ignore_errors=True)
    if process.returncode:
        raise BenchFailed(f"the side {side} ended with {process.returncode}")
    return msgspec.json.decode(output.splitlines()[-1], type=SideResult)
