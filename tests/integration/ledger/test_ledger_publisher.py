"""What is committed is published, whatever happens to the publisher; and only by the owner of the partition."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import psycopg
import pytest

from ledger_sink.booking.committer import Committer
from ledger_sink.booking.positions import claim_positions
from ledger_sink.booking.publisher import Publisher
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import CONSUMER, AppliedGroup, Slice
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.migrate import migrate
from ledger_sink.store.statements import statements
from schemas import codec
from schemas.errors import SendFailed, Unavailable
from schemas.events import WalletBalance, WalletOutcome
from schemas.topics import BALANCES, OUTCOMES, TRANSACTIONS
from tests.support.ledger_events import bet, deposit, log_event

pytestmark = pytest.mark.integration

PATIENCE_S = 120


class Topics:
    """What arrived, in its order; a broker that can be slow or dead."""

    def __init__(self):
        self.outcomes, self.balances = [], []
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.is_dead = False

    async def send(self, topic, records):
        await self.is_open.wait()
        if self.is_dead:
            raise SendFailed("no broker for good")
        for _, value in records:
            if topic == OUTCOMES:
                self.outcomes.append(codec.decoder(WalletOutcome)(value))
            else:
                self.balances.append(codec.decoder(WalletBalance)(value))

    @property
    def outcome_ids(self):
        return [outcome.provider_tx_id for outcome in self.outcomes]

    @property
    def last_versions(self):
        return {balance.player_id: balance.version for balance in self.balances}


class Worker:
    """One process's ledger and publisher, without its broker."""

    def __init__(self, runtime, topics):
        self.ledger = PostgresLedger(LedgerDatabase(runtime.database_url, "pitboss.ledger"), {})
        self.database = LedgerDatabase(runtime.database_url, "pitboss.publisher")
        self.publisher = Publisher(
            self.database,
            topics.send,
            self.ledger.epochs,
            log_topic=TRANSACTIONS,
            balances_topic=BALANCES,
            outcomes_topic=OUTCOMES,
        )
        self.committer = Committer(self.ledger, self.publisher)
        self.tasks = [
            asyncio.ensure_future(self.publisher.run()),
            asyncio.ensure_future(self.committer.run()),
        ]

    async def claim(self, *partitions):
        claims = await claim_positions(self.ledger.database, partitions)
        for partition, claim in claims.items():
            self.ledger.epochs[partition] = claim.epoch
            await self.publisher.resend(partition, claim.published_offset, claim.next_offset)
        return claims

    async def cursor(self, partition=0):
        await self.publisher.store_cursors()
        [(cursor,)] = await self.database.query(
            "SELECT published_offset FROM stream_position WHERE part = %(part)s",
            {"part": partition},
        )
        return cursor

    async def stop(self):
        for task in self.tasks:
            task.cancel()
            with suppress(asyncio.CancelledError, SendFailed):
                await task
        await self.ledger.database.close()
        await self.database.close()


@pytest.fixture
async def topics():
    return Topics()


@pytest.fixture
async def workers(runtime, topics):
    migrate(runtime.database_url)
    made = []

    def new():
        made.append(Worker(runtime, topics))
        return made[-1]

    yield new
    for worker in made:
        await worker.stop()


def slice_of(*events, partition=0, start=0):
    return Slice(
        partition,
        start,
        start + len(events),
        [log_event(event, partition, start + n) for n, event in enumerate(events)],
    )


async def soon(work):
    return await asyncio.wait_for(work, PATIENCE_S)


EVENTS = (deposit("d", 1_000), bet("a", 1), bet("b", 2), bet("c", 3), bet("e", 5))


async def test_what_is_booked_is_published_once_and_the_cursor_follows(workers, topics):
    worker = workers()
    await worker.claim(0)
    await soon(worker.committer.submit(slice_of(*EVENTS[:2])))
    await soon(worker.committer.submit(slice_of(*EVENTS[2:], start=2)))
    await soon(worker.publisher.drain())
    assert topics.outcome_ids == ["d", "a", "b", "c", "e"]
    assert topics.last_versions == {"p-1": 5}
    assert await worker.cursor() == 5


async def test_a_batch_whose_commit_reply_was_lost_is_published_by_its_retry(workers, topics):
    worker = workers()
    await worker.claim(0)
    await worker.ledger.commit_group([slice_of(*EVENTS[:2])])
    await soon(worker.committer.submit(slice_of(*EVENTS[:2])))
    await soon(worker.publisher.drain())
    assert topics.outcome_ids == ["d", "a"]
    assert await worker.cursor() == 2


