"""`pitboss metrics`: what the workers' pages show."""

from __future__ import annotations

import json

import click

from pitboss.cli.suggestions import NameChoice, SuggestingGroup
from pitboss.workers import ALL_ROLES


@click.group(cls=SuggestingGroup)
def metrics() -> None:
    """List the metrics that workers show."""


@metrics.command("list")
@click.option("--role", type=NameChoice(ALL_ROLES), help="Only those of one role.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_(role: str | None, as_json: bool) -> None:
    """List every metric with its type, unit, labels, bound of series, and meaning.

    A worker shows them on `/metrics` of its port (PITBOSS_TELEMETRY_PORT). The bound is how many
    series of the metric one worker has at most: none grows with players, rounds or events.
    """
    from runtime.telemetry.catalogue import METRICS, metrics_of

    for metric in METRICS if role is None else metrics_of(role):
        if as_json:
            click.echo(json.dumps(metric.as_json()))
            continue
        labels = f" by {', '.join(metric.labels)}" if metric.labels else ""
        click.echo(f"{metric.prometheus_name}  {metric.type}, {metric.unit}{labels}")
        click.echo(f"    {metric.meaning}")
        click.echo(f"    at most {metric.series_max:,} series: {metric.bound}")
