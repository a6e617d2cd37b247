"""`pitboss alerts`: the detectors' findings and their explanation."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import click
import msgspec
from rich.text import Text

from fraud_agents.alerts import PublishedAlert, follow_alerts, read_alerts
from fraud_agents.enforcement import brand_of
from ledger_sink.rules import debts, payments
from pitboss.cli import screen
from pitboss.cli.alert_cases import (
    assign_action,
    assignee_option,
    close_action,
    read_actions,
    record_action,
    verdict_option,
)
from pitboss.cli.alert_explanations import (
    describe_outcomes,
    explain_alert,
    explain_ledger_alert,
    outcomes_of,
    show_explanation,
)
from pitboss.cli.operator_commands import (
    by_option,
    dry_run_option,
    reason_option,
    submit_and_print,
    wait_option,
)
from pitboss.cli.option_types import period_options
from pitboss.cli.suggestions import RULE, SuggestingGroup
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.periods import check_period, format_instant, is_within
from pitboss.settings import Runtime, read_settings
from schemas.errors import Rejected, UsageError
from schemas.events import FraudAlert
from schemas.money import exponent_of, format_minor
from schemas.rule_changes import AlertHandling
from schemas.topics import ALERTS

STYLES = {"block": "bold red", "hold": "red", "review": "yellow", "info": "blue"}

json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")


@click.group(cls=SuggestingGroup)
def alerts() -> None:
    """Show the detectors' findings, release their players, and record what people found."""


@alerts.command("list")
@click.option("--player", help="Only alerts about this player.")
@click.option("--rule", type=RULE, help="Only alerts of this rule, as in D01.")
@period_options()
@json_option
def list_command(
    *,
    player: str | None,
    rule: str | None,
    since_ms: int | None,
    until_ms: int | None,
    as_json: bool,
) -> None:
    """List every alert once, by event time."""
    check_period(since_ms, until_ms)
    found = [
        one
        for one in _read(_runtime())
        if (player is None or one.alert.player_id == player)
        and (rule is None or one.alert.rule_id == rule)
        and is_within(one.alert.occurred_at, since_ms, until_ms)
    ]
    if as_json:
        click.echo(msgspec.json.encode([one.alert for one in found]))
        return
    if found:
        _show_list([one.alert for one in found])
    click.echo(f"{len(found)} alerts" if len(found) != 1 else "1 alert", err=True)


@alerts.command()
@click.argument("alert_id")
@json_option
def show(*, alert_id: str, as_json: bool) -> None:
    """Show one alert with all its evidence. The first digits of the id are enough."""
    runtime = _runtime()
    found = _find(runtime, alert_id)
    if as_json:
        click.echo(msgspec.json.encode(found.alert))
        return
    screen.show_pairs(_lines(found.alert))
    for action in read_actions(runtime, found.alert.alert_id):
        click.echo(f"{format_instant(action.made_at)}  {action}")
    if found.closed is not None:
        click.echo(f"closed at {format_instant(found.closed.occurred_at)}")
    if found.is_contradicted:
        click.echo(
            f"warning: {found.times_sent} copies of this alert differ,"
            " which is a bug: please report it",
            err=True,
        )


@alerts.command("explain")
@click.argument("alert_id")
@json_option
@click.pass_context
def explain_command(context: click.Context, *, alert_id: str, as_json: bool) -> None:
    """Show the seconds that mattered, and run the rule again over the same records.

    Exit code 1 if the re-run does not raise the same alert.
    """
    runtime = _runtime()
    alert = _find(runtime, alert_id).alert
    if alert.rule_id in (debts.RULE, payments.RULE, payments.OPENED_RULE):
        raise UsageError(explain_ledger_alert(alert))
    first_offset, explanation = asyncio.run(explain_alert(runtime, alert))
    outcomes = outcomes_of(runtime, explanation.event_ids)
    if as_json:
        fields = {
            **msgspec.to_builtins(explanation),
            "outcomes": outcomes,
            "agrees": explanation.agrees,
            "first_offset": first_offset,
        }
        click.echo(msgspec.json.encode(fields))
    else:
        show_explanation(alert, explanation, first_offset, _lines(alert))
        if outcomes is not None:
            click.echo(describe_outcomes(outcomes, len(explanation.event_ids)))
    context.exit(0 if explanation.agrees else 1)


@alerts.command()
@click.argument("alert_id")
@by_option
@reason_option
@wait_option
@dry_run_option
@json_option
def release(
    *, alert_id: str, actor: str, reason: str, wait_s: float, dry_run: bool, as_json: bool
) -> None:
    """Release the alert's player from what alerts have done; other blocks stay."""
    alert = _find(_runtime(), alert_id).alert
    if alert.player_id is None:
        raise UsageError(f"alert {alert.alert_id} is not about a player: nothing was blocked")
    event = {
        "operation": "player.released",
        "player_id": alert.player_id,
        "actor": actor,
        "reason": reason,
        "alert_id": alert.alert_id,
    }
    submit_and_print(
        event, brand=brand_of(alert.key), wait_s=wait_s, dry_run=dry_run, as_json=as_json
    )