async def test_the_cursor_passes_nothing_that_was_not_sent(workers, topics):
    """A batch was committed, its reply lost, and the next assignment cuts the log elsewhere: the batch is not retried."""
    worker = workers()
    await worker.claim(0)
    await worker.ledger.commit_group([slice_of(*EVENTS[:2])])
    await soon(worker.committer.submit(slice_of(*EVENTS[:4])))
    await soon(worker.committer.submit(slice_of(EVENTS[4], start=4)))
    await soon(worker.publisher.drain())
    assert topics.outcome_ids == ["d", "a", "b", "c", "e"]
    # The same where the next batch begins behind what was lost.
    await worker.ledger.commit_group([slice_of(bet("f", 1), start=5)])
    await soon(worker.committer.submit(slice_of(bet("g", 1), start=6)))
    await soon(worker.publisher.drain())
    assert topics.outcome_ids[5:] == ["f", "g"]
    assert await worker.cursor() == 7


async def test_a_worker_that_is_killed_anywhere_leaves_nothing_unsent(workers, topics):
    first = workers()
    await first.claim(0, 1)
    topics.is_open.clear()
    await soon(first.committer.submit(slice_of(*EVENTS[:3])))
    await soon(first.committer.submit(slice_of(deposit("x", 1, player="p-2"), partition=1)))
    await first.stop()
    topics.is_open.set()
    assert topics.outcome_ids == []
    second = workers()
    await soon(second.claim(0, 1))
    assert sorted(topics.outcome_ids) == ["a", "b", "d", "x"]
    assert topics.last_versions == {"p-1": 3, "p-2": 1}
    third = workers()
    await soon(
        third.claim(0, 1)
    )  # the second was killed before it stored its cursor: all of it again
    assert sorted(topics.outcome_ids) == sorted(["a", "b", "d", "x"] * 2)
    assert [await third.cursor(0), await third.cursor(1)] == [3, 1]


async def test_a_partition_that_comes_back_begins_at_the_stored_cursor(workers, topics):
    first, second = workers(), workers()
    await first.claim(0)
    await soon(first.committer.submit(slice_of(*EVENTS[:2])))
    await soon(first.publisher.drain())
    await second.claim(0)
    await soon(second.committer.submit(slice_of(EVENTS[2], start=2)))
    await soon(second.publisher.drain())
    # The second commits once more and is killed before it sends: only that is the first's to send.
    await second.ledger.commit_group([slice_of(EVENTS[3], start=3)])
    await second.stop()
    first.ledger.epochs.clear()
    await soon(first.claim(0))
    await soon(first.committer.submit(slice_of(EVENTS[4], start=4)))
    await soon(first.publisher.drain())
    assert topics.outcome_ids == ["d", "a", "b", "c", "e"]
    assert await first.cursor() == 5


async def test_a_partition_that_was_let_go_is_left_to_its_next_owner(workers, topics):
    first, second = workers(), workers()
    await first.claim(0, 1)
    topics.is_open.clear()
    await soon(first.committer.submit(slice_of(*EVENTS[:2])))
    group = [slice_of(*EVENTS[2:4], start=2), slice_of(deposit("x", 1, player="p-2"), partition=1)]
    await first.publisher.enqueue(await first.ledger.commit_group(group))
    del first.ledger.epochs[0]
    topics.is_open.set()
    await soon(second.claim(0))
    await soon(second.committer.submit(slice_of(EVENTS[4], start=4)))
    await soon(second.publisher.drain())
    await soon(first.publisher.drain())
    # What was under way when it was let go is out twice; what was not is not sent by the first any more.
    assert sorted(topics.outcome_ids) == sorted(["d", "a", "d", "a", "b", "c", "e", "x"])
    assert topics.last_versions == {"p-1": 5, "p-2": 1}
    assert [await second.cursor(0), await first.cursor(1)] == [5, 1]


async def test_what_is_sent_again_goes_behind_what_is_still_under_way(workers, topics):
    worker = workers()
    await worker.claim(0)
    topics.is_open.clear()
    for n, event in enumerate(EVENTS[:3]):
        await soon(worker.committer.submit(slice_of(event, start=n)))
    again = asyncio.ensure_future(worker.claim(0))
    await asyncio.sleep(0)
    topics.is_open.set()
    await soon(again)
    assert topics.balances[-1].version == 3
    versions = [balance.version for balance in topics.balances]
    assert versions == sorted(versions)


