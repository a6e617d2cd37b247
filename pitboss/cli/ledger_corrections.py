"""`pitboss ledger adjust | approve | proposals | debts`: manual corrections of wallets."""

from __future__ import annotations

import uuid
from typing import Any, Final

import click
import msgspec

from ledger_sink.queries.open_items import read_limits
from ledger_sink.queries.people import read_debts as debts_of
from ledger_sink.queries.people import read_open_proposals
from ledger_sink.rules.journal import Proposal
from ledger_sink.rules.two_people import ACTS
from pitboss.cli import screen
from pitboss.cli.ledger_limits import needs_second_person, print_how_to_approve
from pitboss.cli.ledger_queries import show_rows
from pitboss.cli.operator_commands import (
    brand_option,
    by_option,
    dry_run_option,
    format_time,
    json_option,
    operator_options,
    parse_minor_units,
    query_ledger,
    submit_and_print,
    wait_option,
)
from pitboss.cli.suggestions import CURRENCY
from schemas.errors import UsageError
from schemas.money import exponent_of, format_minor

_APPROVALS: Final = {
    act: operation.removesuffix("proposed") + "approved" for operation, act in ACTS.items()
}
"""The operation that approves an act."""


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("player_id", metavar="PLAYER")
@click.argument("amount")
@click.argument("currency", type=CURRENCY)
@operator_options
def adjust(
    *, player_id: str, amount: str, currency: str, actor: str, reason: str, **how: Any
) -> None:
    """Add AMOUNT to a player's cash, or subtract it if it is negative.

    Above the limit of a single person (`pitboss ledger limit show`) it is only proposed, and a
    second person approves it.
    """
    minor = parse_minor_units(amount, currency)
    if minor == 0:
        raise UsageError("an adjustment of 0 changes nothing: give another amount")
    needs_two = needs_second_person(query_ledger(read_limits), currency, minor)
    event = {
        "operation": "adjustment.proposed" if needs_two else "adjustment",
        "id": str(uuid.uuid4()),
        "player_id": player_id,
        "amount": amount,
        "currency": currency,
        "actor": actor,
        "reason": reason,
    }
    submit_and_print(event, **how)
    if needs_two:
        print_how_to_approve(event["id"], how["brand"], how)


@click.command()
@click.argument("proposal_id")
@by_option
@brand_option
@wait_option
@dry_run_option
@json_option
def approve(*, proposal_id: str, actor: str, brand: str | None, **how: Any) -> None:
    """Approve another person's proposal; `pitboss ledger proposals` lists them."""
    proposal = _find_proposal(proposal_id, brand)
    # The ledger decides who may approve. A repeated approval has the same id: it is booked once.
    event = {
        "operation": _APPROVALS[proposal.act],
        "id": str(uuid.uuid5(uuid.UUID(proposal.event_id), actor)),
        "proposal_id": proposal_id,
        "actor": actor,
    }
    if proposal.player_id:
        event["player_id"] = proposal.player_id
    submit_and_print(event, brand=proposal.brand, **how)


def _find_proposal(proposal_id: str, brand: str | None) -> Proposal:
    """Return the open proposal of an id, of any brand if none is given.

    Raises UsageError where there is none, or one of each of several brands.
    """
    found = [
        one
        for one in query_ledger(read_open_proposals)
        if one.id == proposal_id and brand in (None, one.brand)
    ]
    if not found:
        whose = "" if brand is None else f" of brand {brand}"
        raise UsageError(f"no open proposal {proposal_id}{whose}: see `pitboss ledger proposals`")
    if len(found) > 1:
        brands = ", ".join(one.brand for one in found)
        raise UsageError(f"proposal {proposal_id} is open in the brands {brands}: give --brand")
    return found[0]


@click.command()
@json_option
def proposals(*, as_json: bool) -> None:
    """List what waits for a second person, oldest first: corrections, suspense, limits."""
    found = query_ledger(read_open_proposals)
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    columns = ("id", "act", "brand", "player", "amount", "currency", "by", "reason", "since (UTC)")
    table = screen.table(*columns, whole=("id",))
    for one in found:
        amount = format_minor(one.amount_minor, exponent_of(one.currency))
        table.add_row(
            one.id,
            one.act,
            one.brand,
            one.player_id,
            amount,
            one.currency,
            one.actor,
            one.reason,
            format_time(one.occurred_at_ms),
        )
    show_rows(table, "nothing waits for a second person", found)


@click.command()
@json_option
def debts(*, as_json: bool) -> None:
    """List wallets with a negative account: chargebacks, corrections, rollbacks of spent wins."""
    found = query_ledger(debts_of)
    columns = (
        "player_id",
        "currency",
        "scale",
        "cash_minor",
        "bonus_minor",
        "held_minor",
        "version",
    )
    if as_json:
        click.echo(
            msgspec.json.encode([{name: getattr(one, name) for name in columns} for one in found])
        )
        return
    table = screen.table("player", "currency", "cash", "bonus", "held")
    for one in found:
        texts = [
            format_minor(minor, one.scale)
            for minor in (one.cash_minor, one.bonus_minor, one.held_minor)
        ]
        table.add_row(one.player_id, one.currency, *texts)
    show_rows(table, "no wallet is in debt", found)


"""Commands that `pitboss ledger` adds."""
