"""`pitboss rules`: the rules that the detectors apply, with the reason for every number."""

from __future__ import annotations

from collections.abc import Iterator

import click
import msgspec

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.rules import Limit, Rule
from pitboss.cli import rule_changes, screen
from pitboss.cli.rule_backtest import test_command
from pitboss.cli.suggestions import DETECTOR_RULE, SuggestingGroup
from schemas.errors import UsageError

json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")


@click.group(cls=SuggestingGroup)
def rules() -> None:
    """Show the rules of the detectors, and change them while the worker runs."""


@rules.command("list")
@json_option
def list_command(*, as_json: bool) -> None:
    """List the rules that are active by default, with their versions and digests."""
    if as_json:
        rows = [{**msgspec.to_builtins(rule), "digest": rule.digest} for rule in DEFAULT_RULES]
        click.echo(msgspec.json.encode(rows))
        return
    table = screen.table("rule", "title", "version", "severity", "threshold", "digest")
    for rule in DEFAULT_RULES:
        threshold = f"{rule.threshold} {rule.unit}"
        table.add_row(
            rule.rule_id, rule.title, str(rule.version), rule.severity, threshold, rule.digest
        )
    screen.show(table)


@rules.command()
@click.argument("rule_id", type=DETECTOR_RULE)
@json_option
def show(*, rule_id: str, as_json: bool) -> None:
    """Show one rule: every number with its unit and source, its words, and its reason."""
    rule = _find(rule_id)
    if as_json:
        click.echo(msgspec.json.encode({**msgspec.to_builtins(rule), "digest": rule.digest}))
        return
    screen.show_pairs(
        [
            ("rule", f"{rule.rule_id} version {rule.version}, {rule.digest}"),
            ("title", rule.title),
            ("severity", rule.severity),
            ("stops the player", "yes" if rule.stops_player else "no"),
            ("threshold", f"{rule.threshold} {rule.unit}"),
            ("window", f"{rule.window_ms / 1_000:g} s, grace {rule.grace_ms / 1_000:g} s"),
            ("cool-down", f"{rule.cooldown_ms / 1_000:g} s"),
            ("forgotten after", f"{rule.idle_ms / 1_000:g} s of silence"),
            *_numbers(rule),
            *((name, ", ".join(words)) for name, words in rule.words.items()),
            ("reason", rule.reason),
        ]
    )


def _numbers(rule: Rule) -> Iterator[tuple[str, str]]:
    for name, limit in rule.limits.items():
        yield name, _describe(limit)
    for region, limits in rule.regions.items():
        for name, limit in limits.items():
            yield f"{name} in {region}", _describe(limit)


def _describe(limit: Limit) -> str:
    return f"{limit.alerts} {limit.value} {limit.unit} ({limit.source})"


def _find(rule_id: str) -> Rule:
    for rule in DEFAULT_RULES:
        if rule.rule_id == rule_id:
            return rule
    known = ", ".join(rule.rule_id for rule in DEFAULT_RULES)
    raise UsageError(f"rule {rule_id} is not known: there are {known}")


for _command in (
    rule_changes.status,
    rule_changes.publish,
    rule_changes.activate,
    rule_changes.pause,
    rule_changes.snooze,
    rule_changes.segment,
    rule_changes.diff,
    test_command,
):
    rules.add_command(_command)
