"""`pitboss alerts explain`: the rule of an alert run again over the records that it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import click
from rich.text import Text

from fraud_agents.alerts import read_records
from fraud_agents.detectors import DEFAULT_RULES, PAST_RULES
from fraud_agents.detectors.catalogue import SIGNAL_DETECTORS
from fraud_agents.detectors.global_signals import SIGNAL_KEY
from fraud_agents.detectors.shard import MERGED
from fraud_agents.detectors.signal_base import Scope
from fraud_agents.explanation import (
    Explanation,
    WindowSecond,
    explain,
    explain_global,
    explain_merged,
    first_offset_of,
)
from fraud_agents.owned import RECORD_TYPES
from fraud_agents.rules import Rule
from ledger_sink.queries.people import count_outcomes
from pitboss.cli import screen
from pitboss.cli.ledger_queries import read_ledger
from pitboss.ops.periods import format_instant
from pitboss.ops.rule_changes import read_book
from pitboss.settings import Runtime
from runtime.kafka.partitioner import partition_for
from runtime.kafka.topic_reader import partition_bounds
from schemas import codec
from schemas.errors import PitbossError, Rejected
from schemas.events import FraudAlert
from schemas.topics import GAME_RESULTS, SIGNALS, TRANSACTIONS

BAR_WIDTH: Final = 30


async def explain_alert(runtime: Runtime, alert: FraudAlert) -> tuple[int, Explanation]:
    """Explain an alert; return the first offset that was read, and the explanation.

    Raises UsageError where its rule or its records are not there, Unavailable.
    """
    rules = await _known_rules(runtime, alert)
    rule = next((one for one in rules if one.digest == alert.evidence.get("rule_digest")), None)
    detector = None if rule is None else SIGNAL_DETECTORS.get(rule.detector_id)
    if detector is not None:
        how = _explain_global if detector.scope is Scope.ALL else _explain_merged
        return 0, await how(runtime, alert, rules)
    near = first_offset_of(alert)
    explanation = await _explain_from(runtime, alert, near, rules)
    if explanation.agrees or near == 0:
        return near, explanation
    click.echo("the re-run differs: reading the whole log before it to make sure", err=True)
    return 0, await _explain_from(runtime, alert, 0, rules)


async def _known_rules(runtime: Runtime, alert: FraudAlert) -> Sequence[Rule]:
    known = (*DEFAULT_RULES, *PAST_RULES)
    if any(rule.digest == alert.evidence.get("rule_digest") for rule in known):
        return known
    return (*known, *(await read_book(runtime)).rules())


async def _explain_from(
    runtime: Runtime, alert: FraudAlert, first_offset: int, rules: Sequence[Rule]
) -> Explanation:
    [source] = alert.sources
    # The key is the player, so only these records need to be decoded; of results it is the game, of
    # wrong signatures the provider.
    is_keyed = alert.player_id is not None and source.topic not in (GAME_RESULTS, SIGNALS)
    key = (alert.player_id or "").encode() if is_keyed else None
    bounds = (first_offset, source.last_offset)
    events = await _read(runtime, source.topic, source.partition, bounds, key)
    return explain(alert, events, rules)


async def _explain_merged(
    runtime: Runtime, alert: FraudAlert, rules: Sequence[Rule]
) -> Explanation:
    """Run a rule over the log and the player events again: all that they hold of the player."""
    partition = alert.sources[0].partition
    key = (alert.player_id or "").encode()
    records = {}
    for topic in MERGED:
        bounds = await _bounds_of(runtime, topic, partition)
        records[topic] = await _read(runtime, topic, partition, bounds, key)
    return explain_merged(alert, records, partition, rules)


async def _explain_global(
    runtime: Runtime, alert: FraudAlert, rules: Sequence[Rule]
) -> Explanation:
    """Run a rule over the signals again, from the first on."""
    count = len(await partition_bounds(runtime.broker, {runtime.topic(TRANSACTIONS)}))
    partitions = len(await partition_bounds(runtime.broker, {runtime.topic(SIGNALS)}))
    partition = partition_for(SIGNAL_KEY, partitions)
    bounds = await _bounds_of(runtime, SIGNALS, partition)
    signals = await _read(runtime, SIGNALS, partition, bounds, SIGNAL_KEY)
    return explain_global(alert, signals, partition, count, rules)


async def _bounds_of(runtime: Runtime, topic: str, partition: int) -> tuple[int, int]:
    """Return the first and the last offset of a partition."""
    name = runtime.topic(topic)
    bounds = await partition_bounds(runtime.broker, {name})
    first, end = next(own for tp, own in bounds.items() if tp.partition == partition)
    return first, end - 1


async def _read(
    runtime: Runtime, topic: str, partition: int, bounds: tuple[int, int], key: bytes | None
) -> list[tuple[int, Any]]:
    first, last = bounds
    if last < first:
        return []
    name = runtime.topic(topic)
    records = await read_records(runtime.broker, name, partition, first, last, key)
    decode, events = codec.decoder(RECORD_TYPES[topic]), []
    for record in records:
        try:
            events.append((record.offset, decode(record.value)))
        except Rejected:
            continue  # the detectors published it as a dead letter and did not count it either
    return events


def outcomes_of(runtime: Runtime, event_ids: Sequence[str]) -> dict[str, int] | None:
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


def describe_outcomes(outcomes: dict[str, int], events: int) -> str:
    """Return a line about what the ledger refused of a window's events."""
    refused = {name: count for name, count in outcomes.items() if name.startswith("REFUSED")}
    reasons = ", ".join(f"{name} {count}" for name, count in refused.items()) or "none"
    waiting = events - sum(outcomes.values())
    undecided = f", {waiting} not decided" if waiting else ""
    total = sum(refused.values())
    return f"of these {events} events the ledger refused {total}: {reasons}{undecided}"


