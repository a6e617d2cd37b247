"""`pitboss topics`: create the catalogue's topics, compare and trim them, show consumer lag."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import click
import msgspec
import orjson

from pitboss.cli import screen
from pitboss.cli.dlt_filter import PLACE, check_audit_text, parse_source
from pitboss.cli.option_types import DURATION, FiniteFloat
from pitboss.cli.suggestions import PROVIDER, TOPIC, NameChoice, SuggestingGroup
from pitboss.embedded.state import resolve_runtime
from pitboss.ops import consumer_lag, raw_topics, skips, topic_admin
from pitboss.ops.consumer_lag import LagSum, PartitionLag, sum_lags
from pitboss.ops.pauses import list_pauses
from pitboss.ops.periods import format_time
from pitboss.ops.raw_topics import RawTopics
from pitboss.ops.raw_trim import trim_raw_topics
from pitboss.ops.role_topics import GROUPS, find_sources
from pitboss.ops.stuck_partitions import list_stuck
from pitboss.ops.topic_admin import TopicDifference
from pitboss.settings import Runtime, read_settings, read_worker_settings
from runtime.dead_letters.headers import ACTOR_MAX, REASON_MAX, format_position
from schemas.errors import UsageError
from schemas.topics import (
    PARTITIONS_DEFAULT,
    PROVIDER_NAME,
    raw_pattern,
    raw_topic,
)

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_partitions = click.option(
    "--partitions",
    default=PARTITIONS_DEFAULT,
    show_default=True,
    type=click.IntRange(1, 10_000),
    help="Of each topic whose number is not fixed, but raw topics.",
)


UNHELD_SHOWN: Final = 3
"""Topics that a sentence about partitions without a reader names."""


@click.group(cls=SuggestingGroup)
def topics() -> None:
    """Create and check the topics of this installation, and show consumer lag."""


@topics.command()
@_partitions
@click.option(
    "--dry-run", is_flag=True, help="Let the broker validate the request, and change nothing."
)
@_as_json
def create(partitions: int, dry_run: bool, as_json: bool) -> None:
    """Create missing topics. Existing ones stay unchanged: see `pitboss topics check`."""
    runtime = resolve_runtime(read_settings())
    raw = raw_topics.read_current(runtime, read_worker_settings())
    done = asyncio.run(
        topic_admin.create_topics(
            runtime.broker,
            runtime.namespace,
            raw.names,
            partitions,
            raw.partitions,
            read=raw.providers,
            dry_run=dry_run,
        )
    )
    if as_json:
        click.echo(orjson.dumps({"dry_run": dry_run, **asdict(done)}))
        return
    for name in done.created:
        click.echo(f"{'would create' if dry_run else 'created'}  {name}")
    word = "to be created" if dry_run else "created"
    click.echo(f"{len(done.created)} {word}, {len(done.existing)} there before")


@topics.command()
@_partitions
@_as_json
@click.pass_context
def check(context: click.Context, partitions: int, as_json: bool) -> None:
    """Compare partitions, cleanup, retention and timestamps with the catalogue.

    A raw topic that holds records and is read by nothing is a difference, too: its `reader`. Exit
    code 1 on a difference.
    """
    runtime = resolve_runtime(read_settings())
    found = asyncio.run(
        _differences(runtime, raw_topics.read_current(runtime, read_worker_settings()), partitions)
    )
    rows = [asdict(difference) for difference in found]
    if as_json:
        click.echo(orjson.dumps(rows))
    elif rows:
        _show(("topic", "what", "expected", "actual"), rows)
        click.echo(
            "missing topics: run `pitboss topics create`; without a reader: name its provider in "
            "PITBOSS_PROVIDERS and run `pitboss provision`; others: change with Kafka's own tools",
            err=True,
        )
    else:
        click.echo("all topics are as they should be")
    context.exit(1 if rows else 0)


@topics.command()
@click.argument("place", metavar=PLACE)
@click.option("--by", "actor", required=True, help="The acting person; kept with the order.")
@click.option("--why", required=True, help="The reason; kept with the order.")
@click.option("--dry-run", is_flag=True, help="Print what would be written, and write nothing.")
@_as_json
def skip(place: str, actor: str, why: str, dry_run: bool, as_json: bool) -> None:
    """Leave out records of a raw topic that cannot be read, from PLACE on.

    The workers that are stuck at PLACE read on at the next record that can be read, within seconds.
    A record that can be read is never left out, so an order for one changes nothing. What is left
    out has no dead letter: have its sender append it again.
    """
    for name, text, longest in (("--by", actor, ACTOR_MAX), ("--why", why, REASON_MAX)):
        check_audit_text(name, text, longest)
    runtime = resolve_runtime(read_settings())
    source = parse_source(runtime, place)
    if not re.match(raw_pattern(runtime.namespace), source.topic):
        raise UsageError(
            f"{source.topic} is not a raw topic: for an event of the log that cannot be booked "
            "there is `pitboss ledger quarantine`"
        )
    order = skips.build_order(source, actor, why)
    is_stuck = any(format_position(source) in one.reason for one in list_stuck(runtime))
    if not dry_run:
        asyncio.run(skips.append_order(runtime, order))
    if as_json:
        row = {"dry_run": dry_run, "order": msgspec.to_builtins(order), "is_stuck": is_stuck}
        click.echo(orjson.dumps(row))
        return
    word = "would be skipped" if dry_run else "is skipped"
    click.echo(f"what cannot be read from {order.component} on {word}")
    if not is_stuck:
        click.echo(f"warning: no worker says that it is stuck at {order.component}", err=True)


@topics.command("skips")
@_as_json
def list_skips(as_json: bool) -> None:
    """List the orders to leave out records that cannot be read: where, who, when and why."""
    orders = skips.list_orders(resolve_runtime(read_settings()))
    if as_json:
        click.echo(msgspec.json.encode(orders))
        return
    rows = [
        {
            "place": f"{one.topic}-{one.partition}@{one.offset}",
            "by": one.actor,
            "when": one.at,
            "why": one.reason,
        }
        for one in orders
    ]
    if rows:
        _show(("place", "by", "when", "why"), rows)
    click.echo(f"{len(rows)} orders", err=True)


@topics.command()
@click.option(
    "--older-than",
    "older_than_ms",
    default="90d",
    show_default=True,
    type=DURATION,
    help="Age by this machine's clock: 90d, 12h.",
)
@click.option(
    "--provider", "providers", multiple=True, type=PROVIDER, help="Only of this one; repeatable."
)
@click.option("--dry-run", is_flag=True, help="Show what would be deleted, and delete nothing.")
@_as_json
def trim(*, older_than_ms: int, providers: Sequence[str], dry_run: bool, as_json: bool) -> None:
    """Delete raw records that are old and that the normaliser has read.

    The broker deletes no raw record by itself, whatever its clock says. For a daily job.
    """
    runtime = resolve_runtime(read_settings())
    found = asyncio.run(trim_raw_topics(runtime, older_than_ms, providers or None, dry_run=dry_run))
    if as_json:
        click.echo(orjson.dumps([asdict(one) for one in found]))
        return
    for one in found:
        click.echo(f"{one.topic}-{one.partition}  {one.records} before {one.before_offset}")
    word = "would be deleted" if dry_run else "deleted"
    click.echo(f"{sum(one.records for one in found)} records {word}")


@topics.command()
@click.option("--each", is_flag=True, help="A row for each partition, not for each topic.")
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=NameChoice(list(GROUPS)),
    help="Only of this role; may be repeated.",
)
@click.option(
    "--topic",
    "names",
    multiple=True,
    type=TOPIC,
    help="Only of this topic, or provider; may be repeated.",
)
@click.option(
    "--max-lag", type=click.IntRange(0), help="Exit code 1 if the total lag is larger, in offsets."
)
@click.option(
    "--max-age", type=FiniteFloat(0), help="Exit code 1 if the oldest is older, in seconds."
)
@click.option("--watch", is_flag=True, help="Measure again and again, until Ctrl-C.")
@click.option(
    "--every-s",
    type=FiniteFloat(min=0.1),
    default=2.0,
    show_default=True,
    help="With --watch: seconds between measurements.",
)
@click.option("--count", type=click.IntRange(1), help="With --watch: stop after this many.")
@_as_json
@click.pass_context
def lag(
    context: click.Context,
    *,
    each: bool,
    roles: tuple[str, ...],
    names: tuple[str, ...],
    max_lag: int | None,
    max_age: float | None,
    watch: bool,
    every_s: float,
    count: int | None,
    as_json: bool,
) -> None:
    """Show what the roles have not read yet: how many offsets, and how old the oldest record is.

    By consumer group and topic, with the total. Where a role has never committed, everything is
    unread. An age is that of the broker's time of the oldest unread record; `unheld` counts
    partitions that no running worker of the group reads. Exit code 0, or 1 where the last total is
    over --max-lag or --max-age; 69 if the broker does not answer. --watch prints a measurement
    after the other; with --json, a line each.
    """
    runtime = resolve_runtime(read_settings())
    for pause in list_pauses(runtime):
        if not roles or pause.component in roles:
            click.echo(f"{pause.component} is {pause}", err=True)
    groups = [runtime.group(GROUPS[role]) for role in roles]
    chosen = [_topic_name(runtime, name) for name in names]
    sources = find_sources(runtime, lambda note: click.echo(note, err=True))
    remaining = count if watch else 1
    total = None
    try:
        while remaining is None or remaining > 0:
            if total is not None:
                time.sleep(every_s)
            found = asyncio.run(
                consumer_lag.measure_lag(runtime.broker, runtime.namespace, groups, chosen, sources)
            )
            total = _show_lag(found, runtime, each=each, as_json=as_json, is_watching=watch)
            remaining = None if remaining is None else remaining - 1
    except KeyboardInterrupt:
        click.echo(err=True)
    context.exit(1 if total is not None and _is_over(total, max_lag, max_age) else 0)


async def _differences(runtime: Runtime, raw: RawTopics, partitions: int) -> list[TopicDifference]:
    found = await topic_admin.check_topics(
        runtime.broker,
        runtime.namespace,
        raw.names,
        partitions,
        raw.partitions,
        read=raw.providers,
    )
    unread = await raw_topics.find_unread(runtime.broker, runtime.namespace, raw.providers)
    return found + [
        TopicDifference(one.topic, "reader", "normalise", f"nothing, with {one.records} records")
        for one in unread
    ]


def _is_over(total: LagSum, max_lag: int | None, max_age_s: float | None) -> bool:
    return (max_lag is not None and total.lag > max_lag) or (
        max_age_s is not None and (total.age_s or 0) > max_age_s
    )


def _show_lag(
    found: Sequence[PartitionLag],
    runtime: Runtime,
    *,
    each: bool,
    as_json: bool,
    is_watching: bool,
) -> LagSum:
    """Print one measurement and return its total."""
    now_ms = time.time_ns() // 1_000_000
    total, by_topic = sum_lags(found, now_ms)
    roles = {runtime.group(group): role for role, group in GROUPS.items()}
    rows = [
        {"role": roles.get(row["group"]), **row}
        for row in (
            [_partition_row(one, now_ms) for one in found]
            if each
            else [asdict(one) for one in by_topic]
        )
    ]
    if as_json:
        shown = {"at": now_ms, "total": {"lag": total.lag, "age_s": total.age_s}, "rows": rows}
        click.echo(orjson.dumps(shown))
        return total
    if is_watching:
        click.echo(format_time(now_ms))
    if not rows:
        click.echo("nothing is unread, and no consumer group has committed anything yet")
        return total
    last = dict.fromkeys(rows[0], "") | {"role": "total", "lag": total.lag, "age_s": total.age_s}
    if not each:
        last["unheld"] = total.unheld
    _show(tuple(rows[0]), [*rows, last])
    for sentence in _unheld_sentences(found, roles):
        click.echo(sentence, err=True)
    return total


def _unheld_sentences(found: Sequence[PartitionLag], roles: Mapping[str, str]) -> list[str]:
    """Return a sentence for each group of which no running worker reads some partitions."""
    sentences = []
    for group in dict.fromkeys(one.group for one in found):
        some = [one for one in found if one.group == group]
        topics_unheld = [*dict.fromkeys(one.topic for one in some if not one.is_held)]
        if topics_unheld:
            count = sum(not one.is_held for one in some)
            shown = ", ".join(topics_unheld[:UNHELD_SHOWN])
            more = len(topics_unheld) - UNHELD_SHOWN
            sentences.append(
                f"{roles.get(group, group)}: no running worker reads {count} of {len(some)} "
                f"partitions: {shown}{f' and {more} more topics' if more > 0 else ''}"
            )
    return sentences


def _partition_row(one: PartitionLag, now_ms: int) -> dict[str, Any]:
    age_ms = one.age_ms(now_ms)
    return {
        "group": one.group,
        "topic": one.topic,
        "partition": one.partition,
        "committed": one.committed,
        "end": one.end,
        "lag": one.records,
        "age_s": None if age_ms is None else age_ms / 1000,
        "held": one.is_held,
    }


def _topic_name(runtime: Runtime, name: str) -> str:
    """Return a topic as on the broker, of its name with or without namespace, or a provider's."""
    if PROVIDER_NAME.fullmatch(name):
        name = raw_topic(name)
    return name if runtime.prefix and name.startswith(runtime.prefix) else runtime.topic(name)


def _show(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    table = screen.table(*columns, whole=("topic",))
    for header, column in zip(columns, table.columns, strict=True):
        values = [row[header] for row in rows if row[header] not in {None, ""}]
        is_number = all(isinstance(value, (int, float)) for value in values)
        column.justify = "right" if values and is_number else "left"
    for row in rows:
        table.add_row(*("" if row[column] is None else str(row[column]) for column in columns))
    screen.show(table)
