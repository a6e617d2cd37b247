"""`pitboss providers log`: the integration log of a period, as Markdown or JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click
import msgspec

from pitboss.cli.files import naming_file
from pitboss.cli.option_types import TIME, invocation_time_ms
from pitboss.cli.progress import show_waiting
from pitboss.ops.periods import ACCEPTED_TIMES


@click.command("log")
@click.option(
    "--since",
    "since_ms",
    default="7d",
    show_default=True,
    type=TIME,
    help=f"The beginning of the period, which ends now: {ACCEPTED_TIMES}.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write Markdown and JSON into this folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of Markdown.")
@click.option(
    "--dry-run", is_flag=True, help="With --out: print what would be written, and write nothing."
)
@click.pass_context
def log_command(
    context: click.Context, since_ms: int, out: Path | None, as_json: bool, dry_run: bool
) -> None:
    """Report versions and traffic, drift, schema changes, rejected records and adapter conformance.

    Schema changes are those since an earlier log in the folder. Without running servers the
    sections that need them are left out, and the log says so. Exit code 1 if an adapter fails its
    conformance run.
    """
    from pitboss.integration_log.gather import gather_log, read_earlier_logs, render_files
    from pitboss.integration_log.markdown import render_markdown

    until_ms = invocation_time_ms(context)
    earlier = {} if out is None else read_earlier_logs(out)
    with show_waiting("gathering the log"):
        log = gather_log(since_ms, until_ms, earlier)
    if out is not None:
        _write(render_files(log, out), dry_run=dry_run)
    if out is None or as_json:
        click.echo(
            msgspec.json.format(msgspec.json.encode(log)) if as_json else render_markdown(log),
            nl=as_json,
        )
    for reason in log.unknown:
        click.echo(f"warning: {reason}", err=True)
    context.exit(0 if all(one.has_passed for one in log.conformance) else 1)


def _write(files: Mapping[Path, bytes], *, dry_run: bool) -> None:
    for file, content in files.items():
        if not dry_run:
            file.parent.mkdir(parents=True, exist_ok=True)
            with naming_file(file):
                file.write_bytes(content)
        click.echo(f"{'would write' if dry_run else 'wrote'} {file}", err=True)
