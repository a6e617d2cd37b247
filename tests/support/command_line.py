"""The tree of commands, and structs filled with any values of their types."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import msgspec

from pitboss.cli.main import cli
from schemas.events import Position

_VALUES: dict[Any, Any] = {
    int: 1,
    bool: False,
    bytes: b"x",
    Position: Position("t", 0, 7),
    str: "x",
}


def filled(kind: type[Any], **given: Any) -> Any:
    """Make a struct with the given values, and a value of its type for each other field."""
    values = {}
    for field in msgspec.structs.fields(kind):
        types = getattr(field.type, "__args__", (field.type,))
        values[field.name] = given.get(
            field.name, next((_VALUES[one] for one in types if one in _VALUES), "x")
        )
    return kind(**values)


def commands(
    command: click.Command = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command and group with its path, the root first."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, (*path, name))
