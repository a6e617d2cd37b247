"""`pitboss dlt`: what could not be used, and what to do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import click
import msgspec
from rich.text import Text

from pitboss.cli import screen
from pitboss.cli.dlt_filter import (
    STATES,
    action_options,
    check_audit_text,
    check_sources,
    filter_options,
    find_case,
    is_on_dead_letter_topic,
    json_option,
    parse_filter,
    parse_required_filter,
    parse_source,
)
from pitboss.cli.dlt_views import action_view, case_lines, case_view, format_time, hold_view
from pitboss.embedded.state import resolve_runtime
from pitboss.ops import dead_letters
from pitboss.settings import Runtime, read_keyring, read_settings, read_worker_settings
from runtime.dead_letters.headers import ACTOR_MAX, REASON_MAX, format_position
from runtime.dead_letters.letters import CaseFilter, CaseState, DeadLetterCase, group_cases
from runtime.dead_letters.redrive import Redriver, RedriveResult, RedriveStatus
from schemas.errors import UsageError
from schemas.events import DeadLetter
from streams.providers.redaction import secrets_of


@click.group()
def dlt() -> None:
    """Dead letters: records that could not be used, byte for byte, and what was done about them."""


@dlt.command("list")
@filter_options
@click.option("--state", "states", multiple=True, type=STATES, help="Only in this state.")
@json_option
def list_command(
    *,
    codes: Sequence[str],
    topics: Sequence[str],
    sources: Sequence[str],
    player: str | None,
    states: Sequence[str],
    as_json: bool,
) -> None:
    """Dead letters by source topic and code, most open ones first."""
    runtime = _runtime()
    choice = parse_filter(runtime, codes, topics, sources, player)
    if states:
        choice = msgspec.structs.replace(
            choice, states=frozenset(CaseState(state.upper()) for state in states)
        )
    found = asyncio.run(dead_letters.load_snapshot(runtime, lambda _: False))
    groups = group_cases(case for case in found.cases if choice.matches(case))
    if as_json:
        click.echo(msgspec.json.encode(groups))
        return
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
    waiting = sum(jam.waiting for jam in found.holds)
    behind = (
        f"; {waiting} records wait behind {len(found.holds)} of them: see `pitboss dlt parked`"
        if waiting
        else ""
    )
    _say(f"{sum(group.open for group in groups)} open{behind}")
    if found.foreign_records:
        _say(
            f"warning: {found.foreign_records} records on dead letter topics are no dead letters of ours"
        )


@dlt.command()
@click.argument("place", metavar="TOPIC-PART@OFFSET")
@click.option("--reveal-secrets", is_flag=True, help="Do not blot out passwords and tokens.")
@click.option(
    "--raw", is_flag=True, help="The original bytes and nothing else; needs --reveal-secrets."
)
@json_option
def show(*, place: str, reveal_secrets: bool, raw: bool, as_json: bool) -> None:
    """One dead letter, by its source record's place or its own: bytes, headers, reason, and what
    was done.
    """
    if raw and not reveal_secrets:
        raise UsageError(
            "--raw gives every byte as it was received, secrets included: say --reveal-secrets as well"
        )
    runtime = _runtime()
    wanted = parse_source(runtime, place)
    found = asyncio.run(
        dead_letters.load_snapshot(
            runtime, lambda letter: letter.source == wanted or is_on_dead_letter_topic(wanted)
        )
    )
    case = find_case(found.cases, wanted)
    if raw:
        if case.letter.value is None:
            raise UsageError(
                f"the dead letter holds no bytes: they are at {format_position(case.source)}"
            )
        click.get_binary_stream("stdout").write(case.letter.value)
        return
    secrets = [] if reveal_secrets else _known_secrets()
    view = case_view(case, found.waiting.get(case.source, 0), secrets, is_revealing=reveal_secrets)
    if as_json:
        click.echo(msgspec.json.encode(view))
        return
    screen.show_pairs(case_lines(view))


@dlt.command()
@action_options
@click.option(
    "--force", is_flag=True, help="Also what was redriven or dropped before; only with --source."
)
@click.pass_context
def redrive(
    context: click.Context,
    *,
    codes: Sequence[str],
    topics: Sequence[str],
    sources: Sequence[str],
    player: str | None,
    is_all: bool,
    reason: str,
    actor: str,
    dry_run: bool,
    as_json: bool,
    force: bool,
) -> None:
    """Append the original bytes to the source topic again, for the normaliser to read anew."""
    if force and not sources:
        raise UsageError("--force is for single records: name them with --source")
    runtime = _runtime()
    choice = parse_required_filter(runtime, codes, topics, sources, player, is_all=is_all)

    async def carry_out(redriver: Redriver, cases: Sequence[DeadLetterCase]) -> list[RedriveResult]:
        return await redriver.redrive(cases, force=force, dry_run=dry_run)

    _tell(
        context,
        asyncio.run(_do(runtime, choice, actor, reason, carry_out)),
        "redriven",
        as_json=as_json,
    )


@dlt.command()
@action_options
@click.pass_context
def drop(
    context: click.Context,
    *,
    codes: Sequence[str],
    topics: Sequence[str],
    sources: Sequence[str],
    player: str | None,
    is_all: bool,
    reason: str,
    actor: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Give dead letters up. They stay where they are, and what waits behind them goes on."""
    runtime = _runtime()
    choice = parse_required_filter(runtime, codes, topics, sources, player, is_all=is_all)

    async def carry_out(redriver: Redriver, cases: Sequence[DeadLetterCase]) -> list[RedriveResult]:
        return await redriver.drop(cases, dry_run=dry_run)

    _tell(
        context,
        asyncio.run(_do(runtime, choice, actor, reason, carry_out)),
        "dropped",
        as_json=as_json,
    )


