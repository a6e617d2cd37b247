"""Letting records gather: a small batch costs nearly what a large one costs, so that a feed of few records waits.

It waits the longer, the more records its last fetch had: a lone one is followed at once, at some thousand a second the
wait is `WAIT_MAX_S`, and behind a large batch, where more lies ready, there is none. Nothing is decided here but when
to ask: what is fetched, and where a batch begins and ends, is the intake's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from aiokafka.structs import ConsumerRecord, TopicPartition

Fetched: TypeAlias = Mapping[TopicPartition, Sequence[ConsumerRecord[Any, Any]]]

WAIT_S_PER_RECORD: Final = 0.001
WAIT_MAX_S: Final = 0.015
"""Of the time that a decision may take; a transaction of the ledger takes about as long."""

_LONG_S: Final = 0.005
_BEHIND_MS: Final = 5


class Gathering:
    """How long one feed waits before its next fetch."""

    def __init__(self) -> None:
        self.wait_s = 0.0

    def note(self, records: int, *, is_much: bool) -> float:
        """How long to wait after a fetch of so many records; not at all if they are `is_much` of a batch already."""
        self.wait_s = 0.0 if is_much else min(WAIT_MAX_S, WAIT_S_PER_RECORD * records)
        return self.wait_s

    async def fetch(
        self, ask: Callable[[int], Awaitable[Fetched]], timeout_ms: int, is_same: Callable[[], bool]
    ) -> Fetched:
        """What `ask` gives within a time-out; after a long wait, with what came meanwhile.

        The client asks the broker as soon as it has handed out what it had, so that after a wait it holds what came at
        the beginning of it; all that gathered lies behind. Without a time-out nothing is waited for. `is_same` says
        whether the partitions are still held as they were: what two assignments fetched must not be put together.
        """
        first = await ask(timeout_ms)
        if not timeout_ms or self.wait_s < _LONG_S or not first or not is_same():
            return first
        behind = await ask(_BEHIND_MS)
        if not is_same():
            return behind
        return {tp: [*first.get(tp, ()), *behind.get(tp, ())] for tp in {**first, **behind}}
