"""`pitboss top`: the roles of an installation, live in the terminal."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pitboss.cli import screen
from pitboss.cli.ledger_queries import format_money
from pitboss.cli.option_types import FiniteFloat
from pitboss.embedded.free_space import FreeSpace, free_space
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.installation import InstallationState, RoleState, read_installation
from pitboss.ops.role_topics import GROUPS
from pitboss.ops.worker_pages import WorkerPage, read_pages
from pitboss.settings import StackSettings, read_settings
from pitboss.workers.role_locks import list_running

LAG_WARNING_S: Final = 10.0
"""Lag from which a role is shown as late."""
WHOLE_EVERY_S: Final = 10.0
"""So often what is below the table is read: it asks more of the database than the lag."""
REASON_MAX: Final = 72
"""Characters of a reason or a note that are shown; `pitboss status` has the whole."""


@dataclass(frozen=True)
class WholeState:
    """What is known of the ledger, the disk and the providers; shown below the table."""

    state: InstallationState
    disk: FreeSpace | None
    """Of the embedded servers; None with servers of one's own."""
    unsigned: Sequence[str]
    now_ms: int


@dataclass(frozen=True)
class TopFrame:
    """What is known of the roles at one moment."""

    at_s: float
    state: InstallationState
    pages: Sequence[WorkerPage]
    whole: WholeState | None = None
    """As it was read last; None where it is not shown."""

    def rates_since(self, before: TopFrame | None) -> dict[str, float]:
        """Return the records a second of each role since an earlier frame; {} without one."""
        if before is None or self.at_s <= before.at_s:
            return {}
        earlier = {role.role: role.position for role in before.state.roles or ()}
        seconds = self.at_s - before.at_s
        return {
            role.role: max(0, role.position - earlier[role.role]) / seconds
            for role in self.state.roles or ()
            if role.partitions and role.role in earlier
        }


@click.command()
@click.option("--once", is_flag=True, help="Print one frame and end.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a frame.")
@click.option(
    "--every",
    "every_s",
    default=2.0,
    show_default=True,
    type=FiniteFloat(min=0.1),
    help="Seconds between two frames.",
)
def top(*, once: bool, as_json: bool, every_s: float) -> None:
    """Show the roles live: lag, rate, what they wait for, and how their workers ended.

    Lag and rate come from the broker, so they are of all workers, wherever they run. Whether a
    worker is ready, its CPU and its memory come from its pages on this machine, where
    PITBOSS_TELEMETRY_PORT was set for `pitboss run`. The line below the table says what is in
    suspense, which barriers are open, how old the oldest unsealed entry is, how much disk is free,
    which versions retire and which providers are booked unsigned; it is read every 10 s, and
    `pitboss status --json` has it whole. Ends with Ctrl-C. Exit code 69 if a server does not answer
    at the start.
    """
    settings = read_settings()
    if once or as_json:
        before: TopFrame | None = None
        for frame in _frames(settings, every_s, once=once, has_whole=not as_json):
            rates = frame.rates_since(before)
            if as_json:
                click.echo(json.dumps(_as_json(frame, rates)))
            else:
                screen.show(build_table(frame, rates))
            before = frame
        return
    _show_live(settings, every_s)


def _show_live(settings: StackSettings, every_s: float) -> None:
    before: TopFrame | None = None
    try:
        with Live(console=screen.console(), auto_refresh=False) as live:
            for frame in _frames(settings, every_s, once=False, has_whole=True):
                live.update(build_table(frame, frame.rates_since(before)), refresh=True)
                before = frame
    except KeyboardInterrupt:
        return