def explain_ledger_alert(alert: FraudAlert) -> str:
    """Return why an alert of the ledger's own has no rule to run, and what to look at."""
    events = ", ".join(alert.sample_event_ids)
    return (
        f"{alert.rule_id} is raised by the ledger when it books {events}, not by a detector,"
        f" so a rule cannot be run again: see `pitboss alerts show {alert.alert_id}` and"
        f" `pitboss ledger entry {events}` for what was booked, and `pitboss ledger debts` for the"
        " players in debt now"
    )


def show_explanation(
    alert: FraudAlert,
    explanation: Explanation,
    first_offset: int,
    lines: Sequence[tuple[str, str]],
) -> None:
    """Print the seconds of the window, else the alert's lines, and what the re-run found."""
    console = screen.console()
    console.print(Text(alert.title, "bold"))
    rule = f"{alert.rule_id} version {alert.rule_version}"
    if explanation.seconds:
        console.print(f"{rule}: {alert.threshold} {alert.unit} or more in any window")
        _show_seconds(alert, explanation)
    else:
        console.print(f"{rule}: see `pitboss rules show {alert.rule_id}`")
        screen.show_pairs(lines)
    where = ", ".join(
        f"{one.topic}-{one.partition}@{first_offset}..{one.last_offset}" for one in alert.sources
    )
    word = "agrees" if explanation.agrees else "DOES NOT AGREE"
    console.print(
        Text(
            f"run again over {explanation.records} records up to {where}: {word}",
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
    for quiet, second in _fold(explanation.seconds):
        if quiet:
            table.add_row("…", "", Text(f"{quiet} seconds without {alert.unit}", "dim"), "", "")
        bar = "█" * -(-second.counted * BAR_WIDTH // fullest)
        mark = f"◄ {alert.threshold} reached" if second.is_crossing else ""
        table.add_row(
            format_instant(second.at_ms)[11:],
            str(second.counted),
            Text(bar, "red" if second.running >= alert.threshold else "cyan"),
            str(second.running),
            Text(mark, "bold red"),
        )
    screen.show(table)


def _fold(seconds: Sequence[WindowSecond]) -> Iterator[tuple[int, WindowSecond]]:
    """Yield the seconds to show, each with the number of empty ones before it that are folded.

    One alone is shown, and so is the last of all: it says what the window came to.
    """
    quiet: list[WindowSecond] = []
    for number, second in enumerate(seconds, start=1):
        if not second.counted and not second.is_crossing and number < len(seconds):
            quiet.append(second)
            continue
        if len(quiet) == 1:
            yield 0, quiet[0]
        yield len(quiet) if len(quiet) > 1 else 0, second
        quiet = []
