"""`pitboss providers log`: what happened between this installation and its providers in a week, as
a document.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from pitboss.cli.files import naming_file
from pitboss.ops.periods import parse_since_ms
from schemas.errors import UsageError

if TYPE_CHECKING:
    from pitboss.integration_log.model import EarlierLog, IntegrationLog

PREFIX = "integration-log-"


@click.command("log")
@click.option(
    "--since",
    default="7d",
    show_default=True,
    help="The period: 7d, 24h, or a time at which it begins.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write Markdown and JSON into this folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of Markdown.")
@click.option(
    "--dry-run", is_flag=True, help="With --out: say what would be written, and write nothing."
)
@click.pass_context
def log_command(
    context: click.Context, since: str, out: Path | None, as_json: bool, dry_run: bool
) -> None:
    """Versions and their traffic, drift, schema changes, rejected records by code, conformance of
    the adapters.

    Schema changes are told against an earlier log in the folder. Without running servers what only
    they know is left out, and the log says so. Exit code 1 if an adapter fails its conformance run.
    """
    from pitboss.integration_log.gather import gather_log
    from pitboss.integration_log.markdown import render_markdown

    until = time.time_ns() // 1_000_000
    earlier = {} if out is None else _earlier(out)
    log = gather_log(parse_since_ms(since, until), until, earlier)
    if out is not None:
        _write(log, out, dry_run=dry_run)
    if out is None or as_json:
        click.echo(
            msgspec.json.format(msgspec.json.encode(log)) if as_json else render_markdown(log),
            nl=as_json,
        )
    for reason in log.unknown:
        click.echo(f"warning: {reason}", err=True)
    context.exit(0 if all(one.has_passed for one in log.conformance) else 1)


def _earlier(folder: Path) -> dict[str, EarlierLog]:
    """The logs that were written into a folder before.

    Raises UsageError for one that cannot be read.
    """
    from pitboss.integration_log.model import EarlierLog

    found = {}
    for file in sorted(folder.glob(f"{PREFIX}*.json")):
        try:
            found[file.name] = msgspec.json.decode(file.read_bytes(), type=EarlierLog)
        except (OSError, msgspec.DecodeError) as error:
            raise UsageError(
                f"{file} is no integration log that can be compared with: {error}; move it away"
            ) from error
    return found


def _write(log: IntegrationLog, folder: Path, *, dry_run: bool) -> None:
    from pitboss.integration_log.markdown import render_markdown
    from pitboss.integration_log.model import file_stamp

    stem = f"{PREFIX}{file_stamp(log.until)}"
    contents = {
        folder / f"{stem}.md": render_markdown(log).encode(),
        folder / f"{stem}.json": msgspec.json.format(msgspec.json.encode(log)),
    }
    if not dry_run:
        folder.mkdir(parents=True, exist_ok=True)
    for file, content in contents.items():
        if not dry_run:
            with naming_file(file):
                file.write_bytes(content)
        click.echo(f"{'would write' if dry_run else 'wrote'} {file}", err=True)
