"""`pitboss replay compare`: two exports, or two versions of the code over the same records."""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pitboss.cli import screen
from pitboss.cli.ledger_queries import json_option, print_json
from pitboss.cli.option_types import period_options, rate_option
from pitboss.cli.progress import show_waiting
from pitboss.cli.suggestions import PROVIDER
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.archive_settings import open_log
from pitboss.ops.exports import check_export_policy, missing_packages
from pitboss.ops.periods import check_period
from pitboss.settings import read_settings
from schemas.errors import UsageError
from schemas.topics import raw_topic

if TYPE_CHECKING:
    from pitboss.ops.code_versions import RawRow
    from replay.archive.record import RecordedRecord
    from replay.export.differences import OutputComparison
    from replay.versions.comparison import VersionComparison


@click.command()
@click.argument("first")
@click.argument("second")
@click.option(
    "--slice",
    "slices",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder by `replay record`: raw records, player events or game results; for two versions;"
    " may be repeated.",
)
@click.option(
    "--raw", "providers", multiple=True, type=PROVIDER, help="Or this provider's raw topic."
)
@period_options(of="append time of --raw")
@click.option(
    "--repository",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="Where git revisions are looked for; by default here.",
)
@rate_option
@json_option
def compare(
    *,
    first: str,
    second: str,
    slices: tuple[Path, ...],
    providers: tuple[str, ...],
    since_ms: int | None,
    until_ms: int | None,
    repository: Path,
    rate: float,
    as_json: bool,
) -> None:
    """Compare FIRST and SECOND: two exports in Parquet, or two versions of the code.

    With --slice or --raw, both name versions: git revisions, virtual environments, or folders of
    sources. Each version reads the same raw records by its adapters, books them by its rules into
    an empty ledger, and shows the events to its detectors; wallet transactions, player events,
    settlements, outcomes, balances, alerts and dead letters are compared. Signatures are not
    checked.

    Without them, rows of two exports are matched by event and attempt, alert and revision, or
    place. Exits with 1 where the sides differ; sums of money that differ are shown.
    """
    if slices or providers:
        check_period(since_ms, until_ms)
        records = [_recorded(folder) for folder in slices]
        if providers:
            records += _live(providers, since_ms, until_ms, rate)
        found: Any = _compare_versions(first, second, records, repository)
        show: Any = _show_versions
    else:
        found, show = _compare_exports(Path(first), Path(second)), _show_exports
    if as_json:
        print_json(found)
    else:
        show(found)
    if not found.identical:
        raise SystemExit(1)


def _compare_exports(first: Path, second: Path) -> OutputComparison:
    for path in (first, second):
        if not path.exists():
            raise UsageError(
                f"{path} does not exist: name two exports, or give two versions of the code a "
                "--slice of raw records"
            )
    with missing_packages("replay compare"):
        from replay.export.differences import compare_outputs
    return compare_outputs(first, second)


def _compare_versions(
    first: str, second: str, records: Sequence[Iterator[RawRow]], repository: Path
) -> VersionComparison:
    from pitboss.ops.code_versions import open_version, run_version
    from replay.versions.comparison import compare_versions

    # By time, as the pipeline would have read them; both versions read the same order.
    ordered = heapq.merge(*records, key=_order)
    with (
        open_version(first, repository) as one,
        open_version(second, repository) as other,
        tempfile.TemporaryDirectory(prefix="pitboss-compare-") as folder,
    ):
        outputs = []
        for version in (one, other):
            with show_waiting(f"running {version.name}"):
                outputs.append(run_version(version, ordered, Path(folder)))
        return compare_versions((one.name, other.name), outputs[0], outputs[1])


def _recorded(folder: Path) -> Iterator[RawRow]:
    with missing_packages("replay compare"):
        from replay.archive.archived_log import ArchivedLog
        from replay.archive.manifest import spans_of
        from replay.archive.record import in_time_order
        from replay.archive.store import LocalStore

    store = LocalStore(folder)
    topics = sorted({span.topic for span in spans_of(store.list())})
    if not topics:
        raise UsageError(f"{folder} holds no recorded slice: make one with `pitboss replay record`")
    log = ArchivedLog(store)
    records = {topic: in_time_order(log, topic) for topic in topics}
    return heapq.merge(*(_rows(topic, found) for topic, found in records.items()), key=_order)


def _rows(topic: str, records: Iterable[RecordedRecord]) -> Iterator[RawRow]:
    for one in records:
        exact = (one.key, one.value, [*one.headers])
        yield topic, one.partition, one.offset, one.timestamp_ms, *exact


def _order(row: RawRow) -> tuple[int, str, int, int]:
    topic, partition, offset, timestamp_ms, *_ = row
    return timestamp_ms, topic, partition, offset


def _live(
    providers: Sequence[str], since_ms: int | None, until_ms: int | None, rate: float
) -> list[Iterator[RawRow]]:
    check_export_policy(unmasked=False)
    with missing_packages("replay compare"):
        from replay.archive.record import records_of
        from replay.export.plan import plan_export
        from replay.export.request import ExportRequest
    runtime = resolve_runtime(read_settings())
    found = []
    with open_log(runtime, rate) as source:
        for provider in providers:
            topic = raw_topic(provider)
            request = ExportRequest(topic, since_ms=since_ms, until_ms=until_ms)
            plan = plan_export(source, request, runtime.topic(topic))
            blocks = (block for piece in plan.pieces() for block in source.read(plan.topic, *piece))
            rows = [row for block in blocks for row in _rows(topic, records_of(block))]
            found.append(iter(sorted(rows, key=_order)))
    return found


def _show_exports(found: OutputComparison) -> None:
    click.echo(
        f"{found.first_rows:,} and {found.second_rows:,} rows: {found.added:,} added, "
        f"{found.dropped:,} dropped, {found.changed:,} changed"
    )
    for name, count in found.changed_columns.items():
        click.echo(f"  {name}: {count:,}")
    for example in found.examples:
        what, *key = example.values()
        click.echo(f"  {what}: {' '.join(map(_text, key))}")
    for one in found.sums:
        where = " ".join(filter(None, (one.provider, one.kind, one.currency)))
        click.echo(f"  {where}: {one.first} and {one.second}, {one.difference} apart")


def _show_versions(found: VersionComparison) -> None:
    table = screen.table("version", "records", "events", "rejected", "alerts", "CPU", "p50, p99")
    for one in (found.first, found.second):
        table.add_row(
            one.name,
            f"{one.records:,}",
            f"{one.events:,}",
            f"{one.rejected:,}",
            f"{one.alerts:,}",
            f"{one.cpu_us_per_record} µs a record",
            f"{one.latency_us['p50']}, {one.latency_us['p99']} µs",
        )
    screen.show(table)
    for each in found.differences:
        click.echo(
            f"{each.kind}: {each.first_rows:,} and {each.second_rows:,} rows: {each.added:,} "
            f"added, {each.dropped:,} dropped, {each.changed:,} changed"
        )
        for name, count in each.changed_fields.items():
            click.echo(f"  {name}: {count:,}")
        for example in each.examples:
            what, *rest = example.values()
            click.echo(f"  {what}: {' '.join(map(_text, rest))}")
    for total in found.sums:
        where = " ".join(filter(None, (total.of, total.provider, total.kind, total.currency)))
        click.echo(f"{where}: {total.first} and {total.second}, {total.difference} apart")
    click.echo("identical" if found.identical else "different")


def _text(value: Any) -> str:
    if isinstance(value, dict) and "partition" in value:
        return "{topic}-{partition}@{offset}".format_map({"topic": "", **value})
    return str(value)
