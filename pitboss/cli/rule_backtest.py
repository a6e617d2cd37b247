"""`pitboss rules test`: what a draft of a rule would have done, beside the rule that is active."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from fraud_agents.rule_book import RuleBook
from fraud_agents.rule_set import RuleState
from fraud_agents.rules import Rule
from pitboss.cli import screen
from pitboss.cli.ledger_queries import format_money, print_json, read_ledger
from pitboss.cli.option_types import DURATION, TIME, invocation_time_ms, rate_option
from pitboss.cli.progress import StepProgress
from pitboss.cli.rule_changes import json_option, rule_named
from pitboss.cli.suggestions import NameChoice
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.archive_settings import open_log
from pitboss.ops.exports import missing_packages
from pitboss.ops.periods import ACCEPTED_TIMES, check_period, format_time
from pitboss.ops.rule_changes import read_book, read_timelines
from pitboss.settings import Runtime, read_settings

if TYPE_CHECKING:
    from replay.backtest.report import (
        BacktestReport,
        Exposure,
        FlaggedSubject,
        NearSubject,
        RuleFigures,
    )
    from replay.backtest.scoping import SegmentMembers

_SCREEN_SUBJECTS = 20


@click.command("test")
@click.argument("rule")
@click.option(
    "--from",
    "--since",
    "since_ms",
    type=TIME,
    required=True,
    help=f"From this append time on, UTC: {ACCEPTED_TIMES}.",
)
@click.option("--to", "--until", "until_ms", type=TIME, help="Before this append time; else now.")
@click.option(
    "--warm-up",
    "warm_up_ms",
    type=DURATION,
    help="How long before the detectors begin; else until the rules forget.",
)
@click.option(
    "--examples",
    type=click.IntRange(0, 1_000),
    default=10,
    show_default=True,
    help="Players just below and just above the draft's edge, at most.",
)
@click.option(
    "--segments",
    "members_of",
    type=NameChoice(["now", "then"]),
    default="now",
    show_default=True,
    help="Players of the segments in a rule's scope: as they are, or as at each record.",
)
@rate_option
@json_option
@click.pass_context
def test_command(
    ctx: click.Context,
    *,
    rule: str,
    since_ms: int,
    until_ms: int | None,
    warm_up_ms: int | None,
    examples: int,
    members_of: str,
    rate: float,
    as_json: bool,
) -> None:
    """Run RULE over a stretch of history, beside the version that is active.

    RULE is a published version, as in D01:3, or a file as for `pitboss rules publish`. The log and
    the archive are read through the detectors of production; nothing is raised or written. The
    answer names who would be flagged, added and dropped, the money exposed, and the players for
    whom a change of the draft's numbers by 10, 25 or 50 percent changes the verdict. Where players
    came into a segment meanwhile, --segments then gives the alerts that were raised.
    """
    until_ms = invocation_time_ms(ctx) if until_ms is None else until_ms
    check_period(since_ms, until_ms)
    with missing_packages("rules test"):
        from replay.backtest.report import make_report
        from replay.backtest.run import BacktestPlan, default_warm_up_ms, run_backtest
    draft = rule_named(rule)
    runtime = resolve_runtime(read_settings())
    book = asyncio.run(read_book(runtime))
    active = _active_version(book, draft.rule_id)
    if warm_up_ms is None:
        warm_up_ms = default_warm_up_ms(draft, active)
    members = _read_members(runtime, book, (draft, active), is_then=members_of == "then")
    plan = BacktestPlan(runtime.prefix, draft, active, since_ms, until_ms, warm_up_ms, members)
    with open_log(runtime, rate) as source, StepProgress() as progress:
        topics = ", ".join(map(runtime.topic, plan.topics))
        progress.begin(f"{draft.rule_id} version {draft.version} over {topics}")
        report = make_report(plan, run_backtest(source, plan, progress.update), examples)
    if as_json:
        print_json(report)
    else:
        _show(report)


def _read_members(
    runtime: Runtime, book: RuleBook, rules: Sequence[Rule | None], *, is_then: bool
) -> SegmentMembers:
    """Return the players of segments; name on stderr those of a scope that have none."""
    from replay.backtest.scoping import SegmentMembers, members_of_then

    scopes = [rule.scope for rule in rules if rule is not None and rule.scope is not None]
    names = {name for scope in scopes for name in scope.segments}
    for name in sorted(name for name in names if not book.segments.get(name)):
        click.echo(f"the segment {name} has no players: `pitboss rules segment {name}`", err=True)
    now = book.rule_set().segments
    if not names or not is_then:
        return SegmentMembers(now)
    timelines = read_ledger(runtime, read_timelines)
    return SegmentMembers(
        now, members_of_then(timelines, lambda position: book.rule_set_at(position).segments)
    )


def _active_version(book: RuleBook, rule_id: str) -> Rule | None:
    entries = book.rule_set_at(book.position).entries
    active = (entry.rule for entry in entries if entry.state is RuleState.ACTIVE)
    return next((one for one in active if one.rule_id == rule_id), None)


def _show(report: BacktestReport) -> None:
    since, until = format_time(report.since_ms), format_time(report.until_ms)
    click.echo(f"from {since} to {until}: {report.events:,} events of {report.players:,} players")
    _show_figures([report.draft, *([] if report.active is None else [report.active])])
    later = "" if report.kept_later_ms is None else f" (median {report.kept_later_ms:+,} ms)"
    click.echo(
        f"{report.kept:,} stay flagged{later}, {len(report.added):,} are added"
        f" ({_money(report.added_exposed)}), {len(report.dropped):,} are dropped"
        f" ({_money(report.dropped_exposed)})"
    )
    _show_subjects("added", [(one, "") for one in report.added])
    _show_subjects("dropped", [(one, "") for one in report.dropped])
    _show_subjects("nearest silent players", _near(report.nearest_silent, "less"))
    _show_subjects("nearest alerted players", _near(report.nearest_alerted, "more"))
    for place in report.unreadable:
        click.echo(f"not readable, left out: {place}", err=True)
    click.echo(f"digest of the alerts: {report.digest}")


def _show_figures(figures: Sequence[RuleFigures]) -> None:
    table = screen.table(
        *("rule", "flagged", "alerts", "a day and 1,000 players", "exposed", "delay p50, p95"),
        "CPU an event",
    )
    for name, one in zip(("draft", "active"), figures, strict=False):
        delay = (
            "" if one.delay_ms is None else f"{one.delay_ms['p50']:,}, {one.delay_ms['p95']:,} ms"
        )
        table.add_row(
            f"{name} {one.rule.rule_id}:{one.rule.version}",
            f"{one.flagged:,}",
            ", ".join(f"{count:,} {severity}" for severity, count in one.by_severity.items()),
            f"{one.alerts_per_1000_players_day:,}",
            _money(one.exposed),
            delay,
            f"{one.cpu_us_per_event} µs",
        )
    screen.show(table)


def _near(found: Sequence[NearSubject], way: str) -> list[tuple[FlaggedSubject, str]]:
    return [(one.found, f"at {one.margin_percent} % {way}") for one in found]


def _show_subjects(title: str, rows: Sequence[tuple[FlaggedSubject, str]]) -> None:
    if not rows:
        return
    click.echo(f"{title}:")
    table = screen.table("player", "severity", "observed", "exposed", "since", "changes")
    for one, note in rows[:_SCREEN_SUBJECTS]:
        table.add_row(
            one.subject,
            one.severity,
            f"{one.observed:,} of {one.threshold:,} {one.unit}",
            _money(one.exposed),
            format_time(one.first_at_ms),
            note,
        )
    screen.show(table)
    if len(rows) > _SCREEN_SUBJECTS:
        click.echo(f"and {len(rows) - _SCREEN_SUBJECTS:,} more: --json lists them all")


def _money(exposed: Sequence[Exposure]) -> str:
    return ", ".join(format_money(one.minor, one.currency) for one in exposed) or "no money"
