"""What is known of players for a time after they were last seen, in event time. Pure.

For what a player says once and later records build on: the affiliate of a registration, a card, a
device. Everything of a player is forgotten together, `KNOWN_MS` after the last record of theirs
that the detector sees, so the memory is bounded by the players of that time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final, Generic, TypeVar

V = TypeVar("V")

KNOWN_MS: Final = 370 * 86_400_000
"""As D08 remembers instruments: a year, and some days for those who play once a year."""


class PlayerMemory(Generic[V]):
    """A value for each player, in the order in which they were last seen."""

    def __init__(self) -> None:
        self._rows: OrderedDict[str, tuple[int, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, player: str, at_ms: int) -> V | None:
        """Return what is known of a player at a time; None where nothing is.

        It depends on the times of records alone, not on when `forget` was called.
        """
        held = self._rows.get(player)
        return None if held is None or held[0] + KNOWN_MS < at_ms else held[1]

    def see(self, player: str, at_ms: int) -> V | None:
        """Return as `get`, and note that the player has a record; times must not go back."""
        value = self.get(player, at_ms)
        if value is not None:
            self.put(player, at_ms, value)
        return value

    def put(self, player: str, at_ms: int, value: V) -> None:
        """Remember a value of a player who has a record at `at_ms`, in place of the earlier."""
        self._rows[player] = (at_ms, value)
        self._rows.move_to_end(player)

    def pop(self, player: str) -> V | None:
        """Forget a player and return what was held of them, out of date or not."""
        held = self._rows.pop(player, None)
        return None if held is None else held[1]

    def forget(self, watermark_ms: int) -> Iterator[tuple[str, V]]:
        """Forget who was not seen for so long, and yield each with the value."""
        while self._rows:
            player, (seen_ms, value) = next(iter(self._rows.items()))
            if seen_ms + KNOWN_MS >= watermark_ms:
                break
            del self._rows[player]
            yield player, value

    def items(self) -> Iterator[tuple[str, int, V]]:
        """Yield player, time and value, who was not seen for longest first; for a snapshot."""
        for player, (seen_ms, value) in self._rows.items():
            yield player, seen_ms, value

    def restore(self, items: Iterable[tuple[str, int, V]]) -> None:
        """Take over the items of another memory."""
        self._rows = OrderedDict((player, (seen_ms, value)) for player, seen_ms, value in items)
