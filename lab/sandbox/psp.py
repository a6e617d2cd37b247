"""How a payment provider sends its notices: several of one merchant account in one request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final

from lab.sandbox.actions import Action, GameAction, HouseAction, PspBatch, PspItem

BATCH_ITEMS_MAX: Final = 5
BATCH_WAIT_MS: Final = 1_500


@dataclass(slots=True)
class _OpenBatch:
    full_at: int
    due_ms: int
    items: list[PspItem] = field(default_factory=list)


def batch_notices(
    actions: Iterable[Action], rng: Random
) -> Iterator[GameAction | HouseAction | PspBatch]:
    """The actions, in order of time, with notices gathered: a batch goes when it is full or has
    waited long enough.

    Items of different brands never share a batch: each brand has its own merchant account, and the
    connector knows the brand by the address that the request came to.
    """
    open_batches: dict[str, _OpenBatch] = {}
    for action in actions:
        yield from _due(open_batches, action.at_ms)
        if not isinstance(action, PspItem):
            yield action
            continue
        brand = action.player.brand
        batch = open_batches.get(brand)
        if batch is None:
            batch = _OpenBatch(rng.randint(1, BATCH_ITEMS_MAX), action.at_ms + BATCH_WAIT_MS)
            open_batches[brand] = batch
        batch.items.append(action)
        if len(batch.items) == batch.full_at:
            del open_batches[brand]
            yield PspBatch(action.at_ms, tuple(batch.items))
    for batch in sorted(open_batches.values(), key=lambda batch: batch.due_ms):
        yield PspBatch(batch.due_ms, tuple(batch.items))


def _due(open_batches: dict[str, _OpenBatch], now_ms: int) -> Iterator[PspBatch]:
    late = [brand for brand, batch in open_batches.items() if batch.due_ms <= now_ms]
    for brand in sorted(late, key=lambda brand: open_batches[brand].due_ms):
        batch = open_batches.pop(brand)
        yield PspBatch(batch.due_ms, tuple(batch.items))
