"""Rule 10: no error leaves an agent's loop unnoticed; partitions go side by side, each in its order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from runtime.kafka.agent_loop import process_batches
from runtime.kafka.batches import RecordBatch
from runtime.kafka.tasks import Backoff
from schemas.errors import Fenced, RejectCode, Rejected, Unavailable
from tests.support.intake_harness import A, record


class Journal:
    """What an intake is told, and what it says."""

    def __init__(self) -> None:
        self.stale: set[str] = set()
        self.events: list[tuple[str, str]] = []

    def begin(self, batch) -> bool:
        self.events.append(("stale" if str(batch) in self.stale else "begin", str(batch)))
        return str(batch) not in self.stale

    def end(self, batch, *, waiting=None) -> None:
        self.events.append((waiting or "end", str(batch)))

    def mark_done(self, batch) -> None:
        self.events.append(("done", str(batch)))

    def of(self, what: str) -> list[str]:
        return [batch for event, batch in self.events if event == what]


@pytest.fixture
def journal():
    return Journal()


@pytest.fixture(autouse=True)
def _no_wait(monkeypatch):
    monkeypatch.setattr(Backoff, "next_s", lambda _: 0)


@pytest.fixture
def batch(journal):
    return lambda partition, begin: RecordBatch(
        "t", partition, begin, begin + 1, (record(A, begin),), 1, journal.mark_done
    )


async def stream(*batches) -> AsyncIterator[Sequence[RecordBatch]]:
    """Each batch was read by itself."""
    for batch in batches:
        yield [batch]
        await asyncio.sleep(0)


async def test_a_batch_is_done_only_after_it_was_handled(journal, batch):
    async def handle(given):
        assert journal.of("done") == []
        await asyncio.sleep(0)

    await process_batches(journal, stream(batch(0, 0)), handle)
    assert [event for event, _ in journal.events] == ["begin", "done", "end"]


async def test_a_retriable_error_is_tried_again_without_done_and_says_what_it_waits_for(
    journal, batch
):
    errors = [Unavailable("the database is down"), Unavailable("still")]

    async def handle(given):
        if errors:
            raise errors.pop(0)

    await process_batches(journal, stream(batch(0, 0)), handle)
    assert [event for event, _ in journal.events] == [
        *("begin", "UNAVAILABLE: the database is down"),
        *("begin", "UNAVAILABLE: still"),
        *("begin", "done", "end"),
    ]


@pytest.mark.parametrize(
    "error", [Fenced("another worker"), ValueError("a bug"), Rejected(RejectCode.MALFORMED, "x")]
)
async def test_any_other_error_ends_the_agent_and_nothing_is_done(journal, batch, error):
    async def handle(given):
        raise error

    async def endless():
        yield [batch(0, 0), batch(1, 0)]
        await asyncio.Event().wait()

    with pytest.raises(type(error)) as raised:
        await asyncio.wait_for(process_batches(journal, endless(), handle), 60)
    assert raised.value is error
    assert journal.of("done") == []


async def test_a_stale_batch_is_skipped_and_not_done(journal, batch):
    handled = []

    async def handle(given):
        handled.append(str(given))

    journal.stale.add("t-0@[0,1)")
    await process_batches(journal, stream(batch(0, 0), batch(0, 1)), handle)
    assert handled == ["t-0@[1,2)"]
    assert journal.of("done") == ["t-0@[1,2)"]


async def test_a_batch_that_becomes_stale_while_it_waits_is_given_up(journal, batch):
    async def handle(given):
        journal.stale.add(str(given))
        raise Unavailable("down")

    await asyncio.wait_for(process_batches(journal, stream(batch(0, 0)), handle), 60)
    assert journal.of("done") == []


async def test_a_partition_keeps_its_order_and_holds_up_no_other(journal, batch):
    release, handled = asyncio.Event(), []

    async def handle(given):
        if given.partition == 0:
            await release.wait()
        handled.append((given.partition, given.from_offset))
        if (1, 4) in handled:
            release.set()

    batches = [batch(partition, begin) for begin in range(5) for partition in (0, 1)]
    await asyncio.wait_for(process_batches(journal, stream(*batches), handle, records_max=0), 60)
    assert handled[:5] == [(1, begin) for begin in range(5)], "partition 1 was done while 0 waited"
    assert handled[5:] == [(0, begin) for begin in range(5)]


async def test_at_once_bounds_the_work_but_not_the_waiting(journal, batch):
    running, most, tries = 0, 0, 0

    async def handle(given):
        nonlocal running, most, tries
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        if given.partition == 0 and tries < 3:
            tries += 1
            raise Unavailable("down")

    await process_batches(
        journal, stream(*[batch(p, 0) for p in range(8)]), handle, concurrency_max=2
    )
    assert most == 2
    assert len(journal.of("done")) == 8


async def test_what_was_read_together_is_begun_before_anything_else_gets_the_loop(journal, batch):
    """Or the first partition's transaction and produce request would go without the others' records."""
    begun: list[int] = []
    seen_by_the_next: list[int] = []

    async def handle(given):
        if not begun:
            asyncio.get_running_loop().call_soon(lambda: seen_by_the_next.extend(begun))
        begun.append(given.partition)
        await asyncio.sleep(0)

    async def together():
        yield [batch(partition, 0) for partition in range(6)]

    await process_batches(journal, together(), handle)
    assert seen_by_the_next == [0, 1, 2, 3, 4, 5]


async def test_what_gathers_while_a_batch_is_in_work_is_handled_as_one(journal, batch):
    gathered, handled = asyncio.Event(), []

    async def handle(given):
        handled.append(str(given))
        await gathered.wait()

    async def gather():
        yield [batch(0, begin) for begin in range(5)]
        while not handled:  # noqa: ASYNC110
            await asyncio.sleep(0)
        for begin in range(5, 9):
            yield [batch(0, begin)]
        gathered.set()

    await asyncio.wait_for(process_batches(journal, gather(), handle), 60)
    assert handled == ["t-0@[0,5)", "t-0@[5,9)"]
    assert journal.of("done") == [f"t-0@[{begin},{begin + 1})" for begin in range(9)]


async def test_cancelling_the_agent_cancels_its_work(journal, batch):
    async def handle(given):
        await asyncio.Event().wait()

    async def endless():
        yield [batch(0, 0)]
        await asyncio.Event().wait()

    agent = asyncio.ensure_future(process_batches(journal, endless(), handle))
    while not journal.of("begin"):  # noqa: ASYNC110
        await asyncio.sleep(0)
    agent.cancel()
    with pytest.raises(asyncio.CancelledError):
        await agent
    assert journal.of("end")
    assert journal.of("done") == []
