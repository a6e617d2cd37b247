"""A slow database slows the ledger down and does not stop it: it takes fewer events at a time."""

from __future__ import annotations

import asyncio
import time

import psycopg
import pytest

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
"""Instead of 30 s. The waits between tries do not scale, so the limit below is not half a second."""
STAND_STILL_MAX_S = 6.0
PATIENCE_S = 60

SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_sleep(0.002); RETURN NEW; END';
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
    """Wait until so many events are booked; return the longest time between two commits, in s."""
    since = time.monotonic()
    last, longest, deadline = 0, 0.0, since + PATIENCE_S
    while last < count:
        assert time.monotonic() < deadline, f"{last} of {count} booked"
        [(booked,)] = await asyncio.to_thread(rows, runtime, "SELECT count(*) FROM entry")
        now = time.monotonic()
        longest = max(longest, now - since)
        if booked > last:
            last, since = booked, now
        await asyncio.sleep(0.02)
    return longest


async def test_a_database_that_is_100_times_slower_books_every_event(runtime, monkeypatch):
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
        longest = await book(runtime, EVENTS)
        assert longest < STAND_STILL_MAX_S
        rows(runtime, "DROP TRIGGER slow ON entry")
        [(slow_groups,)] = rows(runtime, "SELECT count(*) FROM batch")
        await append(runtime, [win(f"x{n}", 1, f"c{n}") for n in range(EVENTS)])
        await book(runtime, 2 * EVENTS)
        [(groups,)] = rows(runtime, "SELECT count(*) FROM batch")
        # It grows again: a group twice as large each time.
        assert groups - slow_groups < slow_groups / 2
    finally:
        await app.stop()
    [(cash, version)] = rows(runtime, "SELECT cash_minor, version FROM wallet")
    assert (cash, version) == (100 + 2 * EVENTS - 1, 2 * EVENTS)
    assert (
        rows(
            runtime,
            "SELECT from_offset FROM (SELECT from_offset, lag(next_offset) OVER (ORDER BY next_offset)"
            " AS before FROM batch) b WHERE before <> from_offset",
        )
        == []
    )
