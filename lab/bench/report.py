"""Figures as output: one JSON object for a machine, a table for a person.

Both name machine and commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lab.bench.machine import Machine
from lab.bench.rates import Pair, Rate, Spread


@dataclass(frozen=True)
class BenchEnvironment:
    """Machine, commit and servers of a bench."""

    machine: Machine
    commit: str | None
    servers: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return the fields that every bench's object ends with."""
        return {
            "machine": asdict(self.machine),
            "commit": self.commit,
            "servers": dict(self.servers),
        }


@dataclass(frozen=True)
class FigureRow:
    """A figure as a person reads it."""

    name: str
    value: str
    remark: str = ""


def rate_as_json(rate: Rate) -> dict[str, float]:
    """Return one run as a JSON object."""
    return {
        "events": rate.events,
        "took_s": round(rate.took_s, 2),
        "per_s": round(rate.per_s),
        "cpu_s_per_million": round(rate.cpu_s_per_million, 2),
        "elsewhere_cores": round(rate.elsewhere_cores, 2),
    }


def pair_as_json(pair: Pair, peer: str) -> dict[str, Any]:
    """Return one pair as a JSON object; the peer goes by its name."""
    return {
        "ours": rate_as_json(pair.ours),
        peer: rate_as_json(pair.peer),
        "ratio": round(pair.ratio, 2),
    }


def spread_as_json(spread: Spread, digits: int = 2) -> dict[str, float]:
    """Return median and range as a JSON object."""
    return {name: round(value, digits) for name, value in asdict(spread).items()}


def range_text(spread: Spread, digits: int = 0) -> str:
    """Format the range, as a remark after a median."""
    return f"{spread.lowest:,.{digits}f} to {spread.highest:,.{digits}f}"


def format_table(title: str, rows: Sequence[FigureRow], environment: BenchEnvironment) -> str:
    """Format all rows in columns, and below them the machine."""
    widths = [max(len(getattr(row, column)) for row in rows) for column in ("name", "value")]
    lines = [
        f"{row.name:<{widths[0]}}  {row.value:>{widths[1]}}  {row.remark}".rstrip() for row in rows
    ]
    machine = environment.machine
    where = (
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_gb:g} GB, {machine.system},"
        f" {machine.python}, load {machine.load_before:g} before;"
        f" commit {environment.commit or 'unknown'}"
    )
    return "\n".join([title, *lines, where])
