"""`pitboss dlt`: records that could not be used, and actions on them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import click
import msgspec
from rich.text import Text

from pitboss.cli import screen
from pitboss.cli.dlt_filter import (
    PLACE,
    STATES,
    action_options,
    check_audit_text,
    check_sources,
    filter_options,
    find_case,
    is_on_dead_letter_topic,
    join_sources,
    json_option,
    parse_filter,
    parse_required_filter,
    parse_source,
)
from pitboss.cli.dlt_views import action_view, case_lines, case_view, format_time, hold_view
from pitboss.cli.option_types import DURATION, period_options
from pitboss.cli.suggestions import SuggestingGroup
from pitboss.embedded.state import resolve_runtime
from pitboss.ops import dead_letters
from pitboss.ops.periods import check_period, is_within
from pitboss.setting_files import read_keyring
from pitboss.settings import Runtime, read_settings, read_worker_settings
from runtime.dead_letters.headers import ACTOR_MAX, REASON_MAX, format_position
from runtime.dead_letters.letters import (
    CaseFilter,
    CaseState,
    DeadLetterCase,
    DeadLetterGroup,
    group_cases,
)
from runtime.dead_letters.redrive import Redriver, RedriveResult, RedriveStatus
from schemas.errors import UsageError
from schemas.events import DeadLetter
from streams.providers.redaction import secrets_of

REDRIVEN: Final = "redriven"


@click.group(cls=SuggestingGroup)
def dlt() -> None:
    """Dead letters: records that could not be used, byte for byte, and what was done about them."""


@dlt.command("list")
@filter_options
@click.option("--state", "states", multiple=True, type=STATES, help="Only in this state.")
@period_options(of="time of the source record")
@json_option
def list_command(
    *,
    codes: Sequence[str],
    topics: Sequence[str],
    sources: Sequence[str],
    player: str | None,
    states: Sequence[str],
    since_ms: int | None,
    until_ms: int | None,
    as_json: bool,
) -> None:
    """List dead letters by source topic and code, most open ones first."""
    check_period(since_ms, until_ms)
    runtime = _runtime()
    wanted = parse_filter(runtime, codes, topics, sources, player)
    if states:
        only = frozenset(CaseState(state.upper()) for state in states)
        wanted = msgspec.structs.replace(wanted, states=only)
    snapshot = asyncio.run(dead_letters.load_snapshot(runtime, lambda _: False))
    groups = group_cases(
        case
        for case in snapshot.cases
        if wanted.matches(case) and is_within(case.letter.source_timestamp, since_ms, until_ms)
    )
    if as_json:
        click.echo(msgspec.json.encode(groups))
        return
    _show_groups(groups)
    behind = ""
    if waiting := sum(hold.waiting for hold in snapshot.holds):
        letters = len(snapshot.holds)
        behind = f"; {waiting} records wait behind {letters} of them: see `pitboss dlt parked`"
    _note(f"{sum(group.open for group in groups)} open{behind}")
    if snapshot.foreign_records:
        count = snapshot.foreign_records
        _note(f"warning: {count} records on dead letter topics are not dead letters of ours")


@dlt.command()
@click.argument("place", metavar=PLACE)
@click.option("--reveal-secrets", is_flag=True, help="Show passwords and tokens as they are.")
@click.option(
    "--raw", is_flag=True, help="The original bytes and nothing else; needs --reveal-secrets."
)
@json_option
def show(*, place: str, reveal_secrets: bool, raw: bool, as_json: bool) -> None:
    """Show one dead letter, by the position of its source record or its own.

    Shows its bytes, headers and reason, and what was done about it.
    """
    if raw and not reveal_secrets:
        raise UsageError(
            "--raw gives every byte as it was received, secrets included: "
            "give --reveal-secrets as well"
        )
    runtime = _runtime()
    wanted = parse_source(runtime, place)
    snapshot = asyncio.run(
        dead_letters.load_snapshot(
            runtime, lambda letter: letter.source == wanted or is_on_dead_letter_topic(wanted)
        )
    )
    case = find_case(snapshot.cases, wanted)
    if raw:
        if case.letter.value is None:
            place = format_position(case.source)
            raise UsageError(f"the dead letter holds no bytes: they are at {place}")
        click.get_binary_stream("stdout").write(case.letter.value)
        return
    secrets = [] if reveal_secrets else _known_secrets()
    waiting = snapshot.waiting.get(case.source, 0)
    view = case_view(case, waiting, secrets, is_revealing=reveal_secrets)
    if as_json:
        click.echo(msgspec.json.encode(view))
        return
    screen.show_pairs(case_lines(view))


@dlt.command()
@action_options
@click.option(
    "--force", is_flag=True, help="Also what was redriven or dropped before; for named records."
)
@click.pass_context
def redrive(
    context: click.Context,
    *,
    codes: Sequence[str],
    topics: Sequence[str],
    sources: Sequence[str],
    former_sources: Sequence[str],
    player: str | None,
    is_all: bool,
    reason: str,
    actor: str,
    dry_run: bool,
    as_json: bool,
    force: bool,
) -> None:
    """Append the original bytes to the source topic once more, for the normaliser to read."""
    sources = join_sources(sources, former_sources)
    if force and not sources:
        raise UsageError(f"--force is for single records: name them as {PLACE}")
    runtime = _runtime()
    wanted = parse_required_filter(runtime, codes, topics, sources, player, is_all=is_all)

    async def carry_out(redriver: Redriver, cases: Sequence[DeadLetterCase]) -> list[RedriveResult]:
        return await redriver.redrive(cases, force=force, dry_run=dry_run)

    results = asyncio.run(_act(runtime, wanted, actor, reason, carry_out))
    _report(context, results, REDRIVEN, as_json=as_json)


@dlt.command()
@action_options
@click.pass_context
def drop(
    context: click.Context,
    *,
    codes: Sequence[str],
    topics: Sequence[str],
    sources: Sequence[str],
    former_sources: Sequence[str],
    player: str | None,
    is_all: bool,
    reason: str,
    actor: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Give up dead letters. They stay on their topics, and the records behind them are released."""
    sources = join_sources(sources, former_sources)
    runtime = _runtime()
    wanted = parse_required_filter(runtime, codes, topics, sources, player, is_all=is_all)

    async def carry_out(redriver: Redriver, cases: Sequence[DeadLetterCase]) -> list[RedriveResult]:
        return await redriver.drop(cases, dry_run=dry_run)

    results = asyncio.run(_act(runtime, wanted, actor, reason, carry_out))
    _report(context, results, "dropped", as_json=as_json)


