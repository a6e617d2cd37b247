"""`pitboss fraud`: the features that the detectors measure, and the detectors' score."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from fraud_agents.features import FEATURES, Feature
from pitboss.cli import screen
from pitboss.cli.suggestions import SuggestingGroup
from pitboss.lab_package import requiring_lab

json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")


@click.group(cls=SuggestingGroup)
def fraud() -> None:
    """Show what the detectors measure, and how well they find what they are for."""


@fraud.command()
@json_option
def features(*, as_json: bool) -> None:
    """Print the feature contract: clock, bounds, and the rules of time, currency and null."""
    if as_json:
        click.echo(msgspec.json.encode([_row(feature) for feature in FEATURES]))
        return
    for feature in FEATURES:
        screen.show_pairs([*_row(feature).items()])
        click.echo()


def _row(feature: Feature) -> dict[str, str]:
    return {
        "feature": feature.name,
        "meaning": feature.meaning,
        "clock": feature.clock,
        "bounds": feature.bounds,
        "late": feature.late,
        "currency": feature.currency,
        "null": feature.nulls,
    }


@fraud.command("score")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="The traffic.")
@click.option("--verbose", "-v", is_flag=True, help="Name the cases missed and the false alerts.")
@json_option
def score_command(*, seed: int, verbose: bool, as_json: bool) -> None:
    """Run the default rules over labelled traffic of a seed, in this process, and score them.

    It needs no server. A detector that does not exist yet is null.
    """
    with requiring_lab("`pitboss fraud score`"):
        from lab.fraud.scoring import run_detectors, score
        from lab.fraud.traffic import make_traffic
    traffic = make_traffic(seed)
    result = score(traffic, run_detectors(traffic), seed=seed)
    if as_json:
        click.echo(msgspec.json.encode(result))
        return
    table = screen.table(
        "detector", "recall", "precision", "s to alert", "cases", "near-misses", "alerts"
    )
    for name, one in result.detectors.items():
        table.add_row(name, *(_cells(one) if one else ["not there yet", *[""] * 5]))
    screen.show(table)
    click.echo(f"precision {result.precision} over {result.records} records")
    click.echo(f"alerts on hard negatives: {', '.join(result.hard_negative_alerts) or 'none'}")
    for name, one in result.detectors.items() if verbose else ():
        for line in (*one.missed, *one.false_alerts) if one else ():
            click.echo(f"{name}: {line}")


def _cells(one: Any) -> list[str]:
    seconds = "" if one.seconds_to_alert is None else f"{one.seconds_to_alert:.1f}"
    counts = (one.injections, one.near_misses, one.alerts)
    return [f"{one.recall:.3f}", f"{one.precision:.3f}", seconds, *map(str, counts)]


@fraud.command("leakage")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="The traffic.")
@click.option("--marked", default=2_000, show_default=True, type=click.IntRange(1))
@json_option
@click.pass_context
def leakage_command(context: click.Context, *, seed: int, marked: int, as_json: bool) -> None:
    """Check that labelled traffic does not give its labels away, in this process.

    Ordinary players of the traffic that `fraud score` uses, marked at random, and as many others:
    the score of the markers of harm has to rank them alike. Exit code 1 if it does not.
    """
    with requiring_lab("`pitboss fraud leakage`"):
        from lab.fraud.leakage import AUC_BOUNDS, measure_leakage
    found = measure_leakage(seed, marked=marked)
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        table = screen.table("markers", "marked", "others")
        for score, counts in found.scores.items():
            table.add_row(str(score), *map(str, counts))
        screen.show(table)
        low, high = AUC_BOUNDS
        click.echo(f"area under the curve {found.auc}, fair from {low} to {high}")
    context.exit(0 if found.is_fair else 1)
