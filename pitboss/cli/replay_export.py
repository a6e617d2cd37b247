"""`pitboss replay export`: a stretch of a topic for the tools that analysts use."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from pitboss.cli import screen
from pitboss.cli.ledger_queries import print_json
from pitboss.cli.option_types import DURATION, offset_options, period_options, rate_option
from pitboss.cli.progress import StepProgress
from pitboss.cli.suggestions import NameChoice
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.archive_settings import open_log
from pitboss.ops.exports import UnmaskedExport, check_export_policy, missing_packages
from pitboss.ops.periods import check_period, format_time
from pitboss.settings import Runtime, read_settings
from schemas.errors import UsageError
from schemas.topics import qualified_name

if TYPE_CHECKING:
    from replay.export.finish import Manifest
    from replay.export.request import ExportRequest

_SCREEN_ROWS: Final = 100


@click.command()
@click.argument("topic")
@period_options(of="time of the clock")
@offset_options
@click.option(
    "--clock",
    type=NameChoice(["append", "event"]),
    default="append",
    show_default=True,
    help="What the period is about: when a record was appended, or when its event happened.",
)
@click.option(
    "--margin",
    "margin_ms",
    type=DURATION,
    help="What is read beyond the period, for records out of order: 1h, and 7d for events.",
)
@click.option("--player", help="Only records of this player.")
@click.option("--provider", help="Only records of this provider.")
@click.option(
    "--kind", help="Only events with a leg of this kind, as in BET; other records: their type."
)
@click.option(
    "--where", metavar="EXPR", help='Only rows for which this holds, as in "legs.amount > 10".'
)
@click.option("--legs", "has_row_per_leg", is_flag=True, help="A row for each leg of an event.")
@click.option("--raw", "is_raw", is_flag=True, help="Values as bytes, not as fields.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Result: a .parquet, .duckdb, .csv or .jsonl file; a folder for Parquet by day, provider.",
)
@click.option(
    "--format",
    "form",
    type=NameChoice(["table", "jsonl", "csv"]),
    default="table",
    show_default=True,
    help="On stdout, without --out.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Rows on stdout; a table shows 100.")
@click.option("--resume", is_flag=True, help="Go on with an export that was interrupted.")
@rate_option
@click.option("--unmask", is_flag=True, help="Personal and secret fields too; needs --reason.")
@click.option("--reason", help="Why they are needed; it is recorded.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest of --out as JSON.")
def export(
    topic: str, out: Path | None, form: str, limit: int | None, rate: float, **options: Any
) -> None:
    """Export a stretch of TOPIC: to a terminal, JSON lines, CSV, Parquet or a DuckDB file.

    TOPIC is a name such as wallet.transactions.v1. Amounts are exact decimals, times UTC, and
    _topic, _partition, _offset, _append_at, _key and _headers say where a row is from. The rows are
    those that are in the topic when the command begins; nothing is committed to any group.

    --where compares fields with texts in quotes, numbers, true or false: = != < <= > >= in (…)
    contains, is null, and, or, not. A dot reaches into records and lists: legs.currency = 'EUR'.

    With --out an interrupted export is completed by the same command with --resume.
    """
    resume, as_json = options.pop("resume"), options.pop("as_json")
    is_unmasked, reason = options.pop("unmask"), options.pop("reason")
    if is_unmasked != (reason is not None):
        raise UsageError("--unmask and --reason belong together: say why these fields are needed")
    check_period(options["since_ms"], options["until_ms"])
    check_export_policy(unmasked=is_unmasked)
    if out is None and (resume or as_json):
        raise UsageError("--resume and --json are about a result: name it with --out")
    with missing_packages("replay export"):
        from replay.export.plan import MARGIN_MS
        from replay.export.request import ExportRequest
    if options["margin_ms"] is None:
        options["margin_ms"] = MARGIN_MS[options["clock"]]
    runtime = resolve_runtime(read_settings())
    unqualified = topic.removeprefix(runtime.prefix)
    request = ExportRequest(topic=unqualified, unmask_reason=reason, **options)
    record = UnmaskedExport(runtime, runtime.topic(unqualified), request, reason or "")
    if is_unmasked:
        record.begin()
    if out is None:
        rows = _print_rows(runtime, request, form, limit, rate)
        if is_unmasked:
            record.end(rows, None)
        return
    manifest = _write_result(runtime, request, out, rate, resume=resume)
    if is_unmasked:
        record.end(manifest.rows, manifest.sha256)
    if as_json:
        print_json(manifest)
    else:
        _report(manifest, request, out)


def _write_result(
    runtime: Runtime, request: ExportRequest, out: Path, rate: float, *, resume: bool
) -> Manifest:
    from replay.export.run import export_to
    from replay.log.pace import ReplayPace

    name, pace = qualified_name(request.topic, runtime.namespace), ReplayPace(rate)
    with ExitStack() as on_exit:
        source = on_exit.enter_context(open_log(runtime, pace))
        progress = on_exit.enter_context(StepProgress())
        progress.begin(f"export of {name} to {out}")
        return export_to(
            source, request, name, out, resume=resume, progress=progress.update, pace=pace
        )


def _print_rows(
    runtime: Runtime, request: ExportRequest, form: str, limit: int | None, rate: float
) -> int:
    """Print rows on stdout and return how many."""
    from replay.export.rows import RowStats
    from replay.export.run import export_rows
    from replay.export.writers import plain_rows, to_csv, to_json_lines

    name = qualified_name(request.topic, runtime.namespace)
    most = limit or (_SCREEN_ROWS if form == "table" else None)
    stats, shown = RowStats(), 0
    lines: list[dict[str, Any]] = []
    with open_log(runtime, rate) as source:
        for table in export_rows(source, request, name, stats):
            left = table.num_rows if most is None else max(0, most - shown)
            rows = table.slice(0, left)
            if form == "table":
                lines += plain_rows(rows)
            elif form == "csv":
                click.get_binary_stream("stdout").write(to_csv(rows, with_header=not shown))
            else:
                click.get_binary_stream("stdout").write(to_json_lines(rows))
            shown += rows.num_rows
            if left < table.num_rows:
                click.echo(f"only {most} rows are shown: raise --limit, or use --out", err=True)
                break
    if form == "table":
        _show_table(lines)
    for place, why in stats.unreadable:
        click.echo(f"not readable, left out: {place}: {why}", err=True)
    return shown


def _show_table(rows: list[dict[str, Any]]) -> None:
    if not rows:
        click.echo("no record matches", err=True)
        return
    # Columns without a value in any row say nothing on a screen.
    names = [name for name in rows[0] if any(row[name] not in {None, ""} for row in _flat(rows))]
    table = screen.table(*names, box=None)
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in names))
    screen.show(table)


def _flat(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: _cell(value) for name, value in row.items()} for row in rows]


def _cell(value: Any) -> str:
    if value is None or value in ([], {}):
        return ""
    return msgspec.json.encode(value).decode() if isinstance(value, dict | list) else str(value)


def _report(manifest: Manifest, request: ExportRequest, out: Path) -> None:
    parts = [f"{manifest.rows:,} rows of {manifest.records:,} records in {out}"]
    if request.since_ms is not None or request.until_ms is not None:
        since = "the beginning" if request.since_ms is None else format_time(request.since_ms)
        until = "now" if request.until_ms is None else format_time(request.until_ms)
        parts.append(f"by the clock {request.clock}: from {since} until {until}")
        parts.append(
            f"{manifest.in_margin:,} of the records were appended outside of that; "
            f"{manifest.from_margin:,} of their events lie inside"
        )
    if manifest.masked:
        parts.append(f"masked: {', '.join(manifest.masked)}")
    if manifest.inexact_amounts:
        parts.append(
            f"{manifest.inexact_amounts:,} amounts have more than 18 decimals: amount is empty, "
            "amount_unscaled and amount_scale hold them"
        )
    parts += [f"not readable, left out: {place}: {why}" for place, why in manifest.unreadable]
    parts += [f"headers not readable: {place}" for place in manifest.unreadable_headers]
    parts.append(f"sha256 {manifest.sha256}")
    click.echo("\n".join(parts))
