"""How long records are gathered, and what is sent then. The consumer is that of `tests.support.simulated_consumer`."""

from __future__ import annotations

import asyncio

import pytest

from runtime.kafka.intake import linger as linger_module
from runtime.kafka.intake.linger import LINGER_MAX_S, Linger
from tests.support.intake_harness import A, harness
from tests.support.virtual_time import in_virtual_time

__all__ = ["harness"]


def offsets_of(_topic, records):
    return [r.offset for r in records]


def read(batch):
    return [offset for reading in batch.readings for offset in reading] + [
        r.offset for r in batch.records
    ]


@pytest.mark.parametrize(
    ("records", "wait_s"),
    [(0, 0.0), (1, 0.0), (3, 0.002), (16, LINGER_MAX_S), (499, LINGER_MAX_S), (500, 0.0)],
)
def test_the_wait_grows_with_what_came_and_ends_behind_a_large_batch(records, wait_s):
    assert Linger(2_000).after_batch(records) == pytest.approx(wait_s)


async def test_nothing_waits_behind_a_lone_record(harness, monkeypatch):
    monkeypatch.setattr(linger_module, "LINGER_MAX_S", 60)
    monkeypatch.setattr(linger_module, "LINGER_S_PER_RECORD", 60)
    async with harness({A: []}, batch_records_max=100, records_ahead_max=400) as h:
        h.consumer.give(A)
        for offset in range(3):
            h.consumer.logs[A].append(offset)
            assert read(await h.take()) == [offset]


@pytest.mark.parametrize("reader", [None, offsets_of])
@in_virtual_time
async def test_what_gathered_is_one_batch_and_no_more_than_fits(harness, reader, monkeypatch):
    monkeypatch.setattr(linger_module, "LINGER_MAX_S", 0.5)
    monkeypatch.setattr(linger_module, "LINGER_S_PER_RECORD", 0.5)
    async with harness(
        {A: [*range(20)]}, reader=reader, batch_records_max=100, records_ahead_max=10_000
    ) as h:
        h.consumer.give(A)
        assert read(await h.take()) == [*range(20)]
        for end in (22, 24, 40):
            h.consumer.logs[A] = [*range(end)]
            await asyncio.sleep(0.01)
        assert read(await h.take()) == [*range(20, 40)]
        h.consumer.logs[A] = [*range(300)]
        found: list[int] = []
        while len(found) < 260:
            batch = await h.take()
            assert batch.count <= 100
            found += read(batch)
        assert found == [*range(40, 300)]
