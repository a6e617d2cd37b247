"""`pitboss alerts`: the detectors' findings and their explanation."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime

import click
import msgspec
from rich.text import Text

from fraud_agents.alerts import PublishedAlert, follow_alerts, read_alerts, read_records
from fraud_agents.detectors import DEFAULT_RULES, PAST_RULES
from fraud_agents.enforcement import brand_of
from fraud_agents.explanation import Explanation, explain, first_offset_of
from ledger_sink.queries.people import count_outcomes
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
from pitboss.cli.ledger_queries import read_ledger
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
from pitboss.ops.periods import check_period, is_within
from pitboss.ops.rule_changes import read_book
from pitboss.settings import Runtime, read_settings
from schemas import codec
from schemas.errors import PitbossError, Rejected, UsageError
from schemas.events import FraudAlert, WalletTransaction
from schemas.money import exponent_of, format_minor
from schemas.rule_changes import AlertHandling
from schemas.topics import ALERTS

BAR_WIDTH = 30
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
        click.echo(f"{_time(action.made_at)}  {action}")
    if found.closed is not None:
        click.echo(f"closed at {_time(found.closed.occurred_at)}")
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
        raise UsageError(_explain_ledger_alert(alert))
    first_offset, explanation = asyncio.run(_explain(runtime, alert))
    outcomes = _outcomes_of(runtime, explanation.event_ids)
    if as_json:
        fields = {
            **msgspec.to_builtins(explanation),
            "outcomes": outcomes,
            "agrees": explanation.agrees,
            "first_offset": first_offset,
        }
        click.echo(msgspec.json.encode(fields))
    else:
        _show_explanation(alert, explanation, first_offset)
        if outcomes is not None:
            click.echo(_describe_outcomes(outcomes, len(explanation.event_ids)))
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
                at = _time(alert.occurred_at)
                severity = _severity_text(alert).plain
                click.echo(f"{at}  {alert.alert_id}  {severity:<6}  {alert.title}")
            seen += 1
            if seen == count:
                return


async def _explain(runtime: Runtime, alert: FraudAlert) -> tuple[int, Explanation]:
    """Explain an alert; return the first offset that was read, and the explanation."""
    near = first_offset_of(alert)
    explanation = await _explain_from(runtime, alert, near)
    if explanation.agrees or near == 0:
        return near, explanation
    click.echo("the re-run differs: reading the whole log before it to make sure", err=True)
    return 0, await _explain_from(runtime, alert, 0)


async def _explain_from(runtime: Runtime, alert: FraudAlert, first_offset: int) -> Explanation:
    [source] = alert.sources
    records = await read_records(
        runtime.broker,
        runtime.topic(source.topic),
        source.partition,
        first_offset,
        source.last_offset,
        # The log's key is the player, so only these records need to be decoded.
        None if alert.player_id is None else alert.player_id.encode(),
    )
    decode, events = codec.decoder(WalletTransaction), []
    for record in records:
        try:
            events.append((record.offset, decode(record.value)))
        except Rejected:
            continue  # the detectors published it as a dead letter and did not count it either
    known = (*DEFAULT_RULES, *PAST_RULES)
    if not any(rule.digest == alert.evidence.get("rule_digest") for rule in known):
        known = (*known, *(await read_book(runtime)).rules())
    return explain(alert, events, known)


def _outcomes_of(runtime: Runtime, event_ids: Sequence[str]) -> dict[str, int] | None:
    """Return what the ledger decided about a window's events; None where that is not known.

    D01 counts what was sent; who looks at it wants to know what of it was refused.
    """
    if not event_ids:
        return None
    try:
        return read_ledger(runtime, lambda database: count_outcomes(database, event_ids))
    except PitbossError as error:
        click.echo(f"note: what the ledger decided about them is not known: {error}", err=True)
        return None


def _describe_outcomes(outcomes: dict[str, int], events: int) -> str:
    refused = {name: count for name, count in outcomes.items() if name.startswith("REFUSED")}
    reasons = ", ".join(f"{name} {count}" for name, count in refused.items()) or "none"
    waiting = events - sum(outcomes.values())
    undecided = f", {waiting} not decided" if waiting else ""
    total = sum(refused.values())
    return f"of these {events} events the ledger refused {total}: {reasons}{undecided}"


def _explain_ledger_alert(alert: FraudAlert) -> str:
    events = ", ".join(alert.sample_event_ids)
    return (
        f"{alert.rule_id} is raised by the ledger when it books {events}, not by a detector,"
        f" so a rule cannot be run again: see `pitboss alerts show {alert.alert_id}` and"
        f" `pitboss ledger entry {events}` for what was booked, and `pitboss ledger debts` for the"
        " players in debt now"
    )


def _show_list(found: Sequence[FraudAlert]) -> None:
    headers = ("time (UTC)", "id", "rule", "severity", "player", "seen", "allowed")
    table = screen.table(*headers, whole=("id",), box=None, pad_edge=False)
    for alert in found:
        table.add_row(
            _time(alert.occurred_at),
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


def _show_explanation(alert: FraudAlert, explanation: Explanation, first_offset: int) -> None:
    console = screen.console()
    console.print(Text(alert.title, "bold"))
    rule = f"{alert.rule_id} version {alert.rule_version}"
    if explanation.seconds:
        console.print(f"{rule}: {alert.threshold} {alert.unit} or more in any window")
        _show_seconds(alert, explanation)
    else:
        console.print(f"{rule}: see `pitboss rules show {alert.rule_id}`")
        screen.show_pairs(_lines(alert))
    [source] = alert.sources
    where = f"{source.topic}-{source.partition}@{first_offset}..{source.last_offset}"
    word = "agrees" if explanation.agrees else "DOES NOT AGREE"
    console.print(
        Text(
            f"run again over {explanation.records} records of the player in {where}: {word}",
            "green" if explanation.agrees else "bold red",
        )
    )
    for difference in explanation.differences:
        console.print(Text(f"  {difference}", "red"))


def _show_seconds(alert: FraudAlert, explanation: Explanation) -> None:
    window_s = (alert.window_end - alert.window_start) // 1_000
    headers = ("second (UTC)", alert.unit, "", f"last {window_s} s", "")
    table = screen.table(*headers, box=None, pad_edge=False)
    for column in (1, 3):
        table.columns[column].justify = "right"
    fullest = max([1, *(second.counted for second in explanation.seconds)])
    for second in explanation.seconds:
        bar = "█" * -(-second.counted * BAR_WIDTH // fullest)
        mark = f"◄ {alert.threshold} reached" if second.is_crossing else ""
        table.add_row(
            _time(second.at_ms)[11:],
            str(second.counted),
            Text(bar, "red" if second.running >= alert.threshold else "cyan"),
            str(second.running),
            Text(mark, "bold red"),
        )
    screen.show(table)


def _lines(alert: FraudAlert) -> list[tuple[str, str]]:
    sources = ", ".join(
        f"{s.topic}-{s.partition}@{s.first_offset}..{s.last_offset}" for s in alert.sources
    )
    allowed = _allowed(alert)
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
        ("raised by", f"the event of {_time(alert.occurred_at)}"),
        ("window", f"{_time(alert.window_start)} to {_time(alert.window_end)}, UTC"),
        ("episode since", _time(alert.episode_start)),
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


def _time(epoch_ms: int) -> str:
    at = datetime.fromtimestamp(epoch_ms // 1_000, UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}" + (f".{epoch_ms % 1_000:03}" if epoch_ms % 1_000 else "")
