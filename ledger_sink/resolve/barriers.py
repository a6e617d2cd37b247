"""Barriers: what has to be reached before "not found" is final, and what can no longer be. Pure.

A barrier is raised for the waiting events of one provider. Its first stage covers the raw topics
from which the event that they refer to can come: those of that provider, and those of the cashier.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from schemas.identity import HOUSE
from schemas.topics import provider_of

EndOffsets: TypeAlias = Mapping[str, int]
"""Offsets by "topic-partition". A barrier is such a mapping: positions have to reach it."""

Bounds: TypeAlias = Mapping[str, tuple[int, int]]
"""First offset and end by "topic-partition", of the partitions that exist."""

LOST_AFTER_S: Final = 30.0
"""How long a partition must be missing, by every look, until its records count as gone: a broker
that has just started may not know all of its topics."""

LOOK_EVERY_S: Final = 5.0
OLD_AFTER_S: Final = 600.0
"""Age from which a barrier is reported: what waits longer does not wait for a moment's lag."""

NAMES_SHOWN: Final = 3


def has_passed(barrier: EndOffsets, positions: EndOffsets) -> bool:
    """Return whether every partition has reached the barrier; one without a position has not."""
    return not short_of(barrier, positions)


def short_of(barrier: EndOffsets, positions: EndOffsets) -> dict[str, int]:
    """Return the part of a barrier that the positions have not reached."""
    return {name: end for name, end in barrier.items() if end and positions.get(name, 0) < end}


def relevant_ends(ends: EndOffsets, provider: str | None) -> EndOffsets:
    """Return the ends of the raw topics that an event of `provider` may have to wait for.

    Its references are to events of the same provider or of the cashier
    (`schemas.identity.referenced_event_id`). With None, that is all of them.
    """
    if provider is None:
        return ends
    owners = {provider, HOUSE}
    return {
        name: end for name, end in ends.items() if provider_of(name.rpartition("-")[0]) in owners
    }


@dataclass(frozen=True, slots=True)
class OpenBarrier:
    """A barrier that events wait behind."""

    id: int
    raw_ends: EndOffsets
    log_ends: EndOffsets | None
    """None while the first stage is not passed."""
    age_s: float
    events: int
    """How many events wait behind it."""

    def waits_for(self, normalised: EndOffsets, booked: EndOffsets) -> list[str]:
        """Return the places that it waits for, each with how far that is."""
        if self.log_ends is None:
            verb, short, reached = "normalised", short_of(self.raw_ends, normalised), normalised
        else:
            verb, short, reached = "booked", short_of(self.log_ends, booked), booked
        return [
            f"{name} ({verb} up to {reached.get(name, 0)} of {end})"
            for name, end in sorted(short.items())
        ]


def describe_wait(barrier: OpenBarrier, waits_for: Collection[str]) -> str:
    """Return a sentence, without its full stop, on what waits for how long and for what."""
    events = "1 event without a player has" if barrier.events == 1 else None
    events = events or f"{barrier.events} events without a player have"
    places = [*waits_for][:NAMES_SHOWN]
    more = f" and {len(waits_for) - NAMES_SHOWN} more" if len(waits_for) > NAMES_SHOWN else ""
    what = ", ".join(places) + more if places else "what they refer to, which is parked itself"
    return f"{events} waited for {barrier.age_s / 60:.0f} min for {what}"


@dataclass(slots=True)
class LostPartitions:
    """Decides which partitions of barriers can no longer be reached, and so count as passed.

    Their records are gone: the partition was cut behind the barrier, or does not exist any more, or
    is one of a topic that was made anew and does not reach as far.
    """

    _missing_since: dict[str, float] = field(default_factory=dict)

    def observe(self, now_s: float, waited_for: EndOffsets, bounds: Bounds) -> set[str]:
        """Return what of `waited_for` is gone, by this look at the broker and those before it."""
        missing, gone = {}, set()
        for name, end in waited_for.items():
            first, last = bounds.get(name, (0, 0))
            if first >= end:
                gone.add(name)
            elif last < end:
                missing[name] = self._missing_since.get(name, now_s)
                if now_s - missing[name] >= LOST_AFTER_S:
                    gone.add(name)
        self._missing_since = missing
        return gone
