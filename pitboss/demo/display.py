"""Display of a demo: bars on a terminal, one line a second in a pipe, a table at the end.

Everything but the result goes to stderr.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
)
from rich.table import Column, Table
from rich.text import Text

from pitboss.demo.decisions import DecisionTimes
from pitboss.demo.figures import DemoFigures
from replay.audit.checks import Check

_LINE_EVERY_S = 1.0
_RATE_OVER_S = 1.0
_NOTE_WIDTH = 32
"""What 80 columns leave beside a bar and two numbers of six digits."""


@dataclass(frozen=True)
class TrafficView:
    """What a display shows of the traffic at one moment."""

    fed: int
    booked: int
    total: int
    note: str


class DemoDisplay:
    """Progress display: bars on a terminal, lines in a pipe or file."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn(
                "{task.fields[note]}",
                table_column=Column(no_wrap=True, overflow="ellipsis", max_width=_NOTE_WIDTH),
            ),
            console=console,
            transient=False,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._printed_at_s: dict[str, float] = {}
        self._ended: set[str] = set()
        self._fed: deque[tuple[float, int]] = deque()

    def __enter__(self) -> Self:
        """Start drawing."""
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop drawing."""
        self._bars.stop()

    def print_line(self, line: str, *, is_loud: bool = False) -> None:
        """Print a line with the time; a file gets it unwrapped."""
        text = Text.assemble(
            (time.strftime("%H:%M:%S"), "dim"), " ", (line, "bold red" if is_loud else "")
        )
        self.console.print(text, highlight=False, soft_wrap=not self.console.is_terminal)

    def update_bar(self, name: str, done: int, total: int, note: str = "") -> None:
        """Move a bar to `done` of `total`."""
        if self.console.is_terminal:
            self._move_bar(name, done, total, note)
        else:
            line = f"{name}: {done:,} of {total:,} {note}".rstrip()
            self._print_sometimes(name, line, is_last=done >= total)

    def update_traffic(self, view: TrafficView) -> None:
        """Move the bars of what is fed and booked; elsewhere than on a terminal they are a line."""
        rate = self._fed_per_s(view.fed) if view.fed < view.total else ""
        if self.console.is_terminal:
            self._move_bar("fed", view.fed, view.total, rate)
            self._move_bar("booked", view.booked, view.total, view.note)
            return
        fed = f"fed {view.fed:,} of {view.total:,}" + (f" at {rate}" if rate else "")
        line = f"{fed}, booked {view.booked:,}" + (f", {view.note}" if view.note else "")
        self._print_sometimes("traffic", line, is_last=view.booked >= view.total)

    def _fed_per_s(self, fed: int) -> str:
        now_s = time.monotonic()
        self._fed.append((now_s, fed))
        while self._fed[0][0] < now_s - _RATE_OVER_S:
            self._fed.popleft()
        start_s, before = self._fed[0]
        return f"{(fed - before) / (now_s - start_s):,.0f}/s" if now_s > start_s else ""

    def _move_bar(self, name: str, done: int, total: int, note: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, note=note)
        self._bars.update(self._tasks[name], completed=done, total=total, note=note)

    def _print_sometimes(self, name: str, line: str, *, is_last: bool) -> None:
        now_s = time.monotonic()
        if name in self._ended:
            return
        if is_last or now_s - self._printed_at_s.get(name, 0.0) >= _LINE_EVERY_S:
            self.print_line(line)
            self._printed_at_s[name] = now_s
            if is_last:
                self._ended.add(name)


def figures_table(figures: DemoFigures) -> Table:
    """Return the figures as a table of at most 80 columns."""
    table = Table(
        show_header=False, title=f"pitboss demo, seed {figures.seed}", title_justify="left"
    )
    table.add_column(style="bold")
    table.add_column(justify="right")
    counts = {
        "events in": figures.events_in,
        "settled (batches hold several)": figures.settled,
        "duplicates, moved nothing": figures.duplicates,
        "transfers": figures.transfers,
        **{f"  outcome {code}": count for code, count in figures.outcomes_by_code.items()},
        **{f"  dead letter {code}": count for code, count in figures.dead_letters_by_code.items()},
        "alerts": figures.alerts,
    }
    for name, count in counts.items():
        table.add_row(name, f"{count:,}")
    table.add_section()
    decided = figures.decision_ms
    for name, value in (
        ("fed a second", f"{figures.fed_per_s:,}"),
        ("decision time, p50 and p99: before the kill", _text_of(decided.before)),
        ("                            during it", _text_of(decided.during)),
        ("                            after it", _text_of(decided.after)),
        ("longest time without an answer", f"{figures.kill_gap_ms:,} ms"),
    ):
        table.add_row(name, value)
    return table


def _text_of(times: DecisionTimes) -> str:
    if times.p50 is None:
        return "none decided"
    return f"{times.p50:,} ms  {times.p99:,} ms"


def next_steps(program: str, namespace: str = "") -> list[str]:
    """Return commands to try next; `namespace` is the one that the demo kept, if it did."""
    if namespace:
        return [
            f"Next, in what is kept (export PITBOSS_NAMESPACE={namespace}):",
            f"  {program} ledger report    bets, wins and revenue by provider",
            f"  {program} alerts list      the player who bets too fast",
            f"  {program} dlt list         what could not be used, and why",
        ]
    return [
        "Next:",
        f"  {program} demo --keep        leaves ledger and topics to look at",
        f"  {program} demo --rate max    as fast as this machine can",
        f"  {program} up && {program} run all    your own installation",
    ]


def check_lines(checks: Iterable[Check], unmet: Iterable[str] = ()) -> list[str]:
    """Return a tick or a cross for each check, and a cross for each unmet expectation."""
    ticks = [
        f"[green]✔[/] {check.name:<22} [dim]{escape(check.detail)}[/]"
        if check.holds
        else f"[red]✘ {check.name:<22}[/] {escape(check.detail)}"
        for check in checks
    ]
    return ticks + [f"[red]✘[/] {escape(sentence)}" for sentence in unmet]
