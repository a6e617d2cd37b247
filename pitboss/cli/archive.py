"""`pitboss archive`: what is kept as files, whether it is whole, and how it comes back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import msgspec
import psycopg

from pitboss.cli import screen
from pitboss.cli.ledger_queries import json_option, print_json, show_rows
from pitboss.cli.progress import StepProgress
from pitboss.cli.suggestions import SuggestingGroup
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.archive_settings import check_target, read_archive_settings
from pitboss.ops.exports import missing_packages
from pitboss.settings import Runtime, read_settings
from runtime.connection_faults import unreachable_database
from runtime.postgres.roles import Role, take_role_sync


class ArchivedPartition(msgspec.Struct, frozen=True):
    """What is archived of one partition, and what the broker has beyond it."""

    topic: str
    partition: int
    files: int
    records: int
    from_offset: int
    to_offset: int
    unfinished: int
    behind: int
    """Records that are only on the broker yet: those of the present span, if the role runs."""


target_option = click.option(
    "--target", help="Folder or URL of the archive; else that of PITBOSS_ARCHIVE."
)


@click.group(cls=SuggestingGroup)
def archive() -> None:
    """Show, check and restore the archive of the topics."""


@archive.command()
@json_option
def status(*, as_json: bool) -> None:
    """Show what is archived of each topic, and what is on the broker only."""
    runtime = resolve_runtime(read_settings())
    with missing_packages("archive status"):
        rows = _read_status(runtime)
    if as_json:
        print_json({"target": read_archive_settings().target, "partitions": rows})
        return
    table = screen.table(
        "topic", "partitions", "files", "records", "unfinished", "behind", box=None
    )
    by_topic: dict[str, list[ArchivedPartition]] = {}
    for row in rows:
        by_topic.setdefault(row.topic, []).append(row)
    for topic, parts in by_topic.items():
        sums = (
            f"{sum(getattr(part, name) for part in parts):,}"
            for name in ("files", "records", "unfinished", "behind")
        )
        table.add_row(topic, str(len(parts)), *sums)
    show_rows(table, "nothing is archived yet", rows, as_numbers=(1, 2, 3, 4, 5))


def _read_status(runtime: Runtime) -> list[ArchivedPartition]:
    from replay.archive.archiver import SQL
    from replay.log.broker import BrokerLog

    try:
        with psycopg.connect(runtime.database_url, connect_timeout=10) as connection:
            take_role_sync(connection, Role.READER)
            found: Sequence[tuple[Any, ...]] = connection.execute(SQL["status"]).fetchall()
    except psycopg.OperationalError as error:
        raise unreachable_database("the ledger's database", error) from error
    ends: dict[str, dict[int, tuple[int, int]]] = {}
    rows = []
    with BrokerLog(runtime.broker) as broker:
        for topic, partition, files, records, begin, end, unfinished in found:
            if topic not in ends:
                ends[topic] = dict(broker.bounds(runtime.topic(topic)))
            behind = max(0, ends[topic].get(partition, (0, 0))[1] - end)
            columns = (topic, partition, files, records, begin, end, unfinished, behind)
            rows.append(ArchivedPartition(*columns))
    archived = {(row.topic, row.partition) for row in rows}
    rows += [
        ArchivedPartition(topic, partition, 0, 0, begin, begin, 0, end - begin)
        for topic, bounds in ends.items()
        for partition, (begin, end) in bounds.items()
        if end > begin and (topic, partition) not in archived
    ]
    return sorted(rows, key=lambda row: (row.topic, row.partition))


@archive.command()
@click.option("--topic", help="Only this topic.")
@target_option
@json_option
def verify(*, topic: str | None, target: str | None, as_json: bool) -> None:
    """Check every file of the archive: holes, overlaps, digests, contents. Needs no server.

    Exits with 1 where something is wrong.
    """
    with missing_packages("archive verify"):
        from replay.archive.store import open_store
        from replay.archive.verify import verify_archive
    place = check_target(target or read_archive_settings().target)
    with StepProgress() as progress:
        progress.begin(f"verifying {place}")
        report = verify_archive(open_store(place), topic, progress=progress.update)
    if as_json:
        print_json(report)
    else:
        for fault in report.faults:
            click.echo(f"{fault.path}: {fault.what}")
        found = f"{len(report.faults):,} faults" if report.faults else "whole"
        counts = f"{report.files:,} files, {report.records:,} records, {report.partitions:,}"
        click.echo(f"{found}: {counts} partitions")
    if report.faults:
        raise SystemExit(1)


@archive.command()
@click.option("--topic", "topics", multiple=True, required=True, help="A topic; may be repeated.")
@target_option
@click.option("--resume", is_flag=True, help="Go on behind the records that are there already.")
@click.option("--renumber", is_flag=True, help="Accept that records get other offsets.")
@click.option("--dry-run", is_flag=True, help="Only print what would be played back.")
@json_option
def restore(
    *,
    topics: tuple[str, ...],
    target: str | None,
    resume: bool,
    renumber: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Play topics of the archive back into an empty cluster or namespace, byte for byte.

    Keys, values, headers, times and offsets are as they were. The topics must exist, with as many
    partitions as they had, and be empty.
    """
    with missing_packages("archive restore"):
        from replay.archive.archived_log import ArchivedLog
        from replay.archive.restore import RestoreOptions, plan_restore
        from replay.archive.restore import restore as play_back
        from replay.archive.store import open_store
        from replay.log.broker import BrokerLog
    place = check_target(target or read_archive_settings().target)
    runtime = resolve_runtime(read_settings())
    names = tuple(topic.removeprefix(runtime.prefix) for topic in topics)
    options = RestoreOptions(names, resume=resume, renumber=renumber)
    archived = ArchivedLog(open_store(place))
    with BrokerLog(runtime.broker) as broker:
        planned = plan_restore(archived, broker, runtime.prefix, options)
    if not dry_run:
        with StepProgress() as progress:
            progress.begin(f"restoring {', '.join(names)}")
            planned = play_back(
                runtime.broker,
                archived,
                runtime.prefix,
                planned,
                options,
                progress.update,
            )
    if as_json:
        print_json(planned)
        return
    word = "would be restored" if dry_run else "restored"
    for one in planned:
        where = f"{runtime.prefix}{one.topic}-{one.partition}"
        click.echo(f"{where}: {one.records:,} records {word}, {one.from_offset} to {one.to_offset}")
