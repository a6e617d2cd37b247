"""`pitboss ledger limit`: what one person may move alone. The ledger's own limits, set by two."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import click

from ledger_sink.queries.open_items import read_limits
from ledger_sink.rules.journal import OperatorLimit
from pitboss.cli import screen
from pitboss.cli.ledger_queries import print_json, show_rows
from pitboss.cli.operator_commands import (
    json_option,
    operator_options,
    parse_minor_units,
    query_ledger,
    submit_and_print,
)
from pitboss.cli.suggestions import CURRENCY, SuggestingGroup
from pitboss.settings import read_operator_settings
from schemas.errors import UsageError
from schemas.money import exponent_of, format_minor


def needs_second_person(
    limits: Mapping[str, OperatorLimit], currency: str, amount_minor: int
) -> bool:
    """Return whether the ledger would refuse an amount to one person alone.

    Raises UsageError where the environment states a limit: it decides nothing.
    """
    if read_operator_settings().adjust_alone:
        raise UsageError(
            "PITBOSS_ADJUST_ALONE (adjust_alone in the file) decides nothing: what one person may"
            " move alone is the ledger's own limit. Remove the setting; `pitboss ledger limit show`"
            " shows the limits, `pitboss ledger limit set` proposes one, and a second person"
            " approves it"
        )
    limit = limits.get(currency)
    return abs(amount_minor) > (0 if limit is None else limit.amount_minor)


def print_how_to_approve(proposal_id: str, brand: str | None, how: Mapping[str, Any]) -> None:
    """Say on the screen by which command a second person approves a proposal.

    Without a brand it is found in any.
    """
    if how["as_json"] or how["dry_run"]:
        return
    of_brand = "" if brand is None else f" --brand {brand}"
    click.echo(
        f"a second person has to approve it: pitboss ledger approve {proposal_id}{of_brand}"
        " --by <who>"
    )


@click.group(cls=SuggestingGroup)
def limit() -> None:
    """Show and set what one person may move alone, by currency.

    The ledger refuses an adjustment, or money out of suspense, that is above it, whatever the
    environment says. A currency without a limit has the limit zero.
    """


@limit.command("show")
@json_option
def show_command(*, as_json: bool) -> None:
    """Show the limits, and the event that set each of them."""
    found = list(query_ledger(read_limits).values())
    if as_json:
        print_json(found)
        return
    table = screen.table("currency", "limit of one person", "set by event", whole=("set by event",))
    for one in found:
        amount = format_minor(one.amount_minor, exponent_of(one.currency))
        table.add_row(one.currency, amount, one.event_id)
    show_rows(table, "no limit is set: every adjustment needs two people", found, as_numbers=(1,))


@limit.command("set")
@click.argument("currency", type=CURRENCY)
@click.argument("amount")
@operator_options
def set_command(*, currency: str, amount: str, actor: str, reason: str, **how: Any) -> None:
    """Propose that one person may move up to AMOUNT of CURRENCY alone; a second one approves it."""
    if parse_minor_units(amount, currency) < 0:
        raise UsageError(f"a limit of {amount} would allow nothing: give 0 or more")
    event = {
        "operation": "limit.proposed",
        "id": str(uuid.uuid4()),
        "amount": amount,
        "currency": currency,
        "actor": actor,
        "reason": reason,
    }
    submit_and_print(event, **how)
    print_how_to_approve(event["id"], how["brand"], how)
