"""How the commands of `pitboss dlt` are told which dead letters are meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click
import msgspec

from pitboss.ops.dead_letters import DeadLetterSnapshot
from pitboss.settings import Runtime
from runtime.dead_letters.headers import format_position, parse_position
from runtime.dead_letters.letters import CaseFilter, CaseState, DeadLetterCase, source_topic
from schemas.errors import UsageError
from schemas.events import Position
from schemas.topics import PROVIDER_NAME, dead_letter_topic, raw_topic

json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
STATES = click.Choice([state.value.lower() for state in CaseState])


def filter_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--player", help="Only of this player, by key or content."),
        click.option(
            "--source", "sources", multiple=True, metavar="TOPIC-PART@OFFSET", help="This record."
        ),
        click.option(
            "--topic", "topics", multiple=True, help="A source topic, or a provider's name."
        ),
        click.option("--code", "codes", multiple=True, help="A reject code, as in BAD_AMOUNT."),
    ):
        command = option(command)
    return command


def action_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        json_option,
        click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing."),
        click.option("--by", "actor", required=True, help="Who does it; kept on record."),
        click.option("--why", "reason", required=True, help="Why; kept on record."),
        click.option("--all", "is_all", is_flag=True, help="Every open one."),
    ):
        command = option(command)
    return filter_options(command)


def parse_required_filter(
    runtime: Runtime,
    codes: Sequence[str],
    topics: Sequence[str],
    sources: Sequence[str],
    player: str | None,
    *,
    is_all: bool,
) -> CaseFilter:
    """Of what is open; what is named by its source is looked at whatever its state, to say so."""
    if not (codes or topics or sources or player or is_all):
        raise UsageError(
            "say which: --code, --topic, --source, --player, or --all for every open one"
        )
    choice = parse_filter(runtime, codes, topics, sources, player)
    return (
        choice if sources else msgspec.structs.replace(choice, states=frozenset({CaseState.OPEN}))
    )


def parse_filter(
    runtime: Runtime,
    codes: Sequence[str],
    topics: Sequence[str],
    sources: Sequence[str],
    player: str | None,
) -> CaseFilter:
    return CaseFilter(
        frozenset(code.upper() for code in codes),
        frozenset(_topic(runtime, name) for name in topics),
        frozenset(parse_source(runtime, source) for source in sources),
        player,
    )


def _topic(runtime: Runtime, name: str) -> str:
    """A topic as on the broker, from its name with or without the namespace, or a provider's name."""
    name = source_topic(name)
    if PROVIDER_NAME.fullmatch(name):
        name = raw_topic(name)
    return name if runtime.prefix and name.startswith(runtime.prefix) else runtime.topic(name)


def parse_source(runtime: Runtime, text: str) -> Position:
    place = parse_position(text)
    if place is None:
        raise UsageError(f"{text!r} is no place of a record: write <topic>-<partition>@<offset>")
    topic = _topic(runtime, place.topic)
    return Position(
        dead_letter_topic(topic) if is_on_dead_letter_topic(place) else topic,
        place.partition,
        place.offset,
    )


def is_on_dead_letter_topic(place: Position) -> bool:
    return source_topic(place.topic) != place.topic


def find_case(cases: Sequence[DeadLetterCase], place: Position) -> DeadLetterCase:
    for case in cases:
        if case.source == place or any(letter.position == place for letter in case.letters):
            return case
    raise UsageError(
        f"there is no dead letter of or at {format_position(place)}: see `pitboss dlt list`"
    )


def check_sources(found: DeadLetterSnapshot, choice: CaseFilter) -> None:
    known = {case.source for case in found.cases}
    for source in choice.sources - known:
        raise UsageError(
            f"there is no dead letter of {format_position(source)}: see `pitboss dlt list`"
        )


def check_audit_text(option: str, text: str, characters_max: int) -> None:
    if not text.strip() or len(text) > characters_max or not text.isprintable():
        raise UsageError(
            f"{option} goes on record: give 1 to {characters_max} printable characters"
        )
