"""What `pitboss bench pipeline` has measured, as JSON and as a table. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from lab.bench.rates import MILLION, Spread
from lab.bench.report import BenchEnvironment, FigureRow, range_text, spread_as_json

OURS: Final = "Pitboss"
BASE: Final = "base"
PLAIN_FAUST: Final = "plain Faust"
QUIX: Final = "Quix Streams"
PLAIN_TEXT: Final = "plain text"
"""Ours again, on servers without TLS and logins."""

RATIO_CPU_BASE_MAX: Final = 0.5
RATIO_PLAIN_FAUST_MIN: Final = 15.0
RATIO_QUIX_MIN: Final = 1.5
RATIO_SECURED_MIN: Final = 0.8
IDLE_CPU_SHARE_MAX: Final = 0.05
IDLE_RSS_MB_MAX: Final = 450.0

SERVER_PARTS: Final = ("broker", "postgres")


@dataclass(frozen=True)
class PipelineRun:
    """One run without its start."""

    events: int
    took_s: float
    cpu_s: Mapping[str, float]
    """By part: the side's processes, `broker` and `postgres`."""
    has_servers_cpu: bool

    @property
    def per_s(self) -> float:
        """Events settled a second."""
        return self.events / self.took_s

    @property
    def cpu_s_per_million(self) -> dict[str, float]:
        """CPU seconds of each part for a million events."""
        return {part: cpu_s * MILLION / self.events for part, cpu_s in self.cpu_s.items()}

    @property
    def total_cpu_s_per_million(self) -> float:
        """CPU seconds of all parts for a million events."""
        return sum(self.cpu_s_per_million.values())


@dataclass(frozen=True)
class IdleWorkers:
    """Workers with nothing to do: shares of a core, and memory."""

    cpu_share: Mapping[str, float]
    """By part, the servers too."""
    rss_mb: Mapping[str, float]

    @property
    def workers_cpu_share(self) -> float:
        """Share of one core that all workers take together, without the servers."""
        return sum(share for part, share in self.cpu_share.items() if part not in SERVER_PARTS)

    @property
    def workers_rss_mb(self) -> float:
        """Memory of all workers together."""
        return sum(self.rss_mb.values())

    @property
    def holds(self) -> bool:
        """Whether the targets are reached."""
        return (
            self.workers_cpu_share <= IDLE_CPU_SHARE_MAX and self.workers_rss_mb <= IDLE_RSS_MB_MAX
        )

    def as_json(self) -> dict[str, Any]:
        """Return the shares and the memory, in all and by part."""
        return {
            "cpu_share": round(self.workers_cpu_share, 4),
            "rss_mb": round(self.workers_rss_mb, 1),
            "cpu_share_by_part": {part: round(n, 4) for part, n in self.cpu_share.items()},
            "rss_mb_by_part": {part: round(n, 1) for part, n in self.rss_mb.items()},
            "holds": self.holds,
        }


def run_as_json(runs: Sequence[PipelineRun]) -> dict[str, Any]:
    """Return the medians of a side's runs; the total is null where the servers' CPU is unknown."""
    parts = {
        part: round(median(run.cpu_s_per_million[part] for run in runs), 2)
        for part in runs[0].cpu_s
    }
    total = round(median(run.total_cpu_s_per_million for run in runs), 2)
    return {
        "settled_per_s": round(median(run.per_s for run in runs)),
        "cpu_s_per_million": {"total": total if runs[0].has_servers_cpu else None, **parts},
        "events": [run.events for run in runs],
        "settled_per_s_runs": [round(run.per_s) for run in runs],
        "cpu_s_per_million_runs": [round(run.total_cpu_s_per_million, 1) for run in runs],
    }