@dlt.command()
@click.option("--player", help="Only this player's.")
@json_option
def parked(*, player: str | None, as_json: bool) -> None:
    """Whose records wait behind which dead letter, longest first."""
    jams = asyncio.run(dead_letters.open_holds(_runtime()))
    jams = [jam for jam in jams if player is None or jam.key == player.encode()]
    if as_json:
        click.echo(msgspec.json.encode([hold_view(jam) for jam in jams]))
        return
    columns = ("player", "waits for", "code", "since (UTC)", "waiting", "bytes", "")
    table = screen.table(*columns, whole=("waits for",), box=None, pad_edge=False)
    for view in map(hold_view, jams):
        table.add_row(
            view["player"],
            view["waits_for"],
            view["code"],
            format_time(view["since"]),
            str(view["waiting"]),
            str(view["waiting_bytes"]),
            "full" if view["is_full"] else "",
        )
    if jams:
        screen.show(table)
    _say(f"{sum(jam.waiting for jam in jams)} records of {len(jams)} players wait")


@dlt.command("history")
@filter_options
@json_option
def history(
    *,
    codes: Sequence[str],
    topics: Sequence[str],
    sources: Sequence[str],
    player: str | None,
    as_json: bool,
) -> None:
    """Every redrive and drop: who, when, why, and where it went."""
    runtime = _runtime()
    choice = parse_filter(runtime, codes, topics, sources, player)
    found = asyncio.run(dead_letters.load_snapshot(runtime, lambda _: False))
    actions = [action for case in found.cases if choice.matches(case) for action in case.actions]
    views = [action_view(action) for action in sorted(actions, key=lambda action: action.id)]
    if as_json:
        click.echo(msgspec.json.encode(views))
        return
    columns = ("time (UTC)", "what", "source", "by", "why", "appended as")
    table = screen.table(*columns, whole=("source",), box=None, pad_edge=False)
    for view in views:
        table.add_row(
            format_time(view["at"]),
            view["action"],
            view["source"],
            view["by"],
            view["why"],
            view["went_to"],
        )
    if views:
        screen.show(table)


async def _do(
    runtime: Runtime,
    choice: CaseFilter,
    actor: str,
    reason: str,
    carry_out: Callable[[Redriver, Sequence[DeadLetterCase]], Awaitable[list[RedriveResult]]],
) -> list[RedriveResult]:
    check_audit_text("--by", actor, ACTOR_MAX)
    check_audit_text("--why", reason, REASON_MAX)
    async with dead_letters.open_redriver(
        runtime, actor, reason, lambda letter: _may_take(choice, letter)
    ) as (found, redriver):
        check_sources(found, choice)
        return await carry_out(redriver, [case for case in found.cases if choice.matches(case)])


def _may_take(choice: CaseFilter, letter: DeadLetter) -> bool:
    """Whether a letter's bytes may be needed; its code and player may be those of another item of
    its record.
    """
    return (not choice.sources or letter.source in choice.sources) and (
        not choice.topics or letter.source.topic in choice.topics
    )


def _tell(
    context: click.Context, results: Sequence[RedriveResult], word: str, *, as_json: bool
) -> None:
    refused = [result for result in results if result.status is RedriveStatus.REFUSED]
    if as_json:
        click.echo(msgspec.json.encode(results))
    else:
        for result in results:
            to = "" if result.appended_at is None else f" → {format_position(result.appended_at)}"
            behind = f", {result.waiting} records go on behind it" if result.waiting else ""
            why = f": {result.detail}" if result.detail else ""
            click.echo(
                f"{result.status.value.lower():<8} {format_position(result.source)}{to}{behind}{why}"
            )
        counts = {
            status: sum(result.status is status for result in results) for status in RedriveStatus
        }
        _say(
            f"{counts[RedriveStatus.DONE]} {word}, {counts[RedriveStatus.PLANNED]} would be, {counts[RedriveStatus.SKIPPED]} skipped, "
            f"{counts[RedriveStatus.REFUSED]} refused"
        )
    context.exit(1 if refused else 0)


def _known_secrets() -> list[str]:
    return list(secrets_of(read_keyring(read_worker_settings())))


def _runtime() -> Runtime:
    return resolve_runtime(read_settings())


def _say(text: str) -> None:
    click.echo(text, err=True)
