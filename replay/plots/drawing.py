"""Series as a figure: the same numbers give the same file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replay.plots.series import Curve, PlotSeries
from schemas.errors import UsageError

SUFFIXES: Final = (".svg", ".png")
_SIZE_INCHES: Final = (10.0, 5.0)
_FIXED: Final[Any] = {"svg.hashsalt": "pitboss", "svg.fonttype": "none"}
"""Without a salt of its own an SVG has other ids each time; text stays text."""


def draw(series: PlotSeries, file: Path) -> None:
    """Write a figure as SVG or PNG, by the file's suffix. Raises UsageError for another one."""
    if file.suffix not in SUFFIXES:
        raise UsageError(f"{file.name}: the suffix says the format: {' or '.join(SUFFIXES)}")
    with mpl.rc_context(_FIXED):
        figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
        axes = figure.subplots()
        axes.set_title(series.title)
        axes.set_ylabel(series.unit)
        if series.kind == "payout":
            _draw_bars(axes, series)
        else:
            for curve in series.curves:
                _draw_line(axes, curve, is_step=series.kind == "balance")
            axes.set_xlabel("UTC")
        if len(series.curves) > 0:
            axes.legend()
        axes.grid(visible=True, alpha=0.3)
        metadata = {"Date": None} if file.suffix == ".svg" else {"Software": None}
        figure.savefig(file, metadata=metadata)


def _draw_line(axes: Axes, curve: Curve, *, is_step: bool) -> None:
    times = [datetime.fromtimestamp(at_ms / 1000, UTC) for at_ms in curve.places]
    style = "steps-post" if is_step else "default"
    axes.plot(times, curve.values, label=curve.name, drawstyle=style)  # type: ignore[arg-type] # dates


def _draw_bars(axes: Axes, series: PlotSeries) -> None:
    names = [*dict.fromkeys(name for curve in series.curves for name in curve.places)]
    width = 0.8 / max(1, len(series.curves))
    for number, curve in enumerate(series.curves):
        places = [names.index(name) + number * width for name in curve.places]
        axes.bar(places, curve.values, width, label=curve.name)
    middle = width * (len(series.curves) - 1) / 2
    axes.set_xticks([place + middle for place in range(len(names))], names, rotation=45, ha="right")
    axes.axhline(1.0, color="grey", linestyle="--", linewidth=0.8)
