"""Records of the log that are not events: rejected once, or, if a newer release wrote them, never skipped."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from ledger_sink.store.event_decoder import EventDecoder
from runtime.dead_letters.sink import KafkaDeadLetterSink
from runtime.kafka.batches import RecordBatch
from schemas import codec
from schemas.events import WalletTransaction
from schemas.registry import released_registry
from tests.support.ledger_events import bet

EVENT = bet("b", 1)
BODY = codec.encoder(WalletTransaction)(EVENT)


class RecordingSink(KafkaDeadLetterSink):
    def __init__(self):
        self.rejected_offsets = []

    async def publish_all(self, rejections):
        self.rejected_offsets.append([rejection.record.offset for rejection in rejections])


def batch_of(*values):
    records = [
        SimpleNamespace(topic="log", partition=3, offset=n, value=value)
        for n, value in enumerate(values)
    ]
    return RecordBatch("log", 3, 0, len(records), records, 1)


def under(schema_id):
    return b"\0" + schema_id.to_bytes(4, "big") + BODY[5:]


@pytest.mark.parametrize(
    "poison",
    [None, b"", b"{}", BODY[:40], under(1), under(released_registry().latest("wallet-balance").id)],
)
async def test_what_is_no_event_is_buried_and_the_rest_goes_on(poison):
    dead = RecordingSink()
    decoded = await EventDecoder(dead).decode_batch(batch_of(BODY, poison, BODY))
    assert [(record.offset, event) for record, event in decoded.events] == [(0, EVENT), (2, EVENT)]
    assert dead.rejected_offsets == [[1]]


async def test_a_batch_that_is_tried_again_is_not_buried_again():
    dead = RecordingSink()
    contents, first = EventDecoder(dead), batch_of(BODY, b"poison")
    for _ in range(3):
        await contents.decode_batch(first)
    await contents.decode_batch(batch_of(BODY, b"poison", b"more"))
    assert dead.rejected_offsets == [[1], [1, 2]]


async def test_an_event_of_a_newer_release_is_neither_an_event_nor_rejected():
    newer = max(schema.id for schema in released_registry()) + 1
    dead = RecordingSink()
    decoded = await EventDecoder(dead).decode_batch(batch_of(BODY, under(newer), BODY))
    [(record, detail)] = decoded.newer
    assert record.offset == 1
    assert f"log-3@1 was written under schema id {newer}" in detail
    assert [record.offset for record, _ in decoded.events] == [0, 2]
    assert dead.rejected_offsets == []


def test_a_small_batch_is_decoded_without_giving_the_loop_away():
    """Or what was read together would reach the committer apart, and be booked in two transactions."""
    with pytest.raises(StopIteration) as ended:
        EventDecoder(RecordingSink()).decode_batch(batch_of(BODY, BODY)).send(None)
    assert len(ended.value.value.events) == 2


async def test_a_large_batch_lets_others_in_between():
    turns: list[int] = []
    decoding = asyncio.ensure_future(
        EventDecoder(RecordingSink()).decode_batch(batch_of(*[BODY] * 250))
    )
    while not decoding.done():
        turns.append(1)
        await asyncio.sleep(0)
    assert len((await decoding).events) == 250
    assert len(turns) >= 3
