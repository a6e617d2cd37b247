"""`pitboss replay plot`: numbers by SQL over the views of a slice, and the figure of them.

The same numbers give the same file. Needs the packages of the extra `analysis`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replay.export.views import SliceDatabase
from schemas.errors import UsageError

PlotKind: TypeAlias = Literal["bets", "balance", "payout"]

VIEWS_OF: Final[Mapping[PlotKind, tuple[str, ...]]] = MappingProxyType(
    {
        "bets": ("transactions",),
        "balance": ("outcomes",),
        "payout": ("transactions", "outcomes"),
    }
)
"""The views that each plot reads."""

_FIRST_COPIES: Final = """
    SELECT * FROM transactions
   QUALIFY row_number() OVER (PARTITION BY event_id, attempt ORDER BY _partition, _offset) = 1
"""
"""A record that was appended again after a crash counts once."""

_BETS: Final = f"""
    WITH events AS (SELECT *, unnest(legs) AS leg FROM ({_FIRST_COPIES}))
    SELECT provider, epoch_ms(occurred_at) // 60000 * 60000 AS minute_ms, count(DISTINCT event_id)
      FROM events WHERE leg.kind = 'BET' GROUP BY ALL ORDER BY ALL
"""  # noqa: S608 - a statement of ours
_BALANCE: Final = """
    SELECT DISTINCT ON (currency, version)
           currency, epoch_ms(coalesce(decided_at, _append_at)) AS at_ms, balance
      FROM outcomes WHERE version IS NOT NULL ORDER BY currency, version, _offset
"""
_PAYOUT: Final = f"""
    WITH posted AS (
        SELECT DISTINCT event_id, attempt FROM outcomes WHERE outcome = 'POSTED'
    ), events AS (
        SELECT *, unnest(legs) AS leg FROM ({_FIRST_COPIES}) JOIN posted USING (event_id, attempt)
    ), undone AS (
        SELECT DISTINCT brand, provider, reference.operation AS operation,
               reference.tx_id AS provider_tx_id
          FROM events WHERE leg.kind IN ('ROLLBACK', 'CANCEL') AND reference IS NOT NULL
    ), money AS (
        SELECT game_id, leg.currency AS currency, leg.amount AS amount,
               leg.kind = 'BET' AS is_stake
          FROM events ANTI JOIN undone USING (brand, provider, operation, provider_tx_id)
         WHERE leg.kind IN ('BET', 'WIN', 'JACKPOT_WIN') AND game_id IS NOT NULL
    )
    SELECT game_id, currency, sum(amount) FILTER (is_stake) AS staked,
           coalesce(sum(amount) FILTER (NOT is_stake), 0) AS won
      FROM money GROUP BY ALL HAVING staked > 0 ORDER BY staked DESC, game_id, currency
"""  # noqa: S608 - a statement of ours
_GAMES_MAX: Final = 30
SUFFIXES: Final = (".svg", ".png")
_SIZE_INCHES: Final = (10.0, 5.0)
_FIXED: Final[Any] = {"svg.hashsalt": "pitboss", "svg.fonttype": "none"}
"""Without a salt of its own an SVG has other ids each time; text stays text."""


@dataclass(frozen=True)
class Curve:
    """One named curve: places on the horizontal axis (epoch ms, or names), and values."""

    name: str
    places: tuple[Any, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class PlotSeries:
    """Everything that a figure shows."""

    kind: PlotKind
    title: str
    unit: str
    curves: tuple[Curve, ...]


def read_series(database: SliceDatabase, kind: PlotKind, player: str | None = None) -> PlotSeries:
    """Return the numbers of a plot. Raises UsageError from DuckDB.

    Bets that were rolled back, and what the ledger did not book, play no part in payouts.
    """
    rows = _rows(database, {"bets": _BETS, "balance": _BALANCE, "payout": _PAYOUT}[kind])
    if kind == "bets":
        return PlotSeries(kind, "Bets", "bets a minute", tuple(map(_with_gaps, _curves(rows))))
    if kind == "balance":
        return PlotSeries(kind, f"Balance of {player}", "balance", tuple(_curves(rows)))
    return PlotSeries(kind, "Payout by game", "won / staked", (*_payouts(rows),))


def _rows(database: SliceDatabase, sql: str) -> list[tuple[Any, ...]]:
    found = database.query(sql)
    assert found is not None
    return [*found.rows]


def _curves(rows: Iterable[tuple[str, int, Any]]) -> Iterable[Curve]:
    points: dict[str, list[tuple[int, float]]] = {}
    for name, at_ms, value in rows:
        points.setdefault(name, []).append((at_ms, float(value)))
    for name, found in points.items():
        yield Curve(name, tuple(at for at, _ in found), tuple(value for _, value in found))


def _with_gaps(curve: Curve) -> Curve:
    """Return a curve with a zero beside each gap: a minute without a bet has none."""
    known = dict(zip(curve.places, curve.values, strict=True))
    minutes = sorted({at + step for at in known for step in (-60_000, 0, 60_000)})
    return Curve(curve.name, tuple(minutes), tuple(known.get(at, 0.0) for at in minutes))


def _payouts(rows: Iterable[tuple[str, str, Decimal, Decimal]]) -> Iterable[Curve]:
    by_currency: dict[str, list[tuple[str, float]]] = {}
    for game_id, currency, staked, won in rows:
        by_currency.setdefault(currency, []).append((game_id, float(won / staked)))
    for currency, found in by_currency.items():
        shown = found[:_GAMES_MAX]  # those with the most stakes
        yield Curve(currency, tuple(game for game, _ in shown), tuple(value for _, value in shown))


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
