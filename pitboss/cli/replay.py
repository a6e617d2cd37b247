"""`pitboss replay`: what the topics remember, read again without disturbing the live system."""

from __future__ import annotations

import click

from pitboss.cli.replay_compare import compare
from pitboss.cli.replay_export import export
from pitboss.cli.replay_ledger import ledger_command
from pitboss.cli.replay_plot import plot
from pitboss.cli.replay_record import play, record
from pitboss.cli.replay_sql import sql
from pitboss.cli.suggestions import SuggestingGroup


@click.group(cls=SuggestingGroup)
def replay() -> None:
    """Export, rebuild and check what the topics remember."""


for command in (export, ledger_command, sql, compare, plot, record, play):
    replay.add_command(command)
