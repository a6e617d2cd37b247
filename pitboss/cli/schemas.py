"""`pitboss schemas`: the contracts of the topics, and the check before their release."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import click
import msgspec
import orjson

from pitboss.cli import screen
from pitboss.cli.suggestions import NameChoice, SuggestingGroup
from pitboss.settings import read_settings, without_password
from schemas.compatibility import (
    Problem,
    checksum,
    find_incompatibility,
    problems,
    released_checksums,
)
from schemas.compiler.avro_types import parse
from schemas.differences import differences
from schemas.errors import UsageError, suggest
from schemas.registry import RECORDS, Schema, released_registry
from schemas.topics import catalogue

if TYPE_CHECKING:
    from pitboss.schema_registry.schema_import import SchemaImport

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(cls=SuggestingGroup)
def schemas() -> None:
    """Show and check the Avro schemas of our topics, released with this code."""


@schemas.command("list")
@_as_json
def list_command(as_json: bool) -> None:
    """List each version of each subject: its id, its topics, its checksum."""
    rows: list[dict[str, Any]] = [
        {
            "schema": schema.name,
            "id": schema.id,
            "topics": [topic.name for topic in catalogue(()) if topic.schema == schema.subject],
            "sha256": checksum(schema.json),
        }
        for schema in released_registry()
    ]
    if as_json:
        click.echo(orjson.dumps(rows))
        return
    table = screen.table("schema", "id", "topics", "SHA-256")
    for row in rows:
        table.add_row(row["schema"], str(row["id"]), "\n".join(row["topics"]), row["sha256"][:16])
    screen.show(table)


@schemas.command()
@click.argument("name", metavar="SUBJECT[/vN]")
def show(name: str) -> None:
    """Print a schema's JSON, by default of the latest version."""
    click.echo(orjson.dumps(_schema(name, 0).json, option=orjson.OPT_INDENT_2))


@schemas.command()
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@_as_json
@click.pass_context
def diff(context: click.Context, before: str, after: str, as_json: bool) -> None:
    """Show the changes from schema A to B, each SUBJECT[/vN] or a .avsc file.

    Exit code 1 if either cannot read records of the other; the path of the offending field is
    shown.
    """
    old, new = _schema(before, 1), _schema(after, 2)
    found = list(differences(parse(old.json), parse(new.json)))
    broken = [
        problem
        for problem in (find_incompatibility(old, new), find_incompatibility(new, old))
        if problem is not None
    ]
    if as_json:
        click.echo(
            orjson.dumps({"differences": msgspec.to_builtins(found), "broken": _shown(broken)})
        )
    else:
        for difference in found:
            click.echo(str(difference))
        for problem in broken:
            click.echo(f"{problem.breaks}: {problem.path or 'the record'}: {problem.detail}")
        if not found:
            click.echo("no difference, except perhaps in documentation")
    context.exit(1 if broken else 0)


@schemas.command()
@click.option(
    "--mode",
    type=NameChoice(["full", "backward"]),
    default="full",
    show_default=True,
    help="Both transitive. Full: any version reads any other; backward: a newer one reads every"
    " older one.",
)
@_as_json
@click.pass_context
def check(context: click.Context, mode: str, as_json: bool) -> None:
    """Check that versions can read each other and none was edited since its release.

    Exit code 1 otherwise. Needs no server.
    """
    found = problems(released_registry(), released_checksums())
    if mode == "backward":
        found = [problem for problem in found if problem.breaks != "FORWARD"]
    reads = (
        "each version reads every other" if mode == "full" else "each version reads every older one"
    )
    if as_json:
        click.echo(orjson.dumps(_shown(found)))
    elif found:
        for problem in found:
            click.echo(str(problem))
    else:
        click.echo(
            f"{len(list(released_registry()))} schemas: unedited, and {reads} of its subject"
        )
    context.exit(1 if found else 0)


@schemas.command()
@click.argument("url")
@click.option("--dry-run", is_flag=True, help="Compare, and write nothing.")
@_as_json
@click.pass_context
def register(context: click.Context, url: str, dry_run: bool, as_json: bool) -> None:
    """Import every version into the Confluent-compatible registry at URL, under our records' ids.

    Everything is compared first. Exit code 1, and nothing written, if any id, version or content
    differs there.
    """
    from pitboss.schema_registry.schema_import import (
        ImportStatus,
        RegistryClient,
        connect,
        import_schemas,
    )

    address, user, password = _address(url)

    async def carry_out() -> list[SchemaImport]:
        async with connect(user, password) as session:
            return await import_schemas(
                RegistryClient(session, address), _subjects(), dry_run=dry_run
            )

    standings = asyncio.run(carry_out())
    if as_json:
        click.echo(orjson.dumps(msgspec.to_builtins(standings)))
    else:
        for one in standings:
            why = f": {one.detail}" if one.detail else ""
            click.echo(
                f"{one.standing.value.lower():<9}  {one.subject} v{one.version}, id {one.id}{why}"
            )
    differing = sum(one.standing is ImportStatus.DIFFERENT for one in standings)
    if differing:
        click.echo(f"{differing} differ: nothing was written", err=True)
    context.exit(1 if differing else 0)


@schemas.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="A loopback address.")
@click.option(
    "--port",
    default=8081,
    show_default=True,
    type=click.IntRange(0, 65_535),
    help="0 takes a free one.",
)
def serve(host: str, port: int) -> None:
    """Serve the read API of a Confluent-compatible registry on loopback, until Ctrl-C."""
    from pitboss.schema_registry.server import create_server, serve
    from pitboss.schema_registry.view import RegistryView

    async def run_server() -> None:
        async with serve(create_server(RegistryView(_subjects())), host, port) as url:
            click.echo(
                f"{url}: {len(list(released_registry()))} schemas, read-only; Ctrl-C ends it"
            )
            await asyncio.Event().wait()

    try:
        asyncio.run(run_server())
    except KeyboardInterrupt:
        click.echo(err=True)


def _schema(name: str, number: int) -> Schema:
    """Return a released schema, or a .avsc file as version `number`. Raises UsageError."""
    if name.endswith(".avsc"):
        try:
            return Schema(name, number, 0, json.loads(Path(name).read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise UsageError(f"{name} cannot be read as a schema: {error}") from error
    subject, _, version = name.partition("/v")
    found = [
        schema
        for schema in released_registry().versions(subject)
        if version in {"", str(schema.version)}
    ]
    if not found:
        hint = "" if subject in RECORDS else suggest(subject, RECORDS)
        subjects = ", ".join(sorted(RECORDS))
        raise UsageError(f"schema {name} is not known{hint or '.'} Subjects are {subjects}")
    return found[-1]


def _shown(found: Iterable[Problem]) -> list[dict[str, Any]]:
    return [asdict(problem) for problem in found]


def _subjects() -> Mapping[str, tuple[Schema, ...]]:
    from pitboss.schema_registry.view import subject_versions
    from streams.providers.registry import DIALECTS

    return subject_versions(
        released_registry(), catalogue(sorted(DIALECTS)), read_settings().namespace
    )


def _address(url: str) -> tuple[str, str | None, str | None]:
    """Split a URL into the URL without credentials, user and password. Raises UsageError."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(
            f"{without_password(url)} is not a registry's address: write http://host:8081"
        )
    netloc = parts.netloc.rpartition("@")[2]
    user = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    return parts._replace(netloc=netloc).geturl(), user, password
