"""`pitboss schemas`: the released contracts, and whether they may be released."""

from __future__ import annotations

from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Table

from schemas.compatibility import checksum, problems, released_checksums
from schemas.errors import UsageError
from schemas.registry import RECORDS, released
from schemas.topics import catalogue

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def schemas() -> None:
    """The Avro schemas of our topics, released with this code."""


@schemas.command("list")
@_as_json
def list_command(as_json: bool) -> None:
    """Each version of each subject: its id, its topics, its checksum."""
    rows: list[dict[str, Any]] = [
        {
            "schema": schema.name,
            "id": schema.id,
            "topics": [topic.name for topic in catalogue(()) if topic.schema == schema.subject],
            "sha256": checksum(schema.json),
        }
        for schema in released()
    ]
    if as_json:
        click.echo(orjson.dumps(rows))
        return
    table = Table("schema", "id", "topics", "SHA-256")
    for row in rows:
        table.add_row(row["schema"], str(row["id"]), "\n".join(row["topics"]), row["sha256"][:16])
    Console().print(table)


@schemas.command()
@click.argument("name", metavar="SUBJECT[/vN]")
def show(name: str) -> None:
    """Print a schema's JSON, the latest version if none is named."""
    subject, _, version = name.partition("/v")
    found = [schema for schema in released().versions(subject) if version in {"", str(schema.version)}]
    if not found:
        raise UsageError(f"there is no schema {name}: subjects are {', '.join(sorted(RECORDS))}")
    click.echo(orjson.dumps(found[-1].json, option=orjson.OPT_INDENT_2))


@schemas.command()
@_as_json
@click.pass_context
def check(context: click.Context, as_json: bool) -> None:
    """Any version readable as any other, none edited since its release; exit code 1 otherwise. Needs no server."""
    found = problems(released(), released_checksums())
    if as_json:
        click.echo(orjson.dumps([{"schema": problem.schema, "detail": problem.detail} for problem in found]))
    elif found:
        for problem in found:
            click.echo(str(problem))
    else:
        click.echo(f"{len(list(released()))} schemas: unedited, and each version reads every other of its subject")
    context.exit(1 if found else 0)
