"""Dead letters by the record that they concern, with what was done about each: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import msgspec

from schemas.events import DeadLetter, Position
from schemas.topics import DEAD_LETTER_SUFFIX


class CaseState(StrEnum):
    """State of a dead letter's case."""

    OPEN = "OPEN"
    REDRIVEN = "REDRIVEN"
    DROPPED = "DROPPED"


class Action(msgspec.Struct, frozen=True):
    """One redrive or drop: who did it and why; `requested_at` in epoch ms.

    Not `is_done`: the append may or may not have happened.
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
    """Where the bytes were appended, or the mark of a drop behind which others waited."""


class Letter(msgspec.Struct, frozen=True):
    """A dead letter and its own position."""

    position: Position
    letter: DeadLetter


class DeadLetterCase(msgspec.Struct, frozen=True):
    """A source record with its letters: one for the whole record, or one for each unusable item.

    Where the items were too many for that, there is one for the whole record beside the first item
    of each code.
    """

    source: Position
    letters: tuple[Letter, ...]
    actions: tuple[Action, ...] = ()

    @property
    def state(self) -> CaseState:
        """State of the case after its last finished action."""
        last = self.last_done
        if last is None:
            return CaseState.OPEN
        return CaseState.REDRIVEN if last.action == "REDRIVE" else CaseState.DROPPED

    @property
    def last_done(self) -> Action | None:
        """The last finished action, which made the state."""
        return next((action for action in reversed(self.actions) if action.is_done), None)

    @property
    def letter(self) -> DeadLetter:
        """The letter that holds the record's bytes, key and headers; the first one if none does."""
        letters = [one.letter for one in self.letters]
        return next((letter for letter in letters if letter.value is not None), letters[0])

    @property
    def codes(self) -> tuple[str, ...]:
        """Every reject code, each once, in the order of the items."""
        return tuple(dict.fromkeys(letter.letter.code for letter in self.letters))

    def concerns(self, player: str) -> bool:
        """Return whether a letter or the record's key names this player."""
        return self.letter.key == player.encode() or any(
            one.letter.player_id == player for one in self.letters
        )


class DeadLetterGroup(msgspec.Struct, frozen=True):
    """The cases of one source topic, code and stage.

    Times are the broker's, of the source records, in epoch ms. `sample` is the position of the
    newest open case, or of the newest case where none is open.
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
    """Filter of cases: all that match every given field. Topics as on the broker."""

    codes: frozenset[str] = frozenset()
    topics: frozenset[str] = frozenset()
    sources: frozenset[Position] = frozenset()
    player: str | None = None
    states: frozenset[CaseState] = frozenset(CaseState)

    def matches(self, case: DeadLetterCase) -> bool:
        """Return whether a case matches."""
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
    """Return the cases in the order of their source topics, partitions and offsets.

    A letter may be on its topic several times, since a batch is repeated after a crash: the newest
    copy counts.
    """
    found: dict[Position, dict[tuple[str, int], Letter]] = {}
    for letter in letters:
        content = letter.letter
        item = -1 if content.record_index is None else content.record_index
        found.setdefault(content.source, {})[content.stage, item] = letter
    return [
        DeadLetterCase(
            source, tuple(by_item[item] for item in sorted(by_item)), tuple(actions.get(source, ()))
        )
        for source, by_item in sorted(found.items(), key=lambda pair: _order(pair[0]))
    ]


def group_cases(cases: Iterable[DeadLetterCase]) -> list[DeadLetterGroup]:
    """Group cases by topic, code and stage, most open ones first.

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
    """Return the topic of the source records: the name itself, without a dead letter suffix."""
    return name.removesuffix(DEAD_LETTER_SUFFIX)


def _group(topic: str, code: str, stage: str, cases: Sequence[DeadLetterCase]) -> DeadLetterGroup:
    times = [case.letter.source_timestamp for case in cases]
    states = [case.state for case in cases]
    sample = max(cases, key=_open_and_new).source
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


def _open_and_new(case: DeadLetterCase) -> tuple[bool, int, int]:
    # Many records have the same millisecond: the log's order shows which came last.
    return case.state is CaseState.OPEN, case.letter.source_timestamp, case.source.offset


def _order(position: Position) -> tuple[str, int, int]:
    return position.topic, position.partition, position.offset
