"""A batch that was read in chunks comes to the same as one that was read at once."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord

from lab.sandbox.poison import CATALOGUE
from lab.sandbox.records import RawEvent
from lab.sandbox.scenario import Scenario, generate
from runtime.kafka.batches import RecordBatch
from schemas.errors import InvariantBroken
from schemas.topics import TRANSACTIONS, raw_topic
from streams.normalise.batch import NormalisedBatch
from streams.normalise.handler import create_handler, create_reader
from streams.normalise.mapping.normaliser import Normaliser
from streams.normalise.stats import NormaliseStats
from streams.providers.registry import DIALECTS
from tests.support.sandbox_keys import shared_keys

START_MS = 1_790_000_000_000


@cache
def raw_events() -> list[RawEvent]:
    scenario = Scenario(seed=5, start_ms=START_MS, events=1_500, poison=len(CATALOGUE))
    return generate(scenario, shared_keys())


@pytest.mark.parametrize("provider", ["house", "hub88", "adyen"])
def test_batches_of_chunks_add_up_to_the_whole_batch(provider):
    topic = raw_topic(provider)
    records = [
        # Appended long after it was received: some clocks are not believed.
        ConsumerRecord(
            topic, 0, n, START_MS + 7 * 86_400_000, 1, raw.key, raw.value, None, 0, 0, raw.headers
        )
        for n, raw in enumerate(raw for raw in raw_events() if raw.provider == provider)
    ]
    read = create_reader(Normaliser(DIALECTS, shared_keys().keyring()))
    whole, together, seed = (
        read(topic, records),
        NormalisedBatch(provider),
        random.randrange(1 << 30),
    )
    print("seed", seed)
    rng, start = random.Random(seed), 0
    while start < len(records):
        end = start + rng.randrange(1, 40)
        chunk = read(topic, records[start:end])
        assert len(chunk) == len(records[start:end])
        before = str(vars(chunk))
        together.extend(chunk)
        assert str(vars(chunk)) == before, "a batch may be tried again: its chunks stay as they are"
        start = end
    assert len(together) == len(whole) == len(records) > 0
    assert together.outgoing == whole.outgoing
    assert together.rejections == whole.rejections
    assert any(whole.outgoing.values())
    counts = [NormaliseStats(), NormaliseStats()]
    whole.count_into(counts[0])
    together.count_into(counts[1])
    assert counts[0] == counts[1]
    assert counts[0].clamped > 0


async def test_a_batch_that_was_not_read_is_not_passed_over():
    nothing: Any = None
    handle = create_handler(nothing, nothing, "t", NormaliseStats())
    record = ConsumerRecord(raw_topic("house"), 0, 0, START_MS, 1, b"k", b"{}", None, 1, 2, ())
    with pytest.raises(
        InvariantBroken, match=r"provider\.house\.raw\.v1-0@\[0,1\): its records were not read"
    ):
        await handle(RecordBatch(record.topic, 0, 0, 1, [record], 1))


def test_events_have_the_traceparent_of_their_record_and_no_other_header():
    parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    topic = raw_topic("hub88")
    raws = [raw for raw in raw_events() if raw.provider == "hub88"][:20]
    records = [
        ConsumerRecord(
            topic, 0, n, START_MS, 1, raw.key, raw.value, None, 0, 0,
            [*raw.headers, ("traceparent", parent if n % 2 else b"not one")],
        )
        for n, raw in enumerate(raws)
    ]  # fmt: skip
    read = create_reader(Normaliser(DIALECTS, shared_keys().keyring()))
    events = [
        [headers for *_, headers, _ in read(topic, [one]).outgoing[TRANSACTIONS]] for one in records
    ]
    assert any(events[1::2])
    assert {tuple(map(tuple, one)) for some in events[1::2] for one in some} == {
        (("traceparent", parent),)
    }
    assert {tuple(one) for some in events[::2] for one in some} == {()}
