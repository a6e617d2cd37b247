"""`pitboss ledger open | answer | suspense`: what waits for a person, and the acts that end it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import click
import msgspec

from ledger_sink.queries.open_items import (
    KINDS,
    OpenEntry,
    OpenGroup,
    OpenWork,
    read_limits,
    read_open_entry,
    read_open_work,
)
from pitboss.cli import screen
from pitboss.cli.ledger_limits import needs_second_person, print_how_to_approve
from pitboss.cli.ledger_queries import format_money, print_json, read_ledger, show_rows
from pitboss.cli.operator_commands import (
    by_option,
    dry_run_option,
    find_brand,
    json_option,
    query_ledger,
    reason_option,
    submit_and_print,
    wait_option,
)
from pitboss.cli.option_types import FiniteFloat
from pitboss.cli.suggestions import NameChoice, SuggestingGroup
from pitboss.embedded.state import resolve_runtime
from pitboss.settings import read_settings
from runtime.postgres.roles import Role
from schemas.errors import UsageError

_OWNERS: Final[dict[str, tuple[str, str]]] = {
    "suspense": ("payments", "pitboss ledger suspense assign ID PLAYER, or return ID"),
    "quarantine": ("operations", "correct what it meant, then pitboss ledger answer ID"),
    "unresolved": ("back office", "correct the wallet if need be, then pitboss ledger answer ID"),
    "proposal": ("a second person", "pitboss ledger proposals, pitboss ledger approve"),
    "parked": ("operations", "wait; if it is old: pitboss topics lag"),
    "held": ("operations", "pitboss dlt show the dead letter, then redrive or drop it"),
    "barrier": ("operations", "pitboss topics lag: what the barrier waits for is not read"),
}
"""By kind: who deals with it, and how."""


@click.command("open")
@click.option("--kind", type=NameChoice(list(KINDS)), help="Only what is open of this kind.")
@click.option(
    "--limit",
    default=20,
    show_default=True,
    type=click.IntRange(0, 100_000),
    help="The most single decisions to list, oldest first.",
)
@click.option(
    "--barrier-age",
    "barrier_age_s",
    default=600.0,
    show_default=True,
    type=FiniteFloat(0),
    help="Seconds from which on a barrier that is not passed is listed.",
)
@json_option
def open_command(*, kind: str | None, limit: int, barrier_age_s: float, as_json: bool) -> None:
    """List what waits for a person: unresolved, suspense, quarantine, parked, barriers.

    Each kind has its age, its sum by currency, who deals with it, and how.
    """
    read = partial(read_open_work, entries_max=limit, barrier_age_s=barrier_age_s)
    found = read_ledger(resolve_runtime(read_settings()), read, Role.AUDITOR)
    groups = [group for group in found.groups if kind in (None, group.kind)]
    entries = [entry for entry in found.entries if kind in (None, entry.kind)]
    now_ms = time.time_ns() // 1_000_000
    if as_json:
        print_json(_as_json(OpenWork(groups, entries), now_ms))
        return
    _show_groups(groups, now_ms)
    if entries:
        _show_entries(entries, now_ms)


def _show_groups(groups: Sequence[OpenGroup], now_ms: int) -> None:
    table = screen.table("kind", "reason", "count", "oldest", "sum", "who", "what to do")
    for group in groups:
        who, what = _OWNERS[group.kind]
        count, age = f"{group.count:,}", format_age(now_ms - group.since_ms)
        table.add_row(group.kind, group.reason, count, age, _sum_text(group), who, what)
    show_rows(table, "nothing is open", groups, as_numbers=(2, 3, 4))


def _sum_text(group: OpenGroup) -> str:
    known = group.count - group.unknown_amounts
    if group.currency is None or not known:
        return ""
    rest = f" and {group.unknown_amounts:,} unknown" if group.unknown_amounts else ""
    return f"{format_money(group.total_minor, group.currency)}{rest}"


def _show_entries(entries: Sequence[OpenEntry], now_ms: int) -> None:
    columns = ("id", "reason", "age", "amount", "provider", "operation", "transaction", "player")
    table = screen.table(*columns, whole=("id",))
    for one in entries:
        is_known = one.currency is not None and one.amount_minor is not None
        table.add_row(
            one.event_id,
            one.reason,
            format_age(now_ms - one.since_ms),
            format_money(one.amount_minor or 0, one.currency or "") if is_known else "",
            one.provider,
            one.operation,
            one.provider_tx_id,
            one.player_id or "",
        )
    show_rows(table, "", entries, as_numbers=(2, 3))


def _as_json(found: OpenWork, now_ms: int) -> dict[str, Any]:
    def with_age(one: OpenGroup | OpenEntry) -> dict[str, Any]:
        who, what = _OWNERS[one.kind]
        age = {"age_s": max(0, now_ms - one.since_ms) // 1000, "owner": who, "what_to_do": what}
        return msgspec.structs.asdict(one) | age

    return {
        "groups": [with_age(group) for group in found.groups],
        "entries": [with_age(entry) for entry in found.entries],
    }


def format_age(age_ms: int) -> str:
    """Format a time span as its two largest units: `3d 4h`, `12m 5s`."""
    seconds = max(0, age_ms) // 1000
    units = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
    first = next((n for n, (size, _) in enumerate(units) if seconds >= size), len(units) - 1)
    parts = []
    for size, name in units[first : first + 2]:
        parts.append(f"{seconds // size}{name}")
        seconds %= size
    return " ".join(parts)


def _act_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (json_option, dry_run_option, wait_option, reason_option, by_option):
        command = option(command)
    return command


@click.command()
@click.argument("entry_id", metavar="ID")
@_act_options
def answer(*, entry_id: str, actor: str, reason: str, **how: Any) -> None:
    """Close what waits for a person and holds no money: they have dealt with it.

    ID is the event's id, as `pitboss ledger open` lists it. Money in suspense is assigned or
    returned instead.
    """
    item = _read_item(entry_id)
    if item.kind == "suspense":
        raise UsageError(
            f"{_amount(item)} of {entry_id} is in suspense: `pitboss ledger suspense assign` or"
            " `return` moves it"
        )
    _submit({"operation": "item.answered", "entry_id": item.event_id}, item, actor, reason, how)


@click.group(cls=SuggestingGroup)
def suspense() -> None:
    """Move money out of suspense: to its player, or back to the payment provider.

    Above the limit of one person (`pitboss ledger limit show`) a second one has to approve it.
    """


@suspense.command()
@click.argument("entry_id", metavar="ID")
@click.argument("player_id", metavar="PLAYER")
@click.option("--brand", help="The brand of the player, where it is not that of the event.")
@_act_options
def assign(
    *, entry_id: str, player_id: str, brand: str | None, actor: str, reason: str, **how: Any
) -> None:
    """Give the money of the event ID to PLAYER; what suspense is owed is taken from them."""
    item = _read_suspense(entry_id)
    brand, of_player = brand or item.brand, find_brand(player_id)
    if of_player not in (None, brand):
        raise UsageError(
            f"player {player_id} is of brand {of_player}, not {brand}: if the money of"
            f" {item.event_id}, which came for brand {item.brand}, is theirs, give"
            f" --brand {of_player}"
        )
    _move_out(
        msgspec.structs.replace(item, brand=brand), "assignment", player_id, actor, reason, how
    )


@suspense.command("return")
@click.argument("entry_id", metavar="ID")
@_act_options
def return_command(*, entry_id: str, actor: str, reason: str, **how: Any) -> None:
    """Move the money of the event ID back to its payment provider's account.

    Nothing is sent: the payment provider has to be asked to send it back.
    """
    _move_out(_read_suspense(entry_id), "return", None, actor, reason, how)


def _move_out(
    item: OpenEntry,
    act: str,
    player_id: str | None,
    actor: str,
    reason: str,
    how: dict[str, Any],
) -> None:
    needs_two = needs_second_person(
        query_ledger(read_limits), item.currency or "", item.amount_minor or 0
    )
    alone = "suspense.assigned" if act == "assignment" else "suspense.returned"
    event: dict[str, Any] = {
        "operation": f"suspense.{act}.proposed" if needs_two else alone,
        "entry_id": item.event_id,
    }
    if player_id is not None:
        event["player_id"] = player_id
    if not how["as_json"]:
        whom = f"player {player_id}" if player_id else f"psp:{item.provider}"
        click.echo(f"{_amount(item)} from suspense:{item.provider} to {whom}", err=True)
    proposal_id = _submit(event, item, actor, reason, how)
    if needs_two:
        print_how_to_approve(proposal_id, item.brand, how)


def _submit(
    event: dict[str, Any], item: OpenEntry, actor: str, reason: str, how: dict[str, Any]
) -> str:
    """Append an act on an item and print its outcome; return the act's id."""
    act_id = str(uuid.uuid4())
    whole = {"id": act_id, "actor": actor, "reason": reason} | event
    submit_and_print(whole, brand=item.brand, **how)
    return act_id


def _read_item(entry_id: str) -> OpenEntry:
    try:
        event_id = str(uuid.UUID(entry_id))
    except ValueError as error:
        message = f"{entry_id!r} is not the id of an event: `pitboss ledger open` lists them"
        raise UsageError(message) from error
    item = query_ledger(partial(read_open_entry, event_id=event_id))
    if item is None:
        raise UsageError(
            f"event {event_id} is not open: `pitboss ledger entry {event_id}` shows what"
            " became of it, `pitboss ledger open` what is open"
        )
    return item


def _read_suspense(entry_id: str) -> OpenEntry:
    item = _read_item(entry_id)
    if item.kind != "suspense":
        raise UsageError(
            f"no money of {item.event_id} is in suspense ({item.reason}): `pitboss ledger answer`"
            " closes it once it is dealt with"
        )
    return item


def _amount(item: OpenEntry) -> str:
    return format_money(item.amount_minor or 0, item.currency or "")


"""Commands that `pitboss ledger` adds."""
