"""`pitboss completion`: the script by which a shell completes commands, options and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from pitboss.cli.suggestions import NameChoice

SHELLS = ("bash", "zsh", "fish")
COMPLETE_VARIABLE = "_PITBOSS_COMPLETE"
"""The variable by which click's script asks `pitboss` for completions."""


@click.command()
@click.argument("shell", type=NameChoice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    It completes commands, options, and the names of providers, roles, topics, rules and codes
    without asking a server. bash: eval "$(pitboss completion bash)" in ~/.bashrc; zsh: the same
    with zsh in ~/.zshrc; fish: pitboss completion fish | source in ~/.config/fish/config.fish.
    """
    found = get_completion_class(shell)
    assert found is not None, f"click has no completion for {shell}"
    root = context.find_root().command
    click.echo(found(root, {}, "pitboss", COMPLETE_VARIABLE).source())
