"""`pitboss demo`: the main job end to end, with a killed worker and seven checks; or a fraud."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click
import msgspec

from pitboss.cli import screen
from pitboss.cli.interrupts import unwind_on_termination
from pitboss.cli.option_types import FiniteFloat
from pitboss.cli.suggestions import NameChoice
from pitboss.demo.display import DemoDisplay, check_lines, figures_table, next_steps
from pitboss.demo.expectations import ChecksFailed
from pitboss.demo.fake_deposits import BLOCK_TARGET_MS, FakeDepositFigures, run_fake_deposits
from pitboss.demo.report import check_report_library, write_report
from pitboss.demo.run import RATE_DEFAULT, DemoSettings, run_demo
from pitboss.embedded.files import display_path
from pitboss.settings import read_settings
from schemas.errors import UsageError
from schemas.money import exponent_of, format_minor

EVENTS_MAX = 500_000
"""Records, events and answers are in memory at the end: 7 KB a record for the traffic alone."""


class _DemoRate(FiniteFloat):
    """Records a second; None for 0 and for `max`."""

    def convert(  # type: ignore[override]  # click's own types return what their base does not
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        """Convert a number, or `max`."""
        return None if value == "max" else super().convert(value, param, ctx) or None


DEMO_RATE = _DemoRate(min=0)


@click.command()
@click.option(
    "--events",
    default=12_000,
    show_default=True,
    type=click.IntRange(2_000, EVENTS_MAX),
    help="Calls of providers.",
)
@click.option(
    "--seed",
    default=42,
    show_default=True,
    type=click.IntRange(0),
    help="The same seed, the same traffic.",
)
@click.option(
    "--rate",
    type=DEMO_RATE,
    default=f"{RATE_DEFAULT:.0f}",
    show_default=True,
    help="Calls a second; 0 or max: the next of 256 when one is over.",
)
@click.option(
    "--scenario",
    default="play",
    show_default=True,
    type=NameChoice(("play", "fake-deposits")),
    help="play: the main job, checked; fake-deposits: money made up through an affiliate, stopped"
    " before it leaves, for which --events, --seed and --rate do not count.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@click.option("--keep", is_flag=True, help="Keep namespace, logs and servers for inspection.")
@click.option("--secure", is_flag=True, help="On servers with TLS and logins, as `up --secure`.")
@click.option(
    "--report",
    "report_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a page of the run here: rates, latencies, refusals, lag over time. One HTML file"
    " that needs no network.",
)
@click.option(
    "--yes-use-these-servers", is_flag=True, help="Fill the servers that the environment names."
)
def demo(
    *,
    events: int,
    seed: int,
    rate: float | None,
    scenario: str,
    as_json: bool,
    keep: bool,
    secure: bool,
    report_file: Path | None,
    yes_use_these_servers: bool,
) -> None:
    """Run traffic through real workers, kill one of them, and check everything.

    Providers call the gateway over HTTP, in the formats of real ones. The command uses a fresh
    namespace and removes it afterwards; Ctrl-C and SIGTERM leave the servers as they were. Its exit
    code is 0 only if every check holds and every expectation about the traffic is met.
    """
    if scenario == "fake-deposits":
        if secure:
            raise UsageError("--secure is for the scenario play")
        _show_fake_deposits(as_json=as_json, keep=keep, use_given_servers=yes_use_these_servers)
        return
    if report_file is not None:
        check_report_library()
    settings = DemoSettings(events, seed, rate, yes_use_these_servers, keep, secure)
    console = screen.console(stderr=True)
    with unwind_on_termination(), DemoDisplay(console) as display:
        try:
            result = run_demo(read_settings(), settings, display)
        except ChecksFailed as failed:
            result = failed.result
    if report_file is not None:
        write_report(report_file, result)
        console.print(f"report: {report_file}", soft_wrap=True)
    if as_json:
        click.echo(msgspec.json.encode(result.figures))
    else:
        screen.show(figures_table(result.figures))
    out = console if as_json else screen.console()
    for line in check_lines(result.checks, result.figures.unmet):
        # The markup is ours; details in it are escaped.
        out.print(line, markup=True, soft_wrap=not out.is_terminal)
    if not result.holds:
        raise SystemExit(1)
    for line in next_steps(_program(), result.namespace):
        console.print(line, soft_wrap=not console.is_terminal)


def _show_fake_deposits(*, as_json: bool, keep: bool, use_given_servers: bool) -> None:
    """Run the scenario and print its figures.

    Exit code 1 if money was missed or could leave, or a block came too late.
    """
    console = screen.console(stderr=True)
    with unwind_on_termination(), DemoDisplay(console) as display:
        found = run_fake_deposits(
            read_settings(), display, use_given_servers=use_given_servers, keep=keep
        )
    if as_json:
        verdicts = {"target_block_ms": BLOCK_TARGET_MS, "holds": found.holds}
        click.echo(msgspec.json.encode({**msgspec.to_builtins(found), **verdicts}))
    else:
        screen.show_pairs(_fake_deposit_rows(found))
    if not found.holds:
        raise SystemExit(1)


def _fake_deposit_rows(found: FakeDepositFigures) -> list[tuple[str, str]]:
    verdict = "met" if found.is_block_in_time else "MISSED"
    refusals = ", ".join(f"{name} {count}" for name, count in found.refusals.items())
    slowest = f"{found.slowest_block_ms} ms after its notice"
    return [
        ("credited by false notices", _money(found.credited_minor, found.currency)),
        ("exposed, by the alerts", _money(found.exposed_minor, found.currency)),
        ("players blocked", f"{found.blocked_players} of {found.players}"),
        ("slowest block", f"{slowest}; target {BLOCK_TARGET_MS:,} ms: {verdict}"),
        ("not blocked yet, at most", _money(found.unblocked_minor_max, found.currency)),
        ("withdrawals refused", f"{found.withdrawals_refused}: {refusals}"),
        ("paid out", _money(found.paid_minor, found.currency)),
    ]


def _money(minor: int, currency: str) -> str:
    return f"{format_minor(minor, exponent_of(currency))} {currency}"


def _program() -> str:
    """Return this program as it has to be typed here: by its path if it is not on PATH."""
    path = Path(sys.argv[0])
    found = shutil.which(path.name)
    return path.name if found and path.exists() and path.samefile(found) else display_path(path)