@dataclass(frozen=True)
class PipelineBenchFigures:
    """Runs of every side; those with the same index followed each other."""

    names: Sequence[str]
    runs: Mapping[str, Sequence[PipelineRun]]
    idle: IdleWorkers | None
    records: int
    environment: BenchEnvironment

    def rate_ratio(self, peer: str) -> Spread | None:
        """Return our rate divided by a peer's, pair by pair; None if it did not run."""
        return self._ratio(peer, lambda run: run.per_s)

    def cpu_ratio(self, peer: str) -> Spread | None:
        """Return our CPU time divided by a peer's; None if it did not run or is not known."""
        if not self.runs[OURS][0].has_servers_cpu:
            return None
        return self._ratio(peer, lambda run: run.total_cpu_s_per_million)

    def _ratio(self, peer: str, figure: Any) -> Spread | None:
        if not self.runs.get(peer):
            return None
        pairs = zip(self.runs[OURS], self.runs[peer], strict=True)
        return Spread.of([figure(ours) / figure(other) for ours, other in pairs])

    def as_json(self) -> dict[str, Any]:
        """Return one JSON object; what did not run is null."""
        cpu_base = self.cpu_ratio(BASE)
        faust, quix = self.rate_ratio(PLAIN_FAUST), self.rate_ratio(QUIX)
        secured = self.rate_ratio(PLAIN_TEXT)
        return {
            "bench": "pipeline",
            **run_as_json(self.runs[OURS]),
            "ratio_cpu_base": None if cpu_base is None else round(cpu_base.median, 3),
            "ratio_cpu_base_spread": None if cpu_base is None else spread_as_json(cpu_base, 3),
            "ratio_plain_faust": None if faust is None else round(faust.median, 2),
            "ratio_plain_faust_spread": None if faust is None else spread_as_json(faust),
            "ratio_quix": None if quix is None else round(quix.median, 2),
            "ratio_quix_spread": None if quix is None else spread_as_json(quix),
            "ratio_secured": None if secured is None else round(secured.median, 3),
            "ratio_secured_spread": None if secured is None else spread_as_json(secured, 3),
            "idle": None if self.idle is None else self.idle.as_json(),
            "targets": {
                "ratio_cpu_base_max": RATIO_CPU_BASE_MAX,
                "ratio_plain_faust_min": RATIO_PLAIN_FAUST_MIN,
                "ratio_quix_min": RATIO_QUIX_MIN,
                "ratio_secured_min": RATIO_SECURED_MIN,
                "idle_cpu_share_max": IDLE_CPU_SHARE_MAX,
                "idle_rss_mb_max": IDLE_RSS_MB_MAX,
            },
            "peers": {name: run_as_json(self.runs[name]) for name in self.names if name != OURS},
            "records": self.records,
            "pairs": len(self.runs[OURS]),
            **self.environment.as_json(),
        }

    def rows(self) -> list[FigureRow]:
        """Return the figures as rows for a person."""
        rows = [_row(name, self.runs[name]) for name in self.names]
        for label, spread, remark in (
            ("CPU, ours to base", self.cpu_ratio(BASE), f"at most {RATIO_CPU_BASE_MAX:g}"),
            (
                "rate, ours to plain Faust",
                self.rate_ratio(PLAIN_FAUST),
                f"at least {RATIO_PLAIN_FAUST_MIN:g}",
            ),
            ("rate, ours to Quix", self.rate_ratio(QUIX), f"at least {RATIO_QUIX_MIN:g}"),
            (
                "rate, with TLS to plain text",
                self.rate_ratio(PLAIN_TEXT),
                f"at least {RATIO_SECURED_MIN:g}",
            ),
        ):
            if spread is not None:
                text = f"{range_text(spread, 2)}; target: {remark}"
                rows.append(FigureRow(label, f"{spread.median:.2f}", text))
        if self.idle is not None:
            rows.append(
                FigureRow(
                    "idle workers",
                    f"{self.idle.workers_cpu_share:.1%}",
                    f"of a core, {self.idle.workers_rss_mb:,.0f} MB; target: at most"
                    f" {IDLE_CPU_SHARE_MAX:.0%} and {IDLE_RSS_MB_MAX:g} MB:"
                    f" {'reached' if self.idle.holds else 'NOT reached'}",
                )
            )
        return rows


def _row(name: str, runs: Sequence[PipelineRun]) -> FigureRow:
    figures = run_as_json(runs)
    cpu = figures["cpu_s_per_million"]
    total = "unknown" if cpu["total"] is None else f"{cpu['total']:.1f}"
    parts = ", ".join(f"{part} {value:.1f}" for part, value in cpu.items() if part != "total")
    return FigureRow(name, f"{figures['settled_per_s']:,}/s", f"CPU s a million: {total} ({parts})")
