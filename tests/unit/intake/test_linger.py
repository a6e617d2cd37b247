"""When a feed waits for more, and what it hands out then. The consumer is that of `tests.support.intake_harness`."""

from __future__ import annotations

import pytest

from runtime.kafka.intake.linger import LINGER_MAX_S, Linger
from tests.support.intake_harness import A, FakeConsumer, harness

__all__ = ["harness"]


def offsets_of(_topic, records):
    return [r.offset for r in records]


def read(batch):
    return [offset for reading in batch.readings for offset in reading] + [
        r.offset for r in batch.records
    ]


class GrowingConsumer(FakeConsumer):
    """Its log grows while it is asked for what lies behind; with `lost` records missing there at first."""

    def __init__(self, ends, lost=0) -> None:
        super().__init__({A: [*range(ends[0])]})
        self.ends, self.lost = [*ends[1:]], lost
        self.timeouts_ms: list[int] = []

    async def getmany(self, *tps, timeout_ms=0, max_records=None):
        if timeout_ms:
            self.timeouts_ms.append(timeout_ms)
        if timeout_ms == 5 and self.ends:
            self.logs[A] = [*range(self.ends.pop(0))]
            if self.lost:
                self.to_lose[A], self.lost = self.lost, 0
        return await super().getmany(*tps, timeout_ms=timeout_ms, max_records=max_records)


@pytest.mark.parametrize(
    ("records", "wait_s"),
    [(0, 0.0), (1, 0.001), (3, 0.003), (15, LINGER_MAX_S), (499, LINGER_MAX_S)],
)
def test_the_wait_grows_with_what_came(records, wait_s):
    assert Linger(2_000).after_fetch(records) == pytest.approx(wait_s)


def test_behind_a_large_batch_there_is_no_wait_and_more_is_expected():
    linger = Linger(2_000)
    assert linger.after_fetch(500) == 0.0
    assert linger.second_fetch_ms is None
    assert linger.expects_more
    linger.after_fetch(499)
    assert not linger.expects_more


def test_only_a_long_wait_is_followed_by_a_second_fetch():
    linger = Linger(2_000)
    linger.after_fetch(2)
    assert linger.second_fetch_ms is None
    linger.after_fetch(20)
    assert linger.second_fetch_ms == 5


@pytest.mark.parametrize("reader", [None, offsets_of])
async def test_what_gathered_is_one_batch_with_what_came_first_and_no_more_than_fits(
    harness, reader
):
    consumer = GrowingConsumer([20, 40, 500])
    async with harness(
        {}, consumer=consumer, reader=reader, batch_records_max=100, records_ahead_max=10_000
    ) as h:
        consumer.assign(A)
        assert read(await h.take()) == [*range(20)]
        consumer.logs[A] = [*range(22)]
        taken = [await h.take()]
        assert read(taken[0]) == [*range(20, 40)]
        consumer.logs[A] = [*range(45)]
        while taken[-1].next_offset < 500:
            taken.append(await h.take())
            assert taken[-1].count <= 100
        assert [offset for batch in taken for offset in read(batch)] == [*range(20, 500)]


async def test_an_empty_fetch_is_not_followed_by_a_second_one(harness):
    consumer = GrowingConsumer([20])
    async with harness({}, consumer=consumer, batch_records_max=100, records_ahead_max=400) as h:
        consumer.assign(A)
        await h.take()
        await h.until(lambda: len(consumer.timeouts_ms) > 6)
        assert consumer.timeouts_ms.count(5) == 0


@pytest.mark.parametrize("reader", [None, offsets_of])
async def test_records_that_are_lost_behind_are_fetched_again(harness, reader):
    # Both were put together once, and only the first of them was looked at.
    consumer = GrowingConsumer([20, 40], lost=4)
    async with harness(
        {}, consumer=consumer, reader=reader, batch_records_max=100, records_ahead_max=400
    ) as h:
        consumer.assign(A)
        assert read(await h.take()) == [*range(20)]
        consumer.logs[A] = [*range(30)]
        found: list[int] = []
        while len(found) < 20:
            found += read(await h.take())
        assert found == [*range(20, 40)]
