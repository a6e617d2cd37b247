"""`pitboss trace`: the way of one event, drawn in the terminal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import click

from ledger_sink.queries.history import event_history
from pitboss.cli.ledger_queries import json_option, read_ledger
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.event_trace import AttemptTrace, EventTrace, read_trace
from pitboss.ops.periods import format_time
from pitboss.settings import read_settings
from schemas.errors import UsageError

WIDTH = 40
"""Columns of a bar that is as long as the whole way."""


@click.command()
@click.argument("event_id", metavar="EVENT_ID", type=click.UUID)
@json_option
def trace(event_id: object, *, as_json: bool) -> None:
    """Draw the way of an event: receipt, raw record, log, outcome, balance, alerts.

    From topics and tables alone, so also where no collector runs. An event that named no player has
    the topic of unresolved events on its way, too. EVENT_ID is the id by which the
    ledger knows the event, as in an outcome. A bar shows when a record came, between the first and
    the last of its attempt; behind + stand the milliseconds since the record before. Exit code 2 if
    the ledger does not know the event.
    """
    runtime = resolve_runtime(read_settings())
    history = read_ledger(runtime, lambda database: event_history(database, str(event_id)))
    if not history.decisions:
        raise UsageError(
            f"the ledger does not know the event {event_id}: it may wait, see `pitboss topics lag`,"
            " or be a dead letter, see `pitboss dlt list`"
        )
    found = asyncio.run(read_trace(runtime, history))
    if as_json:
        click.echo(json.dumps(found.as_json()))
        return
    for line in draw(found):
        click.echo(line)


def draw(found: EventTrace) -> Iterator[str]:
    """Yield the lines of a trace."""
    yield f"event {found.event_id}: {found.operation} of {found.provider}"
    yield f"trace {found.trace_id}"
    for number, attempt in enumerate(found.attempts, 1):
        again = " (again)" if attempt.is_repeat else ""
        yield f"attempt {number}{again}: {attempt.outcome} {attempt.reason}"
        yield from _draw_hops(attempt)
    for note in found.notes:
        yield f"note: {note}"


def _draw_hops(attempt: AttemptTrace) -> Iterator[str]:
    hops = sorted(attempt.hops, key=lambda hop: hop.at_ms)
    if not hops:
        return
    first, span = hops[0].at_ms, max(1, hops[-1].at_ms - hops[0].at_ms)
    yield f"  begins {format_time(first)}"
    for before, hop in zip([None, *hops], hops, strict=False):
        after = hop.at_ms - first
        step = "" if before is None else f"+{hop.at_ms - before.at_ms:,}"
        bar = ("─" * (after * (WIDTH - 1) // span) + "●").ljust(WIDTH)
        detail = f"  {hop.detail}" if hop.detail else ""
        yield f"  {hop.step:<10} {after:>8,} ms {step:>8} {bar} {hop.place}{detail}".rstrip()
