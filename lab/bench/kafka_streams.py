"""The Kafka Streams peer of `pitboss bench normalise --peers`: compiled here, measured, compared.

Its sources are in `lab/bench/peers/kafka_streams`. An installed JDK compiles them; where there is
none the peer does not run, and the figures say why.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from lab.bench.broker import BrokerView
from lab.bench.observation import EDGE_SHARE, MeasuredSubject, observe
from lab.bench.processes import BenchFailed
from lab.bench.progress import BenchProgress
from lab.bench.rates import Rate, RateSample, Spread, rate_between
from lab.bench.report import FigureRow, rate_as_json, spread_as_json

NAME: Final = "Kafka Streams"
SOURCES: Final = Path(__file__).parent / "peers" / "kafka_streams"
MAIN_CLASS: Final = "NormalisePeer"
CPU_RATIO_MAX: Final = 1.0
_COLD_SHARE: Final = 9
"""So many times fewer events than ours are its cold start: 50,000 before 450,000."""
_JDK_TIMEOUT_S: Final = 120.0
_LOG_TAIL_LINES: Final = 12


@dataclass(frozen=True)
class Jdk:
    """An installed JDK."""

    java: str
    javac: str


class NoJdk(BenchFailed):
    """No JDK is installed, or it does not work."""


def find_jdk() -> Jdk:
    """Return the JDK whose compiler is in the PATH. Raises NoJdk."""
    javac = shutil.which("javac")
    if javac is None:
        raise NoJdk("javac is not in the PATH: it takes a JDK to compile the peer")
    # The one beside it: an older one may be first in the PATH.
    java = Path(javac).resolve().with_name("java")
    if not java.exists():
        raise NoJdk(f"{javac} has no java beside it")
    return Jdk(str(java), javac)


def compile_peer(jdk: Jdk, jars: Sequence[Path], cache: Path) -> Path:
    """Return the folder of the compiled classes; those of the same sources are kept.

    Raises BenchFailed where the compiler does not accept them.
    """
    sources = sorted(SOURCES.glob("*.java"))
    digest = hashlib.sha256(b"\0".join(source.read_bytes() for source in sources))
    folder = cache / f"kafka-streams-{digest.hexdigest()[:12]}"
    if folder.exists():
        return folder
    scratch = folder.with_suffix(".part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    command = [jdk.javac, "-d", str(scratch), "-cp", join_class_path(jars), *map(str, sources)]
    done = subprocess.run(  # noqa: S603 - a command of our own
        command, capture_output=True, text=True, check=False, timeout=_JDK_TIMEOUT_S
    )
    if done.returncode:
        lines = done.stderr.splitlines()[-_LOG_TAIL_LINES:]
        raise BenchFailed("\n  ".join([f"{jdk.javac} does not compile the peer:", *lines]))
    scratch.rename(folder)
    return folder


def join_class_path(parts: Sequence[Path]) -> str:
    """Return a class path."""
    return ":".join(map(str, parts))


@dataclass(frozen=True)
class StreamsPeer:
    """The peer and how much it gets; without a subject, why it does not run."""

    subject: MeasuredSubject | None
    missing: str = ""

    @staticmethod
    def cold_events(events: int) -> int:
        """Return how many of its events are its cold start, which is not timed."""
        return events // _COLD_SHARE

    @classmethod
    def events(cls, events: int) -> int:
        """Return how many records it gets where ours get `events`."""
        return 2 * (cls.cold_events(events) + events)


@dataclass(frozen=True)
class StreamsRun:
    """One run: the events after the cold start, and what came after these."""

    first: Rate
    steady: Rate


def split_run(samples: Sequence[RateSample], events: int) -> StreamsRun:
    """Cut a run in two. Raises ValueError where nothing is left to time."""
    cold = StreamsPeer.cold_events(events)
    total = samples[-1].events
    edge = int(total * EDGE_SHARE)
    return StreamsRun(
        rate_between(samples, cold, cold + events),
        rate_between(samples, cold + events, total - edge),
    )


async def measure_streams(
    broker: BrokerView, peer: StreamsPeer, events: int, step: str, progress: BenchProgress
) -> list[StreamsRun]:
    """Run the peer once over its whole source, if it can run. Raises BenchFailed as `observe`."""
    if peer.subject is None:
        return []
    progress.begin(f"{step}, {peer.subject.name}")
    samples = await observe(broker, peer.subject, progress.update)
    try:
        found = split_run(samples, events)
    except ValueError as error:
        raise BenchFailed(f"{peer.subject.name}: {error}") from error
    progress.end(f"{found.first.per_s:,.0f}/s, {found.first.cpu_s_per_million:.1f} CPU s a million")
    return [found]


@dataclass(frozen=True)
class StreamsFigures:
    """Runs of the peer, each after a run of ours."""

    ours: Sequence[Rate]
    runs: Sequence[StreamsRun]
    missing: str = ""

    @property
    def cpu_ratio(self) -> Spread | None:
        """Our CPU an event divided by the peer's after its cold start; None if it did not run."""
        return self._ratio([run.first for run in self.runs])

    @property
    def cpu_ratio_steady(self) -> Spread | None:
        """Our CPU an event divided by the peer's at its steady state; None if it did not run."""
        return self._ratio([run.steady for run in self.runs])

    def _ratio(self, rates: Sequence[Rate]) -> Spread | None:
        if not rates:
            return None
        pairs = zip(self.ours, rates, strict=True)
        return Spread.of([ours.cpu_s_per_million / rate.cpu_s_per_million for ours, rate in pairs])

    def as_json(self) -> dict[str, Any]:
        """Return the keys of the peer; what did not run is null, with the reason."""
        first, steady = self.cpu_ratio, self.cpu_ratio_steady
        return {
            "cpu_ratio_kafka_streams": None if first is None else round(first.median, 3),
            "cpu_ratio_kafka_streams_spread": None if first is None else spread_as_json(first, 3),
            "cpu_ratio_kafka_streams_steady": None if steady is None else round(steady.median, 3),
            "kafka_streams": [
                {"first": rate_as_json(run.first), "steady": rate_as_json(run.steady)}
                for run in self.runs
            ]
            or None,
            "kafka_streams_missing": self.missing or None,
        }

    def rows(self) -> list[FigureRow]:
        """Return the figures as rows for a person."""
        if self.cpu_ratio is None or self.cpu_ratio_steady is None:
            return [FigureRow(NAME, "not run", self.missing)] if self.missing else []
        rows = []
        for name, rates, ratio in (
            (NAME, [run.first for run in self.runs], self.cpu_ratio),
            (f"{NAME}, steady", [run.steady for run in self.runs], self.cpu_ratio_steady),
        ):
            cpu = median(rate.cpu_s_per_million for rate in rates)
            remark = f"{cpu:.1f} CPU s a million; ours to it {ratio.median:.2f}"
            per_s = median(rate.per_s for rate in rates)
            rows.append(FigureRow(name, f"{per_s:,.0f}/s", remark))
        return rows
