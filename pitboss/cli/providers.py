"""`pitboss providers`: the versions that are spoken, their traffic, and whether their adapters keep their promises."""

from __future__ import annotations

import click

from pitboss.cli.providers_fuzz import fuzz


@click.group()
def providers() -> None:
    """Providers, their versions and their adapters."""


providers.add_command(fuzz)
