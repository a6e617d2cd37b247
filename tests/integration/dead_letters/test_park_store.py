"""The park table: what two workers save of one hold, in whatever order, is what both of them found."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ledger_sink.store.migrate import migrate
from pitboss.settings import Runtime
from runtime.dead_letters.key_holds import KeyHold
from runtime.dead_letters.park_store import ParkStore

pytestmark = pytest.mark.integration

TOPIC, PARTITION = "provider.hub88.raw.v1", 3
EARLIER = KeyHold(b"p", 4, 7, 7, 1_000, "BAD_AMOUNT", moves=frozenset({5, 7}))
LATER = KeyHold(b"p", 4, 9, 9, 1_000, "BAD_TIME", moves=frozenset({7, 9}))


@dataclass
class Record:
    offset: int
    topic: str = TOPIC
    partition: int = PARTITION
    timestamp: int = 1_000
    key: bytes | None = b"p"
    value: bytes | None = b"body"
    headers: tuple[tuple[str, bytes], ...] = (("redrive-of", b"x"),)


@pytest.mark.parametrize("order", [(EARLIER, LATER), (LATER, EARLIER)])
async def test_a_hold_is_where_its_last_move_left_it_and_knows_every_move(
    runtime: Runtime, order: tuple[KeyHold, KeyHold]
):
    migrate(runtime.database_url)
    store = ParkStore(runtime.database_url, "pitboss.test")
    try:
        for hold in order:
            await store.save(TOPIC, PARTITION, [hold], [(hold, Record(6)), (hold, Record(8))], [6])
        [loaded] = await store.load(TOPIC, PARTITION, 4)
        [waiting] = await store.waiting(TOPIC, PARTITION, loaded)
    finally:
        await store.close()
    assert (loaded.waits_for, loaded.moved_at, loaded.code) == (9, 9, "BAD_TIME")
    assert loaded.moves == {5, 7, 9}
    assert (loaded.waiting, loaded.waiting_bytes, loaded.last_parked) == (1, 4, 8)
    assert (waiting.offset, waiting.value, waiting.headers) == (8, b"body", [("redrive-of", b"x")])