@dlt.command("parked")
@click.option("--player", help="Only this player's.")
@json_option
def list_parked(*, player: str | None, as_json: bool) -> None:
    """List the players whose records wait behind a dead letter, longest first."""
    holds = asyncio.run(dead_letters.open_holds(_runtime()))
    holds = [hold for hold in holds if player is None or hold.key == player.encode()]
    if as_json:
        click.echo(msgspec.json.encode([hold_view(hold) for hold in holds]))
        return
    columns = ("player", "waits for", "code", "since (UTC)", "waiting", "bytes", "")
    table = screen.table(*columns, whole=("waits for",), box=None, pad_edge=False)
    for view in map(hold_view, holds):
        table.add_row(
            view["player"],
            view["waits_for"],
            view["code"],
            format_time(view["since"]),
            str(view["waiting"]),
            str(view["waiting_bytes"]),
            "full" if view["is_full"] else "",
        )
    if holds:
        screen.show(table)
    _note(f"{sum(hold.waiting for hold in holds)} records of {len(holds)} players wait")


@dlt.command()
@click.option(
    "--older-than",
    "older_than_ms",
    default="90d",
    show_default=True,
    type=DURATION,
    help="Age of the source record by this machine's clock: 90d, 12h.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be deleted, and delete nothing.")
@json_option
def trim(*, older_than_ms: int, dry_run: bool, as_json: bool) -> None:
    """Delete old dead letters, up to the first in each topic that must stay.

    An open one stays, unless its signature was never good (`BAD_SIGNATURE`, `MISSING_SIGNATURE`):
    redrive or drop it first. For a daily job; the record of redrives and drops stays.
    """
    found = asyncio.run(dead_letters.trim_letters(_runtime(), older_than_ms, dry_run=dry_run))
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    for one in found:
        click.echo(f"{one.topic}-{one.partition}  {one.letters} before {one.before_offset}")
    word = "would be deleted" if dry_run else "deleted"
    _note(f"{sum(one.letters for one in found)} dead letters {word}")


