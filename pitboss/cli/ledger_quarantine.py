"""`pitboss ledger quarantine`: the step of two people past a record that cannot be booked."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from ledger_sink.rules.quarantine import APPROVED, PROPOSED
from ledger_sink.rules.two_people import comparable_actor
from pitboss.cli.dlt_filter import PLACE, check_audit_text, parse_source
from pitboss.cli.operator_commands import (
    by_option,
    dry_run_option,
    json_option,
    submit_and_print,
    wait_option,
)
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.quarantines import QuarantineCase, QuarantineProposal, read_case, step_id
from pitboss.settings import read_settings
from runtime.dead_letters.headers import ACTOR_MAX, REASON_MAX, format_position
from schemas.errors import UsageError
from schemas.topics import TRANSACTIONS


@click.command()
@click.argument("place", metavar=PLACE)
@by_option
@click.option("--why", help="The reason; kept in the log. Of a proposal.")
@click.option("--approve", is_flag=True, help="Approve the proposal of another person.")
@click.option(
    "--brand",
    default="default",
    show_default=True,
    help="A brand of the house, if brands are configured; an approval has that of its proposal.",
)
@wait_option
@dry_run_option
@json_option
def quarantine(
    *, place: str, actor: str, why: str | None, approve: bool, brand: str, **how: Any
) -> None:
    """Let the ledger go on behind a record of the log that it cannot book.

    One person proposes it with --why, another approves it with --approve. The record is then
    answered UNRESOLVED QUARANTINED, moves no money, and is for a person. Of a record that the
    ledger can book, nothing changes, and the answer is RECORD_NOT_WAITING.
    """
    check_audit_text("--by", actor, ACTOR_MAX)
    runtime = resolve_runtime(read_settings())
    source = parse_source(runtime, place)
    if source.topic != runtime.topic(TRANSACTIONS):
        raise UsageError(
            f"only records of {runtime.topic(TRANSACTIONS)} are quarantined: past one of a raw "
            "topic that cannot be read there is `pitboss topics skip`"
        )
    case = asyncio.run(read_case(runtime, source))
    reason = why
    if approve:
        proposal = _find_proposal(case, actor)
        brand, reason = proposal.brand, proposal.reason
    if reason is None:
        raise UsageError("a proposal needs its reason: give --why")
    check_audit_text("--why", reason, REASON_MAX)
    operation = APPROVED if approve else PROPOSED
    event = {
        "operation": operation,
        "id": step_id(case.record, operation, actor, source, case.partitions),
        "record": case.record,
        "actor": actor,
        "reason": reason,
    }
    # The ledger answers a proposal only when it has come to it, behind the record.
    is_waiting = not approve and not case.is_passed
    submit_and_print(
        event, brand=brand, log_partition=source.partition if is_waiting else None, **how
    )
    if is_waiting and not how["as_json"] and not how["dry_run"]:
        click.echo(
            "a second person has to approve it: "
            f"pitboss ledger quarantine {format_position(source)} --approve --by <who>"
        )


def _find_proposal(case: QuarantineCase, actor: str) -> QuarantineProposal:
    """Return another person's proposal. Raises UsageError if there is none."""
    if not case.proposals:
        raise UsageError(f"{case.record} is not proposed: give --why to propose it")
    for proposal in case.proposals:
        if comparable_actor(proposal.actor) != comparable_actor(actor):
            return proposal
    raise UsageError(f"{actor} has proposed it: a second person has to approve it")
