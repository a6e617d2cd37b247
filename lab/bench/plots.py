"""`pitboss bench plot`: results of measurements as SVG.

A result's name says what it is of: `pipeline-abc1234.json` was kept by `pitboss bench pipeline`.
The same result gives the same file. Needs the packages of the extra `analysis`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import matplotlib as mpl
import msgspec
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_PANEL_INCHES: Final = (4.6, 4.2)
_FIXED: Final[Any] = {"svg.hashsalt": "pitboss", "svg.fonttype": "none"}
"""Without a salt of its own an SVG has other ids each time; text stays text."""


@dataclass(frozen=True)
class BarPanel:
    """Bars: for each series a value at each place. Stacked bars sum to a whole."""

    title: str
    unit: str
    places: tuple[str, ...]
    series: Mapping[str, tuple[float, ...]]
    is_stacked: bool = False


def panels_of(kind: str, result: Any) -> list[BarPanel]:
    """Return what is shown of a result; empty for a kind that has no plot."""
    make = _PANELS.get(kind)
    return [] if make is None else make(result)


def kind_of(stem: str) -> str:
    """Return the kind of result that a file's name says: all before the commit.

    The longest that there is: `latency-hops` before `latency`.
    """
    known = [kind for kind in _PANELS if stem.startswith(f"{kind}-")]
    return max(known, key=len, default="")


def _hops(result: Mapping[str, Any]) -> list[BarPanel]:
    loads = result["hops"]
    hops = [hop for hop in next(iter(loads.values())) if hop != "whole"]
    means = {hop: tuple(load[hop]["mean_ms"] for load in loads.values()) for hop in hops}
    return [BarPanel("A bet, hop by hop", "mean ms", tuple(loads), means, is_stacked=True)]


def _closed(result: Mapping[str, Any]) -> list[BarPanel]:
    loads = result["closed"]
    sides = {
        "Pitboss": list(loads.values()),
        "bare hops": [load["bare_hops"] for load in loads.values()],
    }
    places = tuple(f"{number} in flight" for number in loads)
    return _by_side(
        places,
        sides,
        ("calls_per_s", "Answers", "a second"),
        ("p50_ms", "Wait, p50", "ms"),
        ("cpu_ms_a_call", "CPU a call", "ms"),
    )


def _rates(other: str, name: str) -> Callable[[Mapping[str, Any]], list[BarPanel]]:
    def panels(result: Mapping[str, Any]) -> list[BarPanel]:
        rates = result["rates"]
        sides = {
            "on" if other == "off" else "Pitboss": list(rates.values()),
            name or str(result[other]): [rate[other] for rate in rates.values()],
        }
        return _by_side(
            tuple(f"{rate} a second" for rate in rates),
            sides,
            ("p50_ms", "Wait, p50", "ms"),
            ("p99_ms", "Wait, p99", "ms"),
            ("cpu_ms_a_call", "CPU a call of the workers", "ms"),
        )

    return panels


def _secured(result: Mapping[str, Any]) -> list[BarPanel]:
    sides = {"with TLS": result["secured"], "plain text": result["plain"]}
    at_rate = f"{result['rate']} a second"
    closed = {name: [side["closed"]] for name, side in sides.items()}
    steady = {name: [side["at_rate"]] for name, side in sides.items()}
    return [
        *_by_side(
            (f"{result['in_flight']} in flight",), closed, ("calls_per_s", "Answers", "a second")
        ),
        *_by_side((at_rate,), steady, ("p50_ms", "Wait, p50", "ms"), ("p99_ms", "Wait, p99", "ms")),
    ]


def _by_side(
    places: tuple[str, ...],
    sides: Mapping[str, Sequence[Mapping[str, Any]]],
    *figures: tuple[str, str, str],
) -> list[BarPanel]:
    """Return a panel a figure: its key, title and unit. A figure that is not known has none."""
    return [
        BarPanel(title, unit, places, {name: tuple(one[key] for one in each)
                                       for name, each in sides.items()})
        for key, title, unit in figures
        if all(one[key] is not None for each in sides.values() for one in each)
    ]  # fmt: skip


def _pipeline(result: Mapping[str, Any]) -> list[BarPanel]:
    sides = {"Pitboss": result, **result["peers"]}
    parts = dict.fromkeys(
        part for side in sides.values() for part in side["cpu_s_per_million"] if part != "total"
    )
    cpu = {
        part: tuple(side["cpu_s_per_million"].get(part, 0.0) for side in sides.values())
        for part in parts
    }
    rates = {"settled": tuple(float(side["settled_per_s"]) for side in sides.values())}
    return [
        BarPanel("CPU of a million records", "s", tuple(sides), cpu, is_stacked=True),
        BarPanel("Records settled", "a second", tuple(sides), rates),
    ]


_PEER_NAMES: Final = {
    "quix_streams": "Quix Streams",
    "bytewax": "Bytewax",
    "confluent_loop": "bare loop",
}


def _normalise(result: Mapping[str, Any]) -> list[BarPanel]:
    runs = {
        "Pitboss": [pair["ours"] for pair in result["pairs"]],
        "plain Faust": [pair["plain_faust"] for pair in result["pairs"]],
        **{_PEER_NAMES[peer]: each for peer, each in result["others"].items()},
    }
    for part, name in (("first", "Kafka Streams"), ("steady", "Kafka Streams, steady")):
        if streams := result.get("kafka_streams"):
            runs[name] = [run[part] for run in streams]

    def medians(key: str) -> tuple[float, ...]:
        return tuple(float(median(run[key] for run in each)) for each in runs.values())

    return [
        BarPanel("Records normalised", "a second", tuple(runs), {"rate": medians("per_s")}),
        BarPanel(
            "CPU of a million records", "s", tuple(runs), {"CPU": medians("cpu_s_per_million")}
        ),
    ]


_PANELS: Final[Mapping[str, Callable[[Any], list[BarPanel]]]] = {
    "latency-hops": _hops,
    "latency-closed": _closed,
    "latency-base": _rates("base", ""),
    "latency-secured": _secured,
    "telemetry": _rates("off", "off"),
    "pipeline": _pipeline,
    "pipeline-secured": _pipeline,
    "normalise": _normalise,
}


def draw(panels: Sequence[BarPanel], title: str, file: Path) -> None:
    """Write the panels side by side as SVG, under a title."""
    width, height = _PANEL_INCHES
    with mpl.rc_context(_FIXED):
        figure = Figure(figsize=(width * len(panels), height), layout="constrained")
        figure.suptitle(title, fontsize="medium")
        for axes, panel in zip(_flatten(figure.subplots(1, len(panels))), panels, strict=True):
            _draw_panel(axes, panel)
        figure.savefig(file, format="svg", metadata={"Date": None})


def _flatten(axes: Any) -> Iterable[Axes]:
    return axes.flat if hasattr(axes, "flat") else [axes]


def _draw_panel(axes: Axes, panel: BarPanel) -> None:
    axes.set_title(panel.title, fontsize="medium")
    axes.set_ylabel(panel.unit)
    places = range(len(panel.places))
    below = [0.0] * len(panel.places)
    width = 0.6 if panel.is_stacked else 0.8 / len(panel.series)
    for number, (name, values) in enumerate(panel.series.items()):
        if panel.is_stacked:
            axes.bar(places, values, width, bottom=below, label=name)
            below = [low + value for low, value in zip(below, values, strict=True)]
        else:
            axes.bar([place + number * width for place in places], values, width, label=name)
    middle = 0.0 if panel.is_stacked else width * (len(panel.series) - 1) / 2
    slant: dict[str, Any] = {"rotation": 30, "ha": "right"} if len(panel.places) > 2 else {}
    axes.set_xticks([place + middle for place in places], panel.places, **slant)
    if len(panel.series) > 1:
        # Beside stacked bars, which fill their panel; in the order of the stack.
        beside: dict[str, Any] = {
            "loc": "upper left",
            "bbox_to_anchor": (1.0, 1.0),
            "reverse": True,
        }
        axes.legend(fontsize="small", **(beside if panel.is_stacked else {}))
    axes.grid(visible=True, axis="y", alpha=0.3)


def plot_results(results: Iterable[Path], folder: Path) -> list[Path]:
    """Write the plot of each result that has one below a folder, and return the files."""
    written = []
    for result in results:
        found = msgspec.json.decode(result.read_bytes())
        panels = panels_of(kind_of(result.stem), found)
        if panels:
            file = folder / f"{result.stem}.svg"
            machine = found["machine"]
            title = (
                f"{result.stem}: {machine['cores']} cores, load {machine['load_before']:g} before"
            )
            draw(panels, title, file)
            written.append(file)
    return written
