"""Figures of `pitboss bench gateway`: a list by load of each side, and ours by the peer's. Pure.

The peer that counts is the one with the highest rate. A ratio whose figures did not run is null,
and so is its target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from lab.bench.closed import LoopRun, run_as_json
from lab.bench.report import BenchEnvironment, FigureRow

CLOSED: Final = "closed"
OPEN: Final = "open"

SideFigures: TypeAlias = list[dict[str, Any]]
"""One object a load: `load` is closed, with `in_flight`, or open, with `offered_per_s`."""


class RatioTarget(NamedTuple):
    """The bound of one of our figures divided by the peer's."""

    bound: float
    is_minimum: bool = False

    def holds(self, ratio: float | None) -> bool | None:
        """Return whether a ratio keeps it; None for one that is not known."""
        if ratio is None:
            return None
        return ratio >= self.bound if self.is_minimum else ratio <= self.bound


TARGETS: Final = {
    "ratio_p50_at_16": RatioTarget(1.4),
    "ratio_rate_at_16": RatioTarget(0.8, is_minimum=True),
    "ratio_cpu_at_16": RatioTarget(1.4),
    "ratio_max_rate": RatioTarget(2.0, is_minimum=True),
    "ratio_cpu": RatioTarget(0.7),
    "ratio_p99_at_1000": RatioTarget(1.5),
}


@dataclass(frozen=True)
class OpenRun(LoopRun):
    """What one side did at one offered rate, once; its latencies are from when calls were due."""

    unsent: int = 0
    """Calls that it was too slow for: they count with the time that they had waited at the end."""


@dataclass(frozen=True)
class SideRuns:
    """The runs of one side, by calls in flight and by offered calls a second."""

    closed: Mapping[int, Sequence[LoopRun]]
    opened: Mapping[int, Sequence[OpenRun]]

    def as_json(self, has_servers_cpu: bool) -> SideFigures:
        """Return the medians of each load."""
        return [
            {"load": CLOSED, "in_flight": number, **run_as_json(runs, has_servers_cpu)}
            for number, runs in self.closed.items()
        ] + [
            {
                "load": OPEN,
                "offered_per_s": rate,
                **run_as_json(runs, has_servers_cpu),
                "unsent": [run.unsent for run in runs],
            }
            for rate, runs in self.opened.items()
        ]


@dataclass(frozen=True)
class GatewayBenchFigures:
    """The runs of all sides, and what they were made with."""

    ours: SideRuns
    peers: Mapping[str, SideRuns]
    floor: SideRuns | None
    has_servers_cpu: bool
    settings: Mapping[str, Any]
    """Rounds and seconds, as the JSON shows them."""
    environment: BenchEnvironment

    def as_json(self) -> dict[str, Any]:
        """Return one JSON object."""
        known = self.has_servers_cpu
        ours = self.ours.as_json(known)
        peers = {name: runs.as_json(known) for name, runs in self.peers.items()}
        peer = max(peers.values(), key=_highest_rate, default=None)
        ratios = compare(ours, peer)
        return {
            "bench": "gateway",
            "ours": ours,
            "peer": peer,
            "peers": peers,
            **ratios,
            "targets": {
                name: {"min" if target.is_minimum else "max": target.bound}
                for name, target in TARGETS.items()
            },
            "holds": {name: target.holds(ratios[name]) for name, target in TARGETS.items()},
            "floor": None if self.floor is None else self.floor.as_json(known),
            **self.settings,
            **self.environment.as_json(),
        }

    def rows(self) -> list[FigureRow]:
        """Return the figures as rows for a person."""
        figures = self.as_json()
        sides = {"ours": figures["ours"], **figures["peers"]}
        if figures["floor"] is not None:
            sides["bare hops"] = figures["floor"]
        rows = [_row(name, load) for name, loads in sides.items() for load in loads]
        for name, holds in figures["holds"].items():
            if holds is not None:
                verdict = "reached" if holds else "NOT reached"
                [(bound, value)] = figures["targets"][name].items()
                rows.append(FigureRow(name, f"{figures[name]:g}", f"{bound} {value:g}, {verdict}"))
        return rows


def compare(ours: SideFigures, peer: SideFigures | None) -> dict[str, float | None]:
    """Return our figures divided by the peer's; null without a peer, or without that load."""
    if peer is None:
        return dict.fromkeys(TARGETS)
    at_16 = [_find(side, load=CLOSED, in_flight=16) for side in (ours, peer)]
    at_1000 = [_find(side, load=OPEN, offered_per_s=1_000) for side in (ours, peer)]
    best = [max(_closed(side), key=_rate, default=None) for side in (ours, peer)]
    return {
        "ratio_p50_at_16": _ratio(at_16, "p50_ms"),
        "ratio_rate_at_16": _ratio(at_16, "calls_per_s"),
        "ratio_cpu_at_16": _ratio(at_16, "cpu_ms_a_call"),
        "ratio_max_rate": _ratio(best, "calls_per_s"),
        "ratio_cpu": _ratio(best, "cpu_ms_a_call"),
        # Of calls that we did not come to only the least that they waited is known.
        "ratio_p99_at_1000": None if _has_unsent(at_1000[0]) else _ratio(at_1000, "p99_ms"),
    }


def _ratio(pair: Sequence[Mapping[str, Any] | None], name: str) -> float | None:
    ours, theirs = (None if load is None else load[name] for load in pair)
    if ours is None or not theirs:
        return None
    return round(float(ours) / float(theirs), 3)


def _has_unsent(load: Mapping[str, Any] | None) -> bool:
    return load is not None and any(load["unsent"])


def _find(side: SideFigures, **load: object) -> Mapping[str, Any] | None:
    return next((found for found in side if load.items() <= found.items()), None)


def _closed(side: SideFigures) -> SideFigures:
    return [load for load in side if load["load"] == CLOSED]


def _rate(load: Mapping[str, Any]) -> float:
    return float(load["calls_per_s"])


def _highest_rate(side: SideFigures) -> float:
    return max(map(_rate, _closed(side)), default=0.0)


def _row(side: str, load: Mapping[str, Any]) -> FigureRow:
    is_closed = load["load"] == CLOSED
    what = f"{load['in_flight']} in flight" if is_closed else f"{load['offered_per_s']}/s offered"
    cpu = load["cpu_ms_a_call"]
    cpu_text = "unknown" if cpu is None else f"{cpu:.2f} ms"
    remark = f"p50 {load['p50_ms']:.1f}, p99 {load['p99_ms']:.1f} ms, CPU {cpu_text}"
    return FigureRow(f"{side}, {what}", f"{load['calls_per_s']:,.0f}/s", remark)
