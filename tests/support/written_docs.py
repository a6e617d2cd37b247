"""The parts of the documents that are written from the code: `make docs` writes them.

A part stands between the two comments of `_MARKS`. The tests compare it with what the code says now.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from fraud_agents.detectors import DEFAULT_RULES, DETECTORS
from fraud_agents.detectors.catalogue import SIGNAL_DETECTORS
from fraud_agents.rules import Limit, Rule
from pitboss.cli.main import cli
from pitboss.setting_table import SETTINGS
from pitboss.setting_types import format_reference
from runtime.telemetry.catalogue import format_metrics
from streams.providers.registry import DIALECTS

ROOT = Path(__file__).parents[2]
PROVIDERS = ROOT / "docs" / "reference" / "providers"

_BEGIN, _END = "<!-- written by `make docs`: {} -->", "<!-- end: {} -->"


def commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Yield every command that is no group, with its full name and a context for its help."""

    def walk(command: click.Command, ctx: click.Context):
        if not isinstance(command, click.Group):
            yield ctx.command_path, command, ctx
            return
        for name in command.list_commands(ctx):
            child = command.get_command(ctx, name)
            assert child is not None, name
            yield from walk(child, click.Context(child, parent=ctx, info_name=name))

    yield from walk(cli, click.Context(cli, info_name="pitboss"))


def write_commands() -> str:
    """Return every command with its help, as Markdown."""
    parts = []
    for name, command, ctx in commands():
        usage = " ".join([name, *command.collect_usage_pieces(ctx)])
        parts.append(f"### {name}\n\n```text\n{usage}\n```\n\n{_help_of(command)}\n")
        options = [
            f"- `{record[0]}`: {record[1]}" if record[1] else f"- `{record[0]}`"
            for parameter in command.get_params(ctx)
            if parameter.name != "help"
            if (record := parameter.get_help_record(ctx)) is not None
        ]
        if options:
            parts.append("\n".join(options) + "\n")
    return "\n".join(parts)


def _help_of(command: click.Command) -> str:
    """Return a command's help: `\\b`, which keeps click from wrapping, marks a block of text."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    return "\n\n".join(
        f"```text\n{paragraph.removeprefix(chr(8)).strip(chr(10))}\n```"
        if paragraph.startswith("\b")
        else paragraph
        for paragraph in paragraphs
    )


def write_providers() -> str:
    """Return the table of the providers: each page's title, topic and versions."""
    rows = ["| provider | topic | versions |", "|---|---|---|"]
    for name in sorted(DIALECTS):
        title = (PROVIDERS / f"{name}.md").read_text().partition("\n")[0].removeprefix("# ")
        versions = ", ".join(version.row.version for version in DIALECTS.versions(name))
        rows.append(f"| [{title}]({name}.md) | `provider.{name}.raw.v1` | {versions} |")
    return "\n".join(rows) + "\n"


def write_settings() -> str:
    """Return the table of all settings."""
    return format_reference(SETTINGS) + "\n"


def write_detectors() -> str:
    """Return every default rule: what it finds, its numbers with their sources, and its reason."""
    parts = []
    for rule in DEFAULT_RULES:
        classes = DETECTORS[rule.rule_id]
        over_signals = SIGNAL_DETECTORS.get(rule.rule_id)
        module = sys.modules[(over_signals or classes[0]).__module__]
        text = inspect.cleandoc(module.__doc__ or "").partition("\n\n")[2]
        topics = " and ".join(f"`{one.topic}`" for one in classes)
        if over_signals is not None:
            topics = f"signals of {over_signals.scope.value}"
        name = f"{rule.rule_id}: {rule.title}"
        source = module.__name__.replace(".", "/") + ".py"
        rows = [
            f"| {number} | {limit.alerts} {limit.value} | {limit.unit} | {limit.source} |"
            for number, limit in _numbers_of(rule)
        ]
        rows = (
            ["", "| number | alerts | unit | source |", "|---|---|---|---|", *rows] if rows else []
        )
        words = [f"{name}: {', '.join(own)}." for name, own in rule.words.items()]
        facts = (
            f"Version {rule.version}, {rule.severity}, from {rule.threshold} {rule.unit} on;"
            f" {'may stop' if rule.stops_player else 'does not stop'} the player; reads {topics}; [source](../../{source}).\n"
        )
        parts += [
            f"### {name}\n",
            facts,
            f"{text}\n",
            f"{rule.reason}",
            *rows,
            "",
            *([" ".join(words), ""] if words else []),
        ]
    return "\n".join(parts)


def _numbers_of(rule: Rule) -> Iterator[tuple[str, Limit]]:
    yield from rule.limits.items()
    for region, limits in rule.regions.items():
        yield from ((f"{name} in {region}", limit) for name, limit in limits.items())


def write_metrics() -> str:
    """Return the table of all metrics."""
    return format_metrics() + "\n"


WRITTEN: dict[Path, tuple[str, Callable[[], str]]] = {
    ROOT / "docs" / "reference" / "command-line.md": ("commands", write_commands),
    ROOT / "docs" / "reference" / "configuration.md": ("settings", write_settings),
    ROOT / "docs" / "reference" / "detectors.md": ("detectors", write_detectors),
    ROOT / "docs" / "reference" / "metrics.md": ("metrics", write_metrics),
    PROVIDERS / "README.md": ("providers", write_providers),
}


def bring_up_to_date(path: Path) -> str:
    """Return a page's text with its written part as the code has it now."""
    name, write = WRITTEN[path]
    begin, end = _BEGIN.format(name), _END.format(name)
    text = path.read_text()
    found = re.search(f"{re.escape(begin)}\n.*?{re.escape(end)}", text, re.DOTALL)
    assert found, f"{path} lacks its marks: {begin} … {end}"
    return f"{text[: found.start()]}{begin}\n\n{write()}\n{end}{text[found.end() :]}"


if __name__ == "__main__":
    for page in WRITTEN:
        page.write_text(bring_up_to_date(page))