@pytest.mark.parametrize("is_full", [False, True])
async def test_a_publisher_that_has_ended_lets_no_caller_wait(workers, topics, is_full):
    worker = workers()
    await worker.claim(0)
    topics.is_open.clear()
    await soon(worker.committer.submit(slice_of(EVENTS[0])))
    waiting = []
    if is_full:
        for _ in range(8):
            await worker.publisher.enqueue(AppliedGroup())
        waiting = [asyncio.ensure_future(worker.committer.submit(slice_of(EVENTS[1], start=1)))]
    topics.is_dead = True
    topics.is_open.set()
    with pytest.raises(SendFailed, match="for good"):
        await soon(worker.tasks[0])
    for submitted in waiting:
        with pytest.raises(SendFailed, match="the publisher has ended"):
            await soon(submitted)
    await soon(worker.publisher.drain())
    with pytest.raises(SendFailed):
        await soon(worker.publisher.resend(0, 0, 1))


async def test_a_revocation_waits_for_no_database_and_no_broker(workers, topics, monkeypatch):
    worker = workers()
    await worker.claim(0)
    topics.is_open.clear()
    await soon(worker.committer.submit(slice_of(EVENTS[0])))

    async def away(*_):
        raise Unavailable("away")

    monkeypatch.setattr(worker.database, "query", away)
    monkeypatch.setattr("ledger_sink.booking.publisher._DRAIN_S", 0.2)
    await soon(worker.publisher.drain())
    topics.is_open.set()


async def test_a_database_that_is_away_delays_what_has_to_be_read_from_it(
    workers, topics, monkeypatch
):
    worker = workers()
    await worker.claim(0)
    await worker.ledger.commit_group([slice_of(*EVENTS[:2])])
    query = worker.database.query
    failures: list[int] = []

    async def away(*arguments):
        if len(failures) < 2:
            failures.append(1)
            raise Unavailable("away")
        return await query(*arguments)

    monkeypatch.setattr(worker.database, "query", away)
    monkeypatch.setattr("ledger_sink.booking.publisher._DATABASE_RETRY_S", 0.01)
    await soon(worker.committer.submit(slice_of(*EVENTS[:2])))
    await soon(worker.publisher._queue.join())
    assert topics.outcome_ids == ["d", "a"]
    assert len(failures) == 2


async def test_cursors_are_stored_in_the_order_in_which_positions_are_locked(workers, runtime):
    """A group that crosses partitions locks all positions by their numbers: an update of two must do the same."""
    worker = workers()
    await worker.claim(0, 1)
    epochs = worker.ledger.epochs
    # The plan may take them in any order; of a table that is known to be small it is that in which they are given.
    given = {"parts": [1, 0], "offsets": [7, 5], "epochs": [epochs[1], epochs[0]]}
    columns = {"consumer": CONSUMER, "topic": TRANSACTIONS, **given}
    locked = "SELECT FROM stream_position WHERE part = %s FOR UPDATE"
    async with (
        await psycopg.AsyncConnection.connect(runtime.database_url) as other,
        # Its owner's session: a worker's role is not shown what others do.
        await psycopg.AsyncConnection.connect(runtime.database_url, autocommit=True) as watching,
        asyncio.timeout(PATIENCE_S),
    ):
        await other.execute("ANALYZE stream_position")
        await other.commit()
        await other.execute(locked, (0,))
        storing = asyncio.create_task(
            worker.database.query(statements("positions")["published"], columns)
        )
        # In this database alone: others on the same server wait for locks of their own.
        waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        while not await (await watching.execute(waiting)).fetchall():  # noqa: ASYNC110  # locks know no event
            await asyncio.sleep(0.01)
        await other.execute(locked, (1,))
        await other.commit()
        await storing
    rows = await worker.database.query(
        "SELECT part, published_offset FROM stream_position ORDER BY part"
    )
    assert rows == [(0, 5), (1, 7)]


async def test_what_is_committed_while_the_broker_is_slow_goes_out_at_once(workers, topics):
    worker, sent = workers(), []
    await worker.claim(0)
    send = worker.publisher._send

    async def counted(topic, records):
        sent.append((topic, len(records)))
        await send(topic, records)

    worker.publisher._send = counted
    topics.is_open.clear()
    for offset, event in enumerate(EVENTS):
        await soon(worker.committer.submit(slice_of(event, start=offset)))
    topics.is_open.set()
    await soon(worker.publisher.drain())
    assert topics.outcome_ids == ["d", "a", "b", "c", "e"]
    # The first group went alone; of the wallet that the others moved, the newest is enough.
    assert sent == [(OUTCOMES, 1), (BALANCES, 1), (OUTCOMES, 4), (BALANCES, 1)]
    assert topics.last_versions == {"p-1": 5}
    assert await worker.cursor() == 5
