"""A slow database slows the ledger down and does not stop it: it takes fewer events at a time."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import psycopg
import pytest

from ledger_sink.booking.group_size import GroupSize
from ledger_sink.booking.handler import create_ledger_app
from ledger_sink.booking.settings import LedgerSettings
from pitboss.ops.topic_admin import create_topics
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.postgres import database
from schemas import codec
from schemas.events import WalletTransaction
from schemas.topics import TRANSACTIONS
from tests.support.ledger_events import deposit, win

pytestmark = pytest.mark.integration

EVENTS = 1_500
TIMEOUT_MS = 250
"""Instead of 30 s."""
SLEEP_MS = 2
SLOW_EVENTS_MAX = TIMEOUT_MS // SLEEP_MS
"""No more fit into one transaction while the database is slow."""
PATIENCE_S = 240

SLOW = f"""
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_sleep({SLEEP_MS / 1000}); RETURN NEW; END';
CREATE TRIGGER slow BEFORE INSERT ON entry FOR EACH ROW EXECUTE FUNCTION slow();
GRANT EXECUTE ON FUNCTION slow() TO PUBLIC
"""


def rows(runtime, query):
    with psycopg.connect(runtime.database_url) as connection:
        cursor = connection.execute(query)
        return cursor.fetchall() if cursor.description else []


async def append(runtime, events):
    encode = codec.encoder(WalletTransaction)
    records = [(event.player_id.encode(), encode(event), (), None) for event in events]
    async with BatchProducer(ProducerSettings(runtime.broker, "test")) as producer:
        await producer.send_keyed(runtime.topic(TRANSACTIONS), records)


async def book(runtime, count):
    """Wait until so many events are booked."""
    deadline, booked = time.monotonic() + PATIENCE_S, 0
    while booked < count:
        assert time.monotonic() < deadline, f"{booked} of {count} booked"
        await asyncio.sleep(0.02)
        [(booked,)] = await asyncio.to_thread(rows, runtime, "SELECT count(*) FROM entry")


def largest_group(runtime):
    [(events,)] = rows(runtime, "SELECT max(next_offset - from_offset) FROM batch")
    return events


@pytest.fixture
def tries(monkeypatch):
    """What came of each group, in turn: its events, and whether it was committed."""
    noted: list[tuple[int, bool]] = []
    note_commit, note_failure = GroupSize.note_commit, GroupSize.note_failure

    def commit(size, events, elapsed_s):
        noted.append((events, True))
        return note_commit(size, events, elapsed_s)

    def failure(size, events, elapsed_s, *, timed_out):
        if timed_out:
            noted.append((events, False))
        return note_failure(size, events, elapsed_s, timed_out=timed_out)

    monkeypatch.setattr(GroupSize, "note_commit", commit)
    monkeypatch.setattr(GroupSize, "note_failure", failure)
    return noted


async def test_a_database_that_is_100_times_slower_books_every_event(runtime, monkeypatch, tries):
    monkeypatch.setattr(database, "_SESSION", database._SESSION.replace("=30s", f"={TIMEOUT_MS}ms"))
    await create_topics(
        runtime.broker, runtime.namespace, ["hub88"], partitions=2, raw_partitions=1
    )
    rows(runtime, SLOW)
    # One player's, so one partition's: nothing but a cut of its batch makes the group smaller.
    await append(
        runtime,
        [deposit("d", 100), *(win(f"w{n}", 1, f"b{n}") for n in range(EVENTS - 1))],
    )
    app = create_ledger_app(
        LedgerSettings(runtime.broker, runtime.database_url, runtime.namespace, "test"),
        {},
    )
    await app.start()
    try:
        await book(runtime, EVENTS)
        stands_still_for_one_halving_at_a_time(tries)
        rows(runtime, "DROP TRIGGER slow ON entry")
        assert largest_group(runtime) <= SLOW_EVENTS_MAX
        total, deadline = EVENTS, time.monotonic() + PATIENCE_S
        # It grows again, as soon as this machine lets it.
        while total == EVENTS or largest_group(runtime) <= SLOW_EVENTS_MAX:
            assert time.monotonic() < deadline, tries
            await append(runtime, [win(f"x{total + n}", 1, f"c{total + n}") for n in range(EVENTS)])
            total += EVENTS
            await book(runtime, total)
    finally:
        await app.stop()
    [(cash, version)] = rows(runtime, "SELECT cash_minor, version FROM wallet")
    assert (cash, version) == (100 + total - 1, total)
    assert (
        rows(
            runtime,
            "SELECT from_offset FROM (SELECT from_offset, lag(next_offset) OVER (ORDER BY next_offset)"
            " AS before FROM batch) b WHERE before <> from_offset",
        )
        == []
    )


def stands_still_for_one_halving_at_a_time(tries):
    """What was not committed in time is not tried again as it was: it takes a dozen tries at most, however slow all is."""
    assert not all(is_committed for _, is_committed in tries), "no group ran into the time-out"
    for (events, is_committed), (next_events, _) in pairwise(tries):
        assert is_committed or next_events <= max(1, events // 2), tries