def _frames(
    settings: StackSettings, every_s: float, *, once: bool, has_whole: bool
) -> Iterator[TopFrame]:
    runtime = resolve_runtime(settings)
    whole: WholeState | None = None
    whole_due_s = time.monotonic() if has_whole else float("inf")
    while True:
        began_s = time.monotonic()
        is_due = began_s >= whole_due_s
        state = read_installation(runtime, settings.home, has_ledger=is_due)
        running = list_running(settings.home, settings.namespace)
        if is_due:
            whole_due_s = began_s + WHOLE_EVERY_S
            disk = None if settings.uses_given_servers else free_space(settings)
            unsigned = sorted({name for one in running for name in one.unsigned})
            whole = WholeState(state, disk, unsigned, time.time_ns() // 1_000_000)
        yield TopFrame(began_s, state, read_pages(running), whole)
        if once:
            return
        time.sleep(max(0.0, every_s - (time.monotonic() - began_s)))


def _as_json(frame: TopFrame, rates: Mapping[str, float]) -> dict[str, Any]:
    return {
        "roles": [
            role.as_json() | {"records_per_s": rates.get(role.role)}
            for role in frame.state.roles or ()
        ],
        "oldest_unanswered_s": frame.state.oldest_unanswered_s,
        "workers": [page.as_json() for page in frame.pages],
        "notes": frame.state.notes,
    }


def build_table(frame: TopFrame, rates: Mapping[str, float]) -> Table:
    """Build the table of one frame, a row a role."""
    age = frame.state.oldest_unanswered_s
    title = "no record waits for its answer" if age is None else f"oldest answer due {age:.1f} s"
    shown = screen.table(
        *("role", "ready", "lag", "lag s", "records/s", "cpu s", "MB", "restarts", "waits for"),
        title=title,
    )
    for role in frame.state.roles or ():
        shown.add_row(*_cells(role, frame.pages, rates.get(role.role)))
    with_lag = {role.role for role in frame.state.roles or ()}
    for name in dict.fromkeys(page.role for page in frame.pages if page.role not in with_lag):
        ready, *used = _page_cells(name, frame.pages)
        shown.add_row(Text(name, "bold"), ready, "", "", "", *used, "", "")
    for note in frame.state.notes:
        shown.add_row("", "", "", "", "", "", "", "", Text(_shorten(note), "yellow"))
    if frame.whole is not None:
        shown.caption = Text(format_whole(frame.whole), justify="left")
    return shown


def format_whole(whole: WholeState) -> str:
    """Return the line below the table."""
    state = whole.state
    parts = ["ledger not known"] if state.open_groups is None else _format_ledger(whole)
    if whole.disk is not None:
        short = "" if whole.disk.is_enough else ", too little"
        parts.append(f"disk {whole.disk.free_mb / 1024:.1f} GB free{short}")
    for one in state.retiring:
        days = one["days"]
        when = f"retires in {days} days" if days > 0 else f"retired on {one['retires_on']}"
        parts.append(f"{one['provider']} {one['version']} {when}")
    if whole.unsigned:
        parts.append(f"unsigned: {', '.join(whole.unsigned)}")
    return " · ".join(parts)


def _format_ledger(whole: WholeState) -> list[str]:
    """Return what is in suspense, which barriers are open, and how old what no seal covers is."""
    groups = whole.state.open_groups or ()
    sums: Counter[str] = Counter()
    for one in groups:
        if one.kind == "suspense" and one.currency:
            sums[one.currency] += one.total_minor
    money = [format_money(minor, currency) for currency, minor in sorted(sums.items())]
    barriers = [one for one in groups if one.kind == "barrier"]
    oldest_ms = min((one.since_ms for one in barriers), default=whole.now_ms)
    age = f", oldest {(whole.now_ms - oldest_ms) / 1000:,.0f} s" if barriers else ""
    unsealed_s = whole.state.unsealed_s
    sealed = "all sealed" if unsealed_s is None else f"unsealed for {unsealed_s:,.1f} s"
    if whole.state.never_sealed:
        sealed = f"{whole.state.never_sealed} partitions never sealed"
    return [f"suspense {', '.join(money) or '0'}", f"barriers {len(barriers)}{age}", sealed]


def _cells(role: RoleState, pages: Sequence[WorkerPage], rate: float | None) -> list[str | Text]:
    ready, *used = _page_cells(role.role, pages)
    lag_s = role.lag_s
    late = lag_s is not None and lag_s >= LAG_WARNING_S
    has_group = role.role in GROUPS
    return [
        Text(role.role, "bold"),
        ready,
        f"{role.lag_records:,}" if has_group else "",
        Text(_format_age(lag_s) if has_group else "", "red" if late else ""),
        "" if rate is None else f"{rate:,.0f}",
        *used,
        ", ".join(f"{count} {code}" for code, count in role.restarts.items()),
        Text("; ".join(map(_shorten, role.waits_for)), "red"),
    ]


def _page_cells(role: str, pages: Sequence[WorkerPage]) -> tuple[Text, str, str]:
    """Return how many workers of a role are ready, and their CPU time and memory."""
    own = [page for page in pages if page.role == role]
    ready = sum(page.is_ready for page in own)
    cpu_s, memory = sum(page.cpu_s for page in own), sum(page.memory_bytes for page in own)
    return (
        Text(f"{ready}/{len(own)}" if own else "?", "" if ready == len(own) else "red"),
        f"{cpu_s:,.1f}" if own else "",
        f"{memory / 1024 / 1024:,.0f}" if own else "",
    )


def _format_age(age_s: float | None) -> str:
    return "0" if age_s is None else f"{age_s:.1f}"


def _shorten(text: str) -> str:
    return text if len(text) <= REASON_MAX else f"{text[: REASON_MAX - 1]}…"