@dlt.command("history")
@filter_options
@period_options(of="time of the action")
@json_option
def history(
    *,
    codes: Sequence[str],
    topics: Sequence[str],
    sources: Sequence[str],
    player: str | None,
    since_ms: int | None,
    until_ms: int | None,
    as_json: bool,
) -> None:
    """List every redrive and drop: who, when, why, and where it went."""
    check_period(since_ms, until_ms)
    runtime = _runtime()
    wanted = parse_filter(runtime, codes, topics, sources, player)
    snapshot = asyncio.run(dead_letters.load_snapshot(runtime, lambda _: False))
    actions = [
        action
        for case in snapshot.cases
        if wanted.matches(case)
        for action in case.actions
        if is_within(action.requested_at, since_ms, until_ms)
    ]
    views = [action_view(action) for action in sorted(actions, key=lambda action: action.id)]
    if as_json:
        click.echo(msgspec.json.encode(views))
        return
    columns = ("time (UTC)", "what", "source", "by", "why", "appended as")
    table = screen.table(*columns, whole=("source",), box=None, pad_edge=False)
    for view in views:
        names = ("action", "source", "by", "why", "went_to")
        table.add_row(format_time(view["at"]), *(view[name] for name in names))
    if views:
        screen.show(table)


def _show_groups(groups: Sequence[DeadLetterGroup]) -> None:
    columns = (
        "topic",
        "code",
        "open",
        "redriven",
        "dropped",
        "first (UTC)",
        "last (UTC)",
        "sample",
    )
    table = screen.table(*columns, whole=("sample",), box=None, pad_edge=False)
    for group in groups:
        table.add_row(
            group.topic,
            Text(group.code, "red" if group.open else ""),
            str(group.open),
            str(group.redriven),
            str(group.dropped),
            format_time(group.first_at),
            format_time(group.last_at),
            group.sample,
        )
    if groups:
        screen.show(table)


async def _act(
    runtime: Runtime,
    wanted: CaseFilter,
    actor: str,
    reason: str,
    carry_out: Callable[[Redriver, Sequence[DeadLetterCase]], Awaitable[list[RedriveResult]]],
) -> list[RedriveResult]:
    check_audit_text("--by", actor, ACTOR_MAX)
    check_audit_text("--reason", reason, REASON_MAX)

    def may_match(letter: DeadLetter) -> bool:
        return _may_match(wanted, letter)

    async with dead_letters.open_redriver(runtime, actor, reason, may_match) as (
        snapshot,
        redriver,
    ):
        check_sources(snapshot, wanted)
        return await carry_out(redriver, [case for case in snapshot.cases if wanted.matches(case)])


def _may_match(wanted: CaseFilter, letter: DeadLetter) -> bool:
    """Return whether a letter's bytes may be needed.

    Its code and player do not decide it: another item of its record may have those of the filter.
    """
    return (not wanted.sources or letter.source in wanted.sources) and (
        not wanted.topics or letter.source.topic in wanted.topics
    )


def _report(
    context: click.Context, results: Sequence[RedriveResult], verb: str, *, as_json: bool
) -> None:
    counts = {
        status: sum(result.status is status for result in results) for status in RedriveStatus
    }
    if as_json:
        click.echo(msgspec.json.encode(results))
    else:
        for result in results:
            click.echo(_result_line(result))
        _note(
            f"{counts[RedriveStatus.DONE]} {verb}, {counts[RedriveStatus.PLANNED]} would be, "
            f"{counts[RedriveStatus.SKIPPED]} skipped, {counts[RedriveStatus.REFUSED]} refused"
        )
    if verb == REDRIVEN and counts[RedriveStatus.DONE]:
        _note(
            "done means appended again, not booked: a record that still cannot be used is a dead "
            "letter again, of its new place; look for it with `pitboss dlt list --state open`"
        )
    context.exit(1 if counts[RedriveStatus.REFUSED] else 0)


def _result_line(result: RedriveResult) -> str:
    to = "" if result.appended_at is None else f" → {format_position(result.appended_at)}"
    behind = f", {result.waiting} records are released behind it" if result.waiting else ""
    why = f": {result.detail}" if result.detail else ""
    return f"{result.status.value.lower():<8} {format_position(result.source)}{to}{behind}{why}"


def _known_secrets() -> list[str]:
    return list(secrets_of(read_keyring(read_worker_settings())))


def _runtime() -> Runtime:
    return resolve_runtime(read_settings())


def _note(text: str) -> None:
    """Print to standard error, separate from the output."""
    click.echo(text, err=True)
