"""Dead letters as a person looks at them: by the record that they are of, with what was done about
it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import msgspec

from schemas.events import DeadLetter, Position
from schemas.topics import DEAD_LETTER_SUFFIX


class CaseState(StrEnum):
    """What was done about a dead letter."""

    OPEN = "OPEN"
    REDRIVEN = "REDRIVEN"
    DROPPED = "DROPPED"


class Action(msgspec.Struct, frozen=True):
    """Who had what done and why; `asked_at` in epoch ms.

    Not `is_done`: it may or may not have come to the append.
    """

    id: int
    source: Position
    action: str
    code: str
    actor: str
    reason: str
    is_forced: bool
    requested_at: int
    is_done: bool
    appended_at: Position | None
    """Where the bytes were appended, or the mark of a drop behind which others had waited."""


class Letter(msgspec.Struct, frozen=True):
    """A dead letter and its own place."""

    position: Position
    letter: DeadLetter


class DeadLetterCase(msgspec.Struct, frozen=True):
    """A source record with its letters: one for the whole record, or one for each item that was
    unusable.

    Where the items were too many for that, there is one for the whole record beside the first item
    of each code.
    """

    source: Position
    letters: tuple[Letter, ...]
    actions: tuple[Action, ...] = ()

    @property
    def state(self) -> CaseState:
        """What the last finished action made of it."""
        for action in reversed(self.actions):
            if action.is_done:
                return CaseState.REDRIVEN if action.action == "REDRIVE" else CaseState.DROPPED
        return CaseState.OPEN

    @property
    def last_done(self) -> Action | None:
        """The action that made its state."""
        return next((action for action in reversed(self.actions) if action.is_done), None)

    @property
    def letter(self) -> DeadLetter:
        """The letter that holds the record's bytes, key and headers; where none does, the first."""
        return next(
            (one.letter for one in self.letters if one.letter.value is not None),
            self.letters[0].letter,
        )

    @property
    def codes(self) -> tuple[str, ...]:
        """Every reason, once, in the order of the items."""
        return tuple(dict.fromkeys(letter.letter.code for letter in self.letters))

    def concerns(self, player: str) -> bool:
        """Whether a letter names a player, or the key does."""
        return self.letter.key == player.encode() or any(
            one.letter.player_id == player for one in self.letters
        )


class DeadLetterGroup(msgspec.Struct, frozen=True):
    """The cases of one source topic and code; times are the broker's, of the source records, in
    epoch ms.
    """

    topic: str
    code: str
    stage: str
    count: int
    open: int
    redriven: int
    dropped: int
    first_at: int
    last_at: int
    sample: str


class CaseFilter(msgspec.Struct, frozen=True):
    """Which cases are meant: all that fit everything that is given. Topics as on the broker."""

    codes: frozenset[str] = frozenset()
    topics: frozenset[str] = frozenset()
    sources: frozenset[Position] = frozenset()
    player: str | None = None
    states: frozenset[CaseState] = frozenset(CaseState)

    def matches(self, case: DeadLetterCase) -> bool:
        """Whether a case is meant."""
        return (
            (not self.codes or not self.codes.isdisjoint(case.codes))
            and (not self.topics or case.source.topic in self.topics)
            and (not self.sources or case.source in self.sources)
            and (self.player is None or case.concerns(self.player))
            and case.state in self.states
        )


def collect_cases(
    letters: Iterable[Letter], actions: Mapping[Position, Sequence[Action]]
) -> list[DeadLetterCase]:
    """The cases in the order of their source topics, partitions and offsets.

    A letter may be on its topic several times, since a batch is repeated after a crash: the newest
    copy counts.
    """
    found: dict[Position, dict[tuple[str, int], Letter]] = {}
    for letter in letters:
        said = letter.letter
        item = -1 if said.record_index is None else said.record_index
        found.setdefault(said.source, {})[said.stage, item] = letter
    return [
        DeadLetterCase(
            source, tuple(by_item[item] for item in sorted(by_item)), tuple(actions.get(source, ()))
        )
        for source, by_item in sorted(found.items(), key=lambda pair: _order(pair[0]))
    ]


def group_cases(cases: Iterable[DeadLetterCase]) -> list[DeadLetterGroup]:
    """The cases by topic and code, most first.

    A case with items of several codes counts under each of them.
    """
    found: dict[tuple[str, str, str], list[DeadLetterCase]] = {}
    for case in cases:
        for topic, code, stage in dict.fromkeys(
            (case.source.topic, one.letter.code, one.letter.stage) for one in case.letters
        ):
            found.setdefault((topic, code, stage), []).append(case)
    groups = [
        _group(topic, code, stage, members) for (topic, code, stage), members in found.items()
    ]
    return sorted(groups, key=lambda group: (-group.open, -group.count, group.topic, group.code))


def source_topic(name: str) -> str:
    """The topic whose records a name means: its own name, or that of its dead letters."""
    return name.removesuffix(DEAD_LETTER_SUFFIX)


def _group(topic: str, code: str, stage: str, cases: Sequence[DeadLetterCase]) -> DeadLetterGroup:
    times = [case.letter.source_timestamp for case in cases]
    states = [case.state for case in cases]
    # Many records have one millisecond: the log's order tells which came last.
    sample = max(
        cases,
        key=lambda case: (
            case.state is CaseState.OPEN,
            case.letter.source_timestamp,
            case.source.offset,
        ),
    ).source
    return DeadLetterGroup(
        topic,
        code,
        stage,
        len(cases),
        states.count(CaseState.OPEN),
        states.count(CaseState.REDRIVEN),
        states.count(CaseState.DROPPED),
        min(times),
        max(times),
        f"{sample.topic}-{sample.partition}@{sample.offset}",
    )


def _order(place: Position) -> tuple[str, int, int]:
    return place.topic, place.partition, place.offset
