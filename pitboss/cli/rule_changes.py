"""`pitboss rules publish`, `activate`, `pause`, `diff`, `snooze`, `status`: the rules as data."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.rule_book import RuleBook, VersionStatus
from fraud_agents.rule_files import differences, rule_of
from fraud_agents.rule_set import RuleState
from fraud_agents.rules import Rule
from pitboss.cli import screen
from pitboss.cli.ledger_queries import read_ledger
from pitboss.cli.operator_commands import by_option, dry_run_option, reason_option
from pitboss.cli.option_types import FiniteFloat, Time
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.rule_changes import (
    append_change,
    applied_from,
    make_change,
    publish_change,
    read_book,
    topic_of,
)
from pitboss.settings import Runtime, read_settings
from schemas.errors import UsageError, suggest
from schemas.rule_changes import RuleChange, RuleChangeKind
from schemas.topics import TRANSACTIONS

POLL_S = 0.2

json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
wait_option = click.option(
    "--wait",
    "wait_s",
    default=10.0,
    show_default=True,
    type=FiniteFloat(0),
    help="Seconds to wait until every partition is judged by it.",
)

_VERSION = re.compile(r"([A-Z][A-Z0-9-]{1,31})[:@]([1-9]\d{0,8})", re.ASCII)
_STATE = re.compile(r"(shadow|active|canary):?(\d{0,3})", re.ASCII)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@by_option
@reason_option
@dry_run_option
@json_option
def publish(*, file: Path, actor: str, reason: str, dry_run: bool, as_json: bool) -> None:
    """Publish one version of a rule as a draft; it is never changed afterwards.

    FILE is JSON: rule, version, detector, owner, reason, and what differs from the detector's rule
    of the release: severity, scope, control, parameters.
    """
    rule = rule_of(file.read_bytes(), str(file))
    _submit(publish_change(rule, actor=actor, reason=reason), 0, dry_run=dry_run, as_json=as_json)


@click.command()
@click.argument("version")
@click.option(
    "--state",
    default="active",
    show_default=True,
    metavar="STATE",
    help="shadow, canary:1, canary:5, canary:25, canary:100 or active.",
)
@by_option
@reason_option
@wait_option
@dry_run_option
@json_option
def activate(
    *,
    version: str,
    state: str,
    actor: str,
    reason: str,
    wait_s: float,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Put VERSION (as in D01:3) into force: on trial, for a share of the players, or for all.

    Shadow alerts stop no player. An active version takes the place of the one before.
    """
    match = _STATE.fullmatch(state)
    if match is None or (match[1] != "canary" and match[2]):
        raise UsageError(f"--state {state!r}: give shadow, canary:1|5|25|100 or active")
    percent = int(match[2] or 0) if match[1] == "canary" else None
    rule_id, number = _parse_version(version)
    kind = RuleChangeKind.STATE
    change = make_change(
        kind, rule_id, number, actor=actor, reason=reason, state=match[1], percent=percent
    )
    _submit(change, wait_s, dry_run=dry_run, as_json=as_json)


@click.command()
@click.argument("version")
@by_option
@reason_option
@wait_option
@dry_run_option
@json_option
def pause(
    *, version: str, actor: str, reason: str, wait_s: float, dry_run: bool, as_json: bool
) -> None:
    """Take VERSION (as in D01:3) out of force; its open alerts are closed."""
    rule_id, number = _parse_version(version)
    kind, state = RuleChangeKind.STATE, RuleState.PAUSED.value
    change = make_change(kind, rule_id, number, actor=actor, reason=reason, state=state)
    _submit(change, wait_s, dry_run=dry_run, as_json=as_json)


