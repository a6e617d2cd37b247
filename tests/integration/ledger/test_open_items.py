"""What waits for a person, in a real database: the list, its speed on a large ledger, and a ledger that is upgraded."""

from __future__ import annotations

import psycopg
import pytest

from ledger_sink.booking.positions import claim_positions
from ledger_sink.queries.open_items import read_open_entry, read_open_work
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.migrate import TABLES, migrate
from ledger_sink.store.statements import statements
from runtime.postgres.roles import Role
from schemas.causes import PART
from schemas.events import Cause
from schemas.identity import ENTRY
from tests.support.ledger_events import (
    deposit,
    house,
    leg,
    limit_events,
    log_event,
    transaction,
    win,
)

pytestmark = pytest.mark.integration

LARGE, SMALL = deposit("large", 50_000, player=None), deposit("small", 700, player=None)
LOST = win("lost", 4, "never", player=None, provider="hundredhp")
WHOLE = transaction("CRDT", "w", leg("DEPOSIT", 900), provider="camt", player=None)
DIVISION = transaction(
    "CRDT:DTLS",
    "w",
    leg("ROLLBACK", 900),
    provider="camt",
    player=None,
    reference=("CRDT", "w"),
    cause=Cause("divided", "w", reason="DEPOSIT"),
)
PART_OF_W = transaction(
    "CRDT", "w-1", leg("DEPOSIT", 900), provider="camt", cause=Cause(PART, "w", reason="CRDT")
)
ASSIGNED = house(
    "suspense.assigned",
    "s",
    leg("SUSPENSE_ASSIGNMENT", None, None),
    reference=(ENTRY, SMALL.event_id),
    cause=Cause("operator", "s", "ann", "why"),
)


async def book(database: LedgerDatabase, events) -> None:
    ledger = PostgresLedger(database, {})
    ledger.epochs[0] = (await claim_positions(database, [0]))[0].epoch
    for offset, event in enumerate(events):
        await ledger.commit_group([Slice(0, offset, offset + 1, [log_event(event, 0, offset)])])


async def open_work(url: str):
    database = LedgerDatabase(url, "pitboss.test", role=Role.AUDITOR)
    try:
        found = await read_open_work(database, entries_max=10, barrier_age_s=0)
        return {(one.kind, one.reason): one for one in found.groups}, found.entries
    finally:
        await database.close()


async def test_each_kind_is_listed_with_its_sum_until_a_person_ends_it(runtime):
    migrate(runtime.database_url)
    database = LedgerDatabase(runtime.database_url, "pitboss.test")
    events = [LARGE, SMALL, LOST, WHOLE, DIVISION, *limit_events(700), ASSIGNED, PART_OF_W]
    await book(database, events)
    groups, entries = await open_work(runtime.database_url)
    assert set(groups) == {("suspense", "PLAYER_UNKNOWN"), ("unresolved", "PLAYER_UNKNOWN")}
    assert groups["suspense", "PLAYER_UNKNOWN"].total_minor == 50_000
    assert groups["unresolved", "PLAYER_UNKNOWN"].total_minor == 4
    assert {one.event_id for one in entries} == {LARGE.event_id, LOST.event_id}
    assert await read_open_entry(database, SMALL.event_id) is None
    await database.close()


def test_a_ledger_that_is_upgraded_lists_what_was_open_before(runtime, monkeypatch):
    """Booked without the table, and by the table's own migration the same as booked with it."""
    import asyncio

    url = runtime.database_url
    migrate(url)

    async def booked() -> None:
        database = LedgerDatabase(url, "pitboss.test")
        await book(database, [LARGE, SMALL, LOST, WHOLE, DIVISION])
        await database.close()

    asyncio.run(booked())
    [text] = [one.sql for one in TABLES.files() if one.name == "0115_open_items.sql"]
    filling = text[text.index("INSERT INTO open_item") : text.index("-- Proposals of other acts")]
    columns = "event_id::text, decision, provider, player_id, in_suspense, CASE WHEN in_suspense THEN amount_minor END"
    query = f"SELECT {columns} FROM open_item ORDER BY 1"
    with psycopg.connect(url) as connection:
        before = connection.execute(query).fetchall()
        assert len(before) == 3
        connection.execute("TRUNCATE open_item")
        connection.execute(filling.encode())
        assert connection.execute(query).fetchall() == before


async def test_the_list_reads_no_month_of_a_large_ledger(runtime):
    """300,000 entries of which 3 are open: read by their keys."""
    migrate(runtime.database_url)
    database = LedgerDatabase(runtime.database_url, "pitboss.test")
    await book(database, [LARGE, SMALL, LOST])
    with psycopg.connect(runtime.database_url, autocommit=True) as connection:
        names = [
            name
            for (name,) in connection.execute(
                "SELECT attname FROM pg_attribute WHERE attrelid = 'entry'::regclass AND attnum > 0 AND NOT attisdropped"
            )
        ]
        others = [name for name in names if name not in ("event_id", "outcome")]
        connection.execute(
            f"INSERT INTO entry (event_id, outcome, {', '.join(others)})"
            f" SELECT gen_random_uuid(), 'POSTED', {', '.join('e.' + name for name in others)}"
            f" FROM entry e, generate_series(1, 300000) WHERE e.event_id = '{LARGE.event_id}'".encode()
        )
        connection.execute("ANALYZE")
        for name in ("item_totals", "items"):
            statement = statements("open_items")[name].replace("%(limit)s", "10")
            plan = "\n".join(
                row[0] for row in connection.execute(f"EXPLAIN {statement}".encode()).fetchall()
            )
            assert "Seq Scan on entry" not in plan, plan
    groups, entries = await open_work(runtime.database_url)
    assert (len(groups), len(entries)) == (2, 3)
    await database.close()
