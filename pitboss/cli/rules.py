"""`pitboss rules`: the rules that the detectors apply, with the reason for every number."""

from __future__ import annotations

from collections.abc import Iterator

import click
import msgspec
from click.shell_completion import CompletionItem

from fraud_agents.rule_book import VersionStatus
from fraud_agents.rule_set import RuleState
from fraud_agents.rules import Limit, Rule
from pitboss.cli import rule_changes, screen
from pitboss.cli.rule_backtest import test_command
from pitboss.cli.rule_changes import read_known_book, state_text
from pitboss.cli.suggestions import DETECTOR_RULE, SuggestingGroup
from schemas.errors import UsageError, suggest

json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")


def _complete_rule(
    context: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return DETECTOR_RULE.shell_complete(context, param, incomplete)


@click.group(cls=SuggestingGroup)
def rules() -> None:
    """Show the rules of the detectors, and change them while the worker runs."""


@rules.command("list")
@json_option
def list_command(*, as_json: bool) -> None:
    """List the published versions of the rules, each with its state, severity and digest.

    Without servers those of the release, which are active by default.
    """
    found = _read_versions()
    if as_json:
        click.echo(msgspec.json.encode([_fields(one) for one in found]))
        return
    table = screen.table("version", "title", "state", "severity", "stops", "threshold", "digest")
    for one in found:
        rule = one.rule
        stops = "yes" if rule.stops_player else "no"
        cells = (rule.title, state_text(one), rule.severity, stops)
        threshold = f"{rule.threshold} {rule.unit}"
        table.add_row(f"{rule.rule_id}:{rule.version}", *cells, threshold, rule.digest)
    screen.show(table)


@rules.command()
@click.argument("version", metavar="RULE[:VERSION]", shell_complete=_complete_rule)
@json_option
def show(*, version: str, as_json: bool) -> None:
    """Show one rule: every number with its unit and source, its words, its state and its reason.

    Without a version it is the active one; without one that is active, the latest.
    """
    found = _find(version)
    rule = found.rule
    if as_json:
        click.echo(msgspec.json.encode(_fields(found)))
        return
    screen.show_pairs(
        [
            ("rule", f"{rule.rule_id} version {rule.version}, {rule.digest}"),
            ("title", rule.title),
            *_publication(found),
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


def _publication(one: VersionStatus) -> Iterator[tuple[str, str]]:
    """Yield what a person has said of a version: its state, and whom it is for."""
    rule = one.rule
    by = f", by {one.actor}: {one.reason}" if one.actor else ", of the release"
    yield "state", f"{state_text(one)}{by}"
    if rule.detector_id != rule.rule_id:
        yield "detector", rule.detector_id
    if rule.owner:
        yield "owner", rule.owner
    for name, limited in (("scope", rule.scope), ("control group", rule.control)):
        if limited is not None:
            yield name, msgspec.json.encode(limited).decode()


def _numbers(rule: Rule) -> Iterator[tuple[str, str]]:
    for name, limit in rule.limits.items():
        yield name, _describe(limit)
    for region, limits in rule.regions.items():
        for name, limit in limits.items():
            yield f"{name} in {region}", _describe(limit)


def _describe(limit: Limit) -> str:
    return f"{limit.alerts} {limit.value} {limit.unit} ({limit.source})"


def _fields(one: VersionStatus) -> dict[str, object]:
    """Return a version as JSON has it."""
    set_by = {"state": one.state.value, "percent": one.percent, "set_by": one.actor}
    return {**msgspec.to_builtins(one.rule), "digest": one.rule.digest, **set_by}


def _read_versions() -> list[VersionStatus]:
    """Return every published version, by rule and number."""
    versions = read_known_book().versions
    return [versions[name] for name in sorted(versions)]


def _find(text: str) -> VersionStatus:
    """Return a version by its name, or the one that a rule is known by.

    Raises UsageError where it is not published.
    """
    name, found = text.upper(), _read_versions()
    for one in found:
        if f"{one.rule.rule_id}:{one.rule.version}" == name.replace("@", ":"):
            return one
    own = [one for one in found if one.rule.rule_id == name]
    if own:
        return next((one for one in own if one.state is RuleState.ACTIVE), own[-1])
    known = [f"{one.rule.rule_id}:{one.rule.version}" for one in found]
    hint = suggest(name, [*known, *{one.rule.rule_id for one in found}])
    raise UsageError(f"rule {text} is not published{hint or ': there are ' + ', '.join(known)}")


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