@click.command()
@click.argument("rule_id")
@click.option("--player", help="The player whose alerts are snoozed, of any brand.")
@click.option("--key", help="The detector's key whose alerts are snoozed.")
@click.option(
    "--until", "until_ms", required=True, type=Time(), help="When it ends, in event time."
)
@by_option
@reason_option
@wait_option
@dry_run_option
@json_option
def snooze(
    *,
    rule_id: str,
    player: str | None,
    key: str | None,
    until_ms: int,
    actor: str,
    reason: str,
    wait_s: float,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Snooze RULE_ID about one player or key: until then its alerts stop no player."""
    change = make_change(
        RuleChangeKind.SNOOZED,
        rule_id,
        0,
        actor=actor,
        reason=reason,
        player_id=player,
        key=key,
        until=until_ms,
    )
    _submit(change, wait_s, dry_run=dry_run, as_json=as_json)


@click.command()
@click.argument("name")
@click.option("--player", required=True, help="The player, of any brand.")
@click.option("--out", "is_out", is_flag=True, help="Take the player out instead.")
@by_option
@reason_option
@wait_option
@dry_run_option
@json_option
def segment(
    *,
    name: str,
    player: str,
    is_out: bool,
    actor: str,
    reason: str,
    wait_s: float,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Put a player into a segment, to which the scope of a rule may be limited."""
    change = make_change(
        RuleChangeKind.SEGMENT,
        name,
        0,
        actor=actor,
        reason=reason,
        player_id=player,
        state="out" if is_out else "in",
    )
    _submit(change, wait_s, dry_run=dry_run, as_json=as_json)


@click.command()
@click.argument("first")
@click.argument("second")
@json_option
def diff(*, first: str, second: str, as_json: bool) -> None:
    """Show what differs between two versions; each is a version (as in D01:3) or a file."""
    found = differences(rule_named(first), rule_named(second))
    if as_json:
        rows = [dict(zip(("field", "first", "second"), row, strict=True)) for row in found]
        click.echo(msgspec.json.encode(rows))
        return
    table = screen.table("field", first, second)
    for row in found:
        table.add_row(*row)
    screen.show(table)


@click.command()
@json_option
def status(*, as_json: bool) -> None:
    """Show every version with its state, who set it and why, and the snoozes."""
    book = asyncio.run(read_book(_runtime()))
    if as_json:
        click.echo(msgspec.json.encode(_status_of(book)))
        return
    table = screen.table("version", "title", "state", "by", "reason")
    for (rule_id, number), one in sorted(book.versions.items()):
        by = one.actor or "the release"
        table.add_row(f"{rule_id}:{number}", one.rule.title, state_text(one), by, one.reason)
    screen.show(table)
    for name, own in sorted(book.segments.items()):
        click.echo(f"segment {name}: {len(own)} players")
    for snoozed, change in book.snoozes:
        who = f"player {snoozed.player_id}" if snoozed.key is None else f"key {snoozed.key}"
        until = datetime.fromtimestamp(snoozed.until_ms / 1_000, UTC)
        click.echo(
            f"{snoozed.rule_id} about {who} is snoozed until {until:%Y-%m-%d %H:%M:%S} UTC"
            f" by {change.actor}: {change.reason}"
        )


def _status_of(book: RuleBook) -> dict[str, object]:
    return {
        "position": book.position,
        "versions": [
            {
                "rule": rule_id,
                "version": number,
                "digest": one.rule.digest,
                "state": one.state.value,
                "percent": one.percent,
                "by": one.actor,
                "reason": one.reason,
            }
            for (rule_id, number), one in sorted(book.versions.items())
        ],
        "segments": {name: sorted(own) for name, own in sorted(book.segments.items())},
        "snoozes": [msgspec.to_builtins(change) for _, change in book.snoozes],
        "refused": [
            {"offset": one.offset, "reason": one.reason, "change": msgspec.to_builtins(one.change)}
            for one in book.refused
        ],
    }


def state_text(one: VersionStatus) -> str:
    """Return the state of a version as a person writes it."""
    return f"canary:{one.percent}" if one.state is RuleState.CANARY else one.state.value


def _submit(change: RuleChange, wait_s: float, *, dry_run: bool, as_json: bool) -> None:
    """Append a change, wait until it is in force, and print it with the offsets."""
    runtime = _runtime()
    result: dict[str, object] = {"change": msgspec.to_builtins(change), "dry_run": dry_run}
    if dry_run:
        asyncio.run(read_book(runtime)).check(change)
    else:
        offset = asyncio.run(append_change(runtime, change))
        result |= {"offset": offset}
        if wait_s:
            topic = result["topic"] = _topic_of(runtime, change)
            result["from_offsets"] = _wait_until_applied(runtime, topic, offset + 1, wait_s)
    if as_json:
        click.echo(msgspec.json.encode(result))
        return
    name = f"{change.rule_id}:{change.rule_version}" if change.rule_version else change.rule_id
    what = change.state or change.kind.lower()
    share = f" for {change.percent} % of the players" if change.percent is not None else ""
    click.echo(f"{'would be: ' if dry_run else ''}{name} {what}{share}")
    offsets = result.get("from_offsets")
    if isinstance(offsets, dict):
        _show_offsets(str(result["topic"]), offsets)


def _show_offsets(topic: str, offsets: dict[int, int | None]) -> None:
    if not offsets:
        click.echo("no fraud worker has run yet: it begins with this")
        return
    ready = [f"{part}@{offset}" for part, offset in offsets.items() if offset is not None]
    click.echo(f"judges {topic} from {', '.join(ready) or 'no partition yet'} on")
    if len(ready) < len(offsets):
        waiting = ", ".join(str(part) for part, offset in offsets.items() if offset is None)
        click.echo(f"not yet in force for the partitions {waiting}: does the fraud worker run?")


def _topic_of(runtime: Runtime, change: RuleChange) -> str:
    """Return the topic at whose offsets a change takes effect."""
    versions = asyncio.run(read_book(runtime)).versions
    own = [one.rule for (rule_id, _), one in versions.items() if rule_id == change.rule_id]
    return topic_of(own[0]) if own else TRANSACTIONS


def _wait_until_applied(
    runtime: Runtime, topic: str, position: int, wait_s: float
) -> dict[int, int | None]:
    deadline_s = time.monotonic() + wait_s
    while True:
        offsets = read_ledger(runtime, lambda database: applied_from(database, position, topic))
        if None not in offsets.values() or time.monotonic() >= deadline_s:
            return offsets
        time.sleep(POLL_S)


def _parse_version(text: str) -> tuple[str, int]:
    match = _VERSION.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is not a version of a rule: give RULE:VERSION, as in D01:3")
    return match[1], int(match[2])


def rule_named(text: str) -> Rule:
    """Return the rule of a file or of a version. Raises UsageError for neither."""
    if _VERSION.fullmatch(text) is None:
        path = Path(text)
        if not path.is_file():
            raise UsageError(f"{text!r} is neither RULE:VERSION, as in D01:3, nor a file")
        return rule_of(path.read_bytes(), text)
    version = _parse_version(text)
    for rule in DEFAULT_RULES:  # without asking a server
        if (rule.rule_id, rule.version) == version:
            return rule
    book = asyncio.run(read_book(_runtime()))
    found = book.versions.get(version)
    if found is None:
        known = [f"{rule_id}:{number}" for rule_id, number in book.versions]
        raise UsageError(f"{text} is not published{suggest(text, known)}")
    return found.rule


def read_known_book() -> RuleBook:
    """Return the rules of the installation; without servers those of the release, with a note.

    Raises Unavailable where servers are named that do not answer.
    """
    try:
        return asyncio.run(read_book(_runtime()))
    except UsageError as error:
        click.echo(f"note: the rules of the release: {error}", err=True)
        return RuleBook(DEFAULT_RULES)


def _runtime() -> Runtime:
    return resolve_runtime(read_settings())
