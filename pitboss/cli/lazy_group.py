"""Command group that imports a command's module only when the command is called.

The help of a group and the completion of its names import none, so both are quick, and no command
pays for the libraries of another.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, TypeAlias

import click
from click.shell_completion import CompletionItem

from pitboss.cli.suggestions import SuggestingGroup
from pitboss.lab_package import requiring_lab

CommandTable: TypeAlias = Mapping[str, tuple[str, str]]
"""By name: `module:command`, and its line in the group's help, in the order of that help."""


class LazyGroup(SuggestingGroup):
    """Command group that imports a command's module on use."""

    def __init__(self, *args: Any, table: CommandTable, **kwargs: Any) -> None:
        """Take what `click.Group` takes, and the commands."""
        super().__init__(*args, **kwargs)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in self.table:
            return None
        module, _, attribute = self.table[cmd_name][0].partition(":")
        path = f"{ctx.command_path} {cmd_name}" if ctx.parent else f"pitboss {cmd_name}"
        with requiring_lab(f"`{path}`"):
            command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.table[name][1]) for name in self.list_commands(ctx)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the name of a command without importing any."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [
            CompletionItem(name, help=self.table[name][1])
            for name in self.list_commands(ctx)
            if name.startswith(incomplete)
        ]
