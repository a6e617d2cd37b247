"""How long records are gathered, and what is sent then. The consumer is that of `tests.support.simulated_consumer`."""

from __future__ import annotations

import asyncio
from itertools import pairwise

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
    [(0, 0.0), (1, 0.0), (3, 0.006), (6, LINGER_MAX_S), (499, LINGER_MAX_S), (500, 0.0)],
)
def test_the_longest_wait_grows_with_what_came_and_a_large_batch_has_none(records, wait_s):
    assert Linger(2_000, int).wait_max_s(records) == pytest.approx(wait_s)


class Waits:
    """A linger, and the records that it counts."""

    def __init__(self) -> None:
        self.records = 0
        self.linger = Linger(2_000, lambda: self.records)

    async def after(self, sent: int, *comes: int, before: int = 0) -> float:
        """Return how long the wait is, if so many records are there after each further 10 ms."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        self.records = before
        for number, records in enumerate(comes, 1):
            loop.call_later(number / 100, self.fetch, records)
        await self.linger.wait(sent)
        return loop.time() - began_s

    def fetch(self, records: int) -> None:
        self.records = records
        self.linger.note_fetch()


@in_virtual_time
async def test_the_wait_is_over_when_as_many_have_come_as_the_batch_had(monkeypatch):
    monkeypatch.setattr(linger_module, "LINGER_MAX_S", 0.1)
    monkeypatch.setattr(linger_module, "LINGER_S_PER_RECORD", 0.1)
    waits = Waits()
    assert await waits.after(16, 5, 15, 16) == pytest.approx(0.03)
    assert await waits.after(16, before=16) == pytest.approx(0)


@in_virtual_time
async def test_every_third_wait_lasts_its_whole_time_and_so_does_one_for_too_few(monkeypatch):
    monkeypatch.setattr(linger_module, "LINGER_MAX_S", 0.1)
    monkeypatch.setattr(linger_module, "LINGER_S_PER_RECORD", 0.1)
    waits = Waits()
    lasted = [await waits.after(8, 16) for _ in range(6)]
    assert lasted == pytest.approx([0.01, 0.01, 0.1] * 2)
    assert await waits.after(16, 15) == pytest.approx(0.1)


@in_virtual_time
async def test_callers_that_wait_for_their_answers_become_one_batch(harness, monkeypatch):
    """Two groups that call in turn are found to be one in the first whole wait, and stay it."""
    monkeypatch.setattr(linger_module, "LINGER_MAX_S", 0.1)
    monkeypatch.setattr(linger_module, "LINGER_S_PER_RECORD", 0.1)
    answer_s = 0.04
    async with harness({A: []}, batch_records_max=400, records_ahead_max=1_600) as h:
        h.consumer.give(A)
        loop, log = asyncio.get_running_loop(), h.consumer.logs[A]

        def call(count: int) -> None:
            log.extend(range(len(log), len(log) + count))

        sizes, times = [], []
        call(8)
        loop.call_later(answer_s / 2, call, 8)
        for _ in range(12):
            batch = await h.take()
            sizes.append(batch.count)
            times.append(loop.time())
            loop.call_later(answer_s, call, batch.count)
            batch.mark_done()
        assert sizes[-6:] == [16] * 6
        rounds = [after - before for before, after in pairwise(times[-7:])]
        whole = sum(one == pytest.approx(0.1) for one in rounds)
        assert whole == 2
        assert sum(one == pytest.approx(answer_s, abs=0.02) for one in rounds) == len(rounds) - 2


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
