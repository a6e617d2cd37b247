"""Dead letters of before a rebind: the offsets that they name are other records' today. Pure.

A ledger that is bound to the log of another cluster keeps its letters and what was done about them.
Their sources get a name that no topic has, so that neither a command nor a letter of today takes
the record that lies at the same offset now for theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from runtime.dead_letters.letters import Action, Letter
from schemas.events import Position

MARK: Final = "@before-"
"""Behind a topic's name, with the number of the rebind; no topic of Kafka has such a name."""


class BeforeRebind(msgspec.Struct, frozen=True):
    """What the last rebind found of the topics that it bound the ledger to."""

    rebind: int
    """Its number in the table `recovery`."""
    bound_ms: int
    """When it was done, by the database."""
    letters: dict[str, int]
    """By partition of a dead letter topic, as in `topic-0`: up to where its letters are of before.
    """
    changed: frozenset[str]
    """Partitions of source topics whose records may have other offsets than before."""

    def is_of_before(self, one: Letter) -> bool:
        """Return whether a letter names a record by an offset that may be another's today."""
        end = self.letters.get(_name(one.position), 0)
        return one.position.offset < end and _name(one.letter.source) in self.changed

    def mark_letters(self, letters: Iterable[Letter]) -> list[Letter]:
        """Return letters, those of before with the names of topics of before."""
        return [
            Letter(one.position, msgspec.structs.replace(one.letter, source=self.mark(source)))
            if self.is_of_before(one)
            else one
            for one in letters
            for source in (one.letter.source,)
        ]

    def mark_actions(
        self, actions: Mapping[Position, Sequence[Action]]
    ) -> dict[Position, list[Action]]:
        """Return the actions by source, what was done before with the names of topics of before."""
        marked: dict[Position, list[Action]] = {}
        for source, own in actions.items():
            for one in own:
                is_old = one.requested_at < self.bound_ms and _name(source) in self.changed
                marked.setdefault(self.mark(source) if is_old else source, []).append(one)
        return marked

    def mark(self, source: Position) -> Position:
        """Return the name of a record of before."""
        return msgspec.structs.replace(source, topic=f"{source.topic}{MARK}{self.rebind}")


def topic_today(name: str) -> str:
    """Return the topic on the broker of a source's topic, which may be one of before a rebind."""
    return name.partition(MARK)[0]


def is_of_before(source: Position) -> bool:
    """Return whether a source is named as one of before a rebind."""
    return MARK in source.topic


def original_source(source: Position) -> Position:
    """Return a source with the offset of before under its topic's own name, for a person."""
    return msgspec.structs.replace(source, topic=topic_today(source.topic))


def _name(position: Position) -> str:
    return f"{position.topic}-{position.partition}"