@alerts.command()
@click.argument("alert_id")
@assignee_option
@by_option
@reason_option
@dry_run_option
@json_option
def assign(
    *, alert_id: str, assignee: str, actor: str, reason: str, dry_run: bool, as_json: bool
) -> None:
    """Give an alert to a person; also one whose case was closed, which opens it again."""
    runtime = _runtime()
    found = _find(runtime, alert_id).alert.alert_id
    action = assign_action(assignee, actor, reason)
    record_action(runtime, found, action, dry_run=dry_run, as_json=as_json)


@alerts.command("close")
@click.argument("alert_id")
@verdict_option
@by_option
@reason_option
@dry_run_option
@json_option
def close_command(
    *, alert_id: str, verdict: str, actor: str, reason: str, dry_run: bool, as_json: bool
) -> None:
    """Close an alert's case with a verdict. It lifts no block: see `pitboss alerts release`."""
    runtime = _runtime()
    found = _find(runtime, alert_id).alert.alert_id
    action = close_action(verdict, actor, reason)
    record_action(runtime, found, action, dry_run=dry_run, as_json=as_json)


@alerts.command()
@click.option("--from-start", is_flag=True, help="Begin with the alerts that are there.")
@click.option("--count", type=click.IntRange(1), help="Stop after this many.")
@json_option
def watch(*, from_start: bool, count: int | None, as_json: bool) -> None:
    """Print alerts as they come, one a line, until Ctrl-C."""
    try:
        asyncio.run(_watch(_runtime(), from_start=from_start, count=count, as_json=as_json))
    except KeyboardInterrupt:
        click.echo(err=True)


async def _watch(runtime: Runtime, *, from_start: bool, count: int | None, as_json: bool) -> None:
    seen = 0
    feed = follow_alerts(runtime.broker, runtime.topic(ALERTS), from_start=from_start)
    async with aclosing(feed) as coming:  # type: ignore[type-var]  # it is an async generator
        async for alert in coming:
            if as_json:
                click.echo(msgspec.json.encode(alert))
            else:
                at = format_instant(alert.occurred_at)
                severity = _severity_text(alert).plain
                click.echo(f"{at}  {alert.alert_id}  {severity:<6}  {alert.title}")
            seen += 1
            if seen == count:
                return


def _show_list(found: Sequence[FraudAlert]) -> None:
    headers = ("time (UTC)", "id", "rule", "severity", "player", "seen", "allowed")
    table = screen.table(*headers, whole=("id",), box=None, pad_edge=False)
    for alert in found:
        table.add_row(
            format_instant(alert.occurred_at),
            alert.alert_id,
            f"{alert.rule_id} v{alert.rule_version}",
            _severity_text(alert),
            alert.player_id or alert.key,
            f"{alert.observed} {alert.unit}",
            _allowed(alert),
        )
    screen.show(table)


def _severity_text(alert: FraudAlert) -> Text:
    """Return the severity; in brackets that of an alert which stops no player or is milder."""
    if alert.handling == AlertHandling.NORMAL:
        return Text(alert.severity, STYLES.get(alert.severity, ""))
    return Text(f"({alert.handling} {alert.severity})", "dim")


def _allowed(alert: FraudAlert) -> str:
    """Format the threshold; empty for the ledger's own alerts, which have none."""
    return f"< {alert.threshold}" if alert.threshold else ""


def _lines(alert: FraudAlert) -> list[tuple[str, str]]:
    sources = ", ".join(
        f"{s.topic}-{s.partition}@{s.first_offset}..{s.last_offset}" for s in alert.sources
    )
    allowed, start = _allowed(alert), format_instant(alert.window_start)
    return [
        ("alert", alert.alert_id),
        ("title", alert.title),
        ("rule", f"{alert.rule_id} version {alert.rule_version}"),
        ("severity", alert.severity),
        ("handling", alert.handling),
        ("reason", alert.reason or "none"),
        ("status", f"{alert.status}, revision {alert.revision}"),
        ("exposed", _exposed(alert)),
        ("key", alert.key),
        ("player", alert.player_id or "none"),
        ("seen", f"{alert.observed} {alert.unit}" + (f", allowed {allowed}" if allowed else "")),
        ("raised by", f"the event of {format_instant(alert.occurred_at)}"),
        ("window", f"{start} to {format_instant(alert.window_end)}, UTC"),
        ("episode since", format_instant(alert.episode_start)),
        ("sources", sources),
        *sorted(alert.evidence.items()),
        ("sample events", "\n".join(alert.sample_event_ids)),
    ]


def _exposed(alert: FraudAlert) -> str:
    """Format the money that an alert is about."""
    if alert.exposed_minor is None or not alert.currency:
        return "no money"
    try:
        scale = exponent_of(alert.currency)
    except Rejected:
        return f"{alert.exposed_minor} minor units of {alert.currency}"
    return f"{format_minor(alert.exposed_minor, scale)} {alert.currency}"


def _find(runtime: Runtime, alert_id: str) -> PublishedAlert:
    found = [one for one in _read(runtime) if one.alert.alert_id.startswith(alert_id.lower())]
    if not found:
        raise UsageError(f"alert {alert_id} is not known: see `pitboss alerts list`")
    if len(found) > 1:
        raise UsageError(f"{len(found)} alerts begin with {alert_id}: give more of the id")
    return found[0]


def _read(runtime: Runtime) -> list[PublishedAlert]:
    return asyncio.run(read_alerts(runtime.broker, runtime.topic(ALERTS)))


def _runtime() -> Runtime:
    return resolve_runtime(read_settings())
