"""The options by which the commands of `pitboss dlt` select dead letters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import click
import msgspec

from pitboss.cli.option_types import RenamedOption, note_former_name
from pitboss.cli.suggestions import REJECT_CODE, TOPIC, NameChoice
from pitboss.ops.dead_letters import DeadLetterSnapshot
from pitboss.settings import Runtime
from runtime.dead_letters.headers import format_position, parse_position
from runtime.dead_letters.letters import CaseFilter, CaseState, DeadLetterCase, source_topic
from schemas.errors import UsageError, nearest_name
from schemas.events import Position
from schemas.topics import PROVIDER_NAME, dead_letter_topic, raw_topic

PLACE = "TOPIC-PARTITION@OFFSET"
json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
STATES = NameChoice([state.value.lower() for state in CaseState])


_NARROWING = (
    click.option("--player", help="Only of this player, by key or content."),
    click.option(
        "--topic",
        "topics",
        multiple=True,
        type=TOPIC,
        help="Only of this source topic, or provider.",
    ),
    click.option(
        "--code",
        "codes",
        multiple=True,
        type=REJECT_CODE,
        help="Only with this reject code, as in BAD_AMOUNT.",
    ),
)


def filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that narrow a list of dead letters to a command."""
    source = click.option(
        "--source", "sources", multiple=True, metavar=PLACE, help="Only of this record."
    )
    for option in (*_NARROWING, source):
        command = option(command)
    return command


def action_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a command that redrives or drops: selection, actor, reason and mode."""
    for option in (
        json_option,
        click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing."),
        click.option("--by", "actor", required=True, help="Who does it; kept on record."),
        click.option(
            "--reason",
            required=True,
            cls=RenamedOption,
            formerly="--why",
            help="Why; kept on record.",
        ),
        click.option("--all", "is_all", is_flag=True, help="Every open one."),
        *_NARROWING,
        click.option("--source", "former_sources", multiple=True, hidden=True),
        click.argument("sources", nargs=-1, metavar=f"[{PLACE}]..."),
    ):
        command = option(command)
    return command


def join_sources(sources: Sequence[str], former: Sequence[str]) -> tuple[str, ...]:
    """Return the places of the arguments and of the deprecated `--source`, with a note."""
    if former:
        note_former_name("--source", f"an argument: {' '.join(former)}")
    return (*sources, *former)


def parse_required_filter(
    runtime: Runtime,
    codes: Sequence[str],
    topics: Sequence[str],
    sources: Sequence[str],
    player: str | None,
    *,
    is_all: bool,
) -> CaseFilter:
    """Return the filter of a command that acts: open cases, or cases that are named by source.

    A case that is named by its source is included in any state, so that the command can report its
    state. Raises UsageError where nothing is selected.
    """
    if not (codes or topics or sources or player or is_all):
        raise UsageError(
            f"select dead letters: {PLACE}, --code, --topic, --player, or --all for every open one"
        )
    wanted = parse_filter(runtime, codes, topics, sources, player)
    if sources:
        return wanted
    return msgspec.structs.replace(wanted, states=frozenset({CaseState.OPEN}))


def parse_filter(
    runtime: Runtime,
    codes: Sequence[str],
    topics: Sequence[str],
    sources: Sequence[str],
    player: str | None,
) -> CaseFilter:
    """Return the filter of the options' values. Raises UsageError for a source of another form."""
    return CaseFilter(
        frozenset(code.upper() for code in codes),
        frozenset(_topic(runtime, name) for name in topics),
        frozenset(parse_source(runtime, source) for source in sources),
        player,
    )


def _topic(runtime: Runtime, name: str) -> str:
    """Return a topic as on the broker.

    The name may be with or without the namespace, or a provider's name.
    """
    name = source_topic(name)
    if PROVIDER_NAME.fullmatch(name):
        name = raw_topic(name)
    return name if runtime.prefix and name.startswith(runtime.prefix) else runtime.topic(name)


def parse_source(runtime: Runtime, text: str) -> Position:
    """Return the position that a text names, of a source record or of a dead letter.

    Raises UsageError for a text of another form.
    """
    position = parse_position(text)
    if position is None:
        raise UsageError(
            f"{text!r} is not the position of a record: write <topic>-<partition>@<offset>"
        )
    topic = _topic(runtime, position.topic)
    if is_on_dead_letter_topic(position):
        topic = dead_letter_topic(topic)
    return Position(topic, position.partition, position.offset)


def is_on_dead_letter_topic(position: Position) -> bool:
    """Return whether a position is that of a dead letter, not of a source record."""
    return source_topic(position.topic) != position.topic


def find_case(cases: Sequence[DeadLetterCase], position: Position) -> DeadLetterCase:
    """Return the case of a source record or of a dead letter.

    Raises UsageError if there is none.
    """
    for case in cases:
        if case.source == position or any(one.position == position for one in case.letters):
            return case
    known = {place.topic for case in cases for place in _places(case)}
    raise UsageError(f"no dead letter of or at {_not_found(position, known)}")


def check_sources(snapshot: DeadLetterSnapshot, wanted: CaseFilter) -> None:
    """Raise UsageError for a named source that has no dead letter."""
    known = {case.source for case in snapshot.cases}
    for source in wanted.sources - known:
        topics = {one.topic for one in known}
        raise UsageError(f"no dead letter of {_not_found(source, topics)}")


def _places(case: DeadLetterCase) -> Iterator[Position]:
    yield case.source
    yield from (one.position for one in case.letters)


def _not_found(position: Position, topics: Collection[str]) -> str:
    """Return the end of an error about a place; it names the nearest of the topics with cases."""
    nearest = None if position.topic in topics else nearest_name(position.topic, topics)
    hint = "" if nearest is None else f"; did you mean {nearest}?"
    return f"{format_position(position)}: see `pitboss dlt list`{hint}"


def check_audit_text(option: str, text: str, characters_max: int) -> None:
    """Raise UsageError for a text that must not go on record: empty, long or not printable."""
    if not text.strip() or len(text) > characters_max or not text.isprintable():
        raise UsageError(
            f"{option} goes on record: give 1 to {characters_max} printable characters"
        )
