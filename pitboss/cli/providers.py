"""`pitboss providers`: versions, traffic, what messages mean, and adapters' conformance."""

from __future__ import annotations

import click

from pitboss.cli.providers_drift import drift_command
from pitboss.cli.providers_explain import explain_command
from pitboss.cli.providers_fuzz import fuzz
from pitboss.cli.providers_list import list_command
from pitboss.cli.providers_log import log_command
from pitboss.cli.providers_new import new
from pitboss.cli.suggestions import SuggestingGroup


@click.group(cls=SuggestingGroup)
def providers() -> None:
    """List providers' versions; explain messages; check and create adapters."""


providers.add_command(list_command)
providers.add_command(explain_command)
providers.add_command(fuzz)
providers.add_command(new)
providers.add_command(drift_command)
providers.add_command(log_command)
