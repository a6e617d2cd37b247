"""A load on a timetable: due times never move, and after a slow broker batches are larger."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from lab.load.pacing import SPAN_MAX, TICK_S, Timetable, send_on_time
from schemas.errors import SendFailed, UsageError


class Clock:
    """A clock that only sleeping and sending move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        clock = SimpleNamespace(monotonic=lambda: self.now_s)
        monkeypatch.setattr("lab.load.pacing.time", clock)
        monkeypatch.setattr("lab.load.pacing.asyncio", SimpleNamespace(sleep=self.sleep))

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_a_rate_that_is_not_above_zero_is_refused(rate):
    with pytest.raises(UsageError, match="rate"):
        Timetable(rate, 0.0)


def test_what_is_due_is_what_the_due_times_say():
    timetable = Timetable(400.0, 100.0)
    assert timetable.due_count(99.9) == 0
    for index in (0, 1, 7, 399):
        assert timetable.due_count(timetable.due_s(index) + 0.001) == index + 1


async def test_each_record_leaves_within_a_tick_of_its_due_time(clock):
    spans: list[tuple[float, int, int]] = []

    async def send(first: int, after: int) -> None:
        spans.append((clock.now_s, first, after))

    done: list[int] = []
    timetable = Timetable(1_000.0, clock.now_s)
    await send_on_time(timetable, 2_000, send, done.append)
    assert [index for _, first, after in spans for index in range(first, after)] == list(
        range(2_000)
    )
    late_s = [at_s - timetable.due_s(first) for at_s, first, _ in spans]
    assert min(late_s) >= -1e-9
    assert max(late_s) <= TICK_S + 1e-9
    assert done[-1] == 2_000
    assert clock.now_s - 100.0 == pytest.approx(2.0, abs=0.02)


async def test_after_a_stall_the_rest_leaves_in_large_spans_and_due_times_have_not_moved(clock):
    spans: list[tuple[float, int, int]] = []

    async def send(first: int, after: int) -> None:
        spans.append((clock.now_s, first, after))
        clock.now_s += 1.5 if first <= 300 < after else 0.001

    timetable = Timetable(1_000.0, clock.now_s)
    await send_on_time(timetable, 4_000, send)
    assert max(after - first for _, first, after in spans) == SPAN_MAX
    caught_up = [at_s for at_s, first, _ in spans if first > 2_500]
    assert caught_up[-1] - timetable.start_s == pytest.approx(4.0, abs=0.02)


async def test_an_error_of_the_sender_ends_the_load(clock):
    async def send(first: int, after: int) -> None:
        if first > 10:
            raise SendFailed("gone")

    done: list[int] = []
    with pytest.raises(SendFailed, match="gone"):
        await send_on_time(Timetable(1_000.0, clock.now_s), 100, send, done.append)
    assert 10 < done[-1] < 100


async def test_the_real_clock_keeps_the_rate():
    loop = asyncio.get_running_loop()
    start_s = loop.time()

    async def send(first: int, after: int) -> None: ...

    await send_on_time(Timetable(1_000.0, start_s), 200, send)
    assert loop.time() - start_s >= 0.199
