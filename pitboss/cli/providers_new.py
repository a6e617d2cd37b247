"""`pitboss providers new`: the files of a new adapter, which work from the first moment."""

from __future__ import annotations

import re
import secrets
from importlib import resources
from pathlib import Path
from typing import Final

import click

from pitboss.cli.files import naming_file
from schemas.errors import UsageError
from schemas.topics import PROVIDER_NAME
from streams.providers.registry import DIALECTS

REGISTRY: Final = "streams/providers/versions.toml"
FILES: Final = {
    "streams/providers/{{name}}.py": "adapter.py.txt",
    "lab/conformance/writers/{{name}}.py": "writer.py.txt",
    "lab/conformance/examples/{{name}}.py": "examples.py.txt",
    "schemas/providers/{{name}}/transaction/v1.schema.json": "transaction.schema.json.txt",
    "tests/unit/providers/test_dialect_{{name}}.py": "test.py.txt",
    "docs/reference/providers/{{name}}.md": "page.md.txt",
}
"""Path within the checkout → template."""

_RESERVED: Final = frozenset({"examples"})


@click.command()
@click.argument("name")
@click.option(
    "--write", "writes", is_flag=True, help="Write; without it, print what would be written."
)
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="The checkout to write into. Default: the one that this command runs from.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be written, also with --write.")
def new(name: str, writes: bool, root: Path | None, dry_run: bool) -> None:
    """Write the files of a provider NAME and its row of the registry, or print what would be.

    Nothing is written without --write.

    The files are adapter, writer, examples, payload schema, test and page. They work as they are:
    an imagined JSON wallet that passes the conformance suite. docs/tutorial/first-adapter.md shows
    how to make the provider's own of it; every place to edit is marked EDIT.
    """
    checkout = _checkout(root)
    _check(name, checkout)
    tokens = {
        "{{name}}": name,
        "{{Class}}": class_name(name),
        "{{header}}": name.replace("_", "-"),
        "{{key}}": secrets.token_hex(32),
    }
    texts = {
        _fill_in(path, tokens): _fill_in(_template(template), tokens)
        for path, template in FILES.items()
    }
    row = _fill_in(_template("row.toml.txt"), tokens)
    if writes and not dry_run:
        _write(checkout, texts, row)
        click.echo("next: edit what is marked EDIT, then `make docs` for the list of providers")
        return
    for path in texts:
        click.echo(f"would write  {path}")
    click.echo(f"would write  {REGISTRY}: one row\n{row}")
    click.echo("nothing is written: give --write and no --dry-run")


def _write(checkout: Path, texts: dict[str, str], row: str) -> None:
    for path, text in texts.items():
        target = checkout / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with naming_file(target):
            target.write_text(text, encoding="utf-8")
        click.echo(f"wrote  {path}")
    with (
        naming_file(checkout / REGISTRY),
        (checkout / REGISTRY).open("a", encoding="utf-8") as registry,
    ):
        registry.write(row)
    click.echo(f"wrote  {REGISTRY}: one row")


def class_name(name: str) -> str:
    """Return the class of a provider's name: `wheel_of_luck` becomes `WheelOfLuck`."""
    return "".join(word.capitalize() for word in name.split("_"))


def _check(name: str, checkout: Path) -> None:
    if not PROVIDER_NAME.fullmatch(name) or name in _RESERVED:
        raise UsageError(
            f"{name!r} cannot be a provider's name: take 2 to 32 lower-case letters, digits and "
            "underscores, beginning with a letter; it becomes a part of a topic's name"
        )
    tokens = {"{{name}}": name}
    present = [path for file in FILES if (path := checkout / _fill_in(file, tokens)).exists()]
    if name in DIALECTS or present:
        what = present[0].relative_to(checkout) if present else f"a row in {REGISTRY}"
        raise UsageError(f"there is {what} already: edit it, or take another name")


def _checkout(root: Path | None) -> Path:
    checkout = (root or Path(__file__).parents[2]).resolve()
    needed = (REGISTRY, "schemas/providers", "tests/unit/providers", "docs")
    missing = [path for path in needed if not (checkout / path).exists()]
    if missing:
        raise UsageError(
            f"{checkout} is not a checkout of Pitboss: {missing[0]} is missing; "
            "name one with --root"
        )
    return checkout


def _template(name: str) -> str:
    return (resources.files("pitboss.scaffold") / name).read_text(encoding="utf-8")


def _fill_in(text: str, tokens: dict[str, str]) -> str:
    return re.sub(r"\{\{\w+\}\}", lambda match: tokens[match[0]], text)
