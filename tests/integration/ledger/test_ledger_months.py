"""Transfers by month: where a row goes, what a past becomes, and what needs a month that was moved away."""

from __future__ import annotations

import json
from itertools import pairwise

import psycopg
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from ledger_sink.booking.positions import claim_positions
from ledger_sink.queries import history
from ledger_sink.rules.book import Book
from ledger_sink.store import migrate as migrations
from ledger_sink.store.copy_rows import month_of
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.migrate import migrate
from ledger_sink.store.months import bring_back, create_months, list_months, move_away, next_month
from ledger_sink.store.reading import collect_read_set, read_follow_ups, send_reads
from pitboss.cli.ledger import ledger as ledger_group
from runtime.postgres.migrations import MigrationSet
from runtime.postgres.roles import Role
from schemas.errors import UsageError
from tests.support.ledger_events import (
    bet,
    deposit,
    house,
    leg,
    log_event,
    rollback,
    transaction,
    win,
)

pytestmark = pytest.mark.integration

SEPTEMBER, NOW = 202609, 1_790_000_000_500
OCTOBER_MS = NOW + 31 * 86_400_000


async def book_groups(url, *groups):
    database = LedgerDatabase(url, "pitboss.ledger")
    ledger = PostgresLedger(database, {})
    claims = await claim_positions(database, [0])
    ledger.epochs[0] = claims[0].epoch
    start = claims[0].next_offset
    for events in groups:
        placed = [log_event(event, 0, start + n) for n, event in enumerate(events)]
        await ledger.commit_group([Slice(0, start, start + len(events), placed)])
        start += len(events)
    await database.close()


def later(event):
    return replace(event, appended_at=OCTOBER_MS)


def rows(url, query):
    with psycopg.connect(url) as connection:
        cursor = connection.execute(query)
        return cursor.fetchall() if cursor.description else []


PLACES = "SELECT tableoid::regclass::text, version, month FROM transfer ORDER BY version"


async def test_a_transfer_goes_to_the_month_in_which_its_event_came(runtime):
    url = runtime.database_url
    migrate(url)
    rows(url, "SELECT make_transfer_month(202610)")
    await book_groups(url, [deposit("d", 100), later(bet("b", 10))])
    # Nobody had made September; it is kept all the same, and moves as soon as there is a place for it.
    assert rows(url, PLACES) == [("transfer_other", 1, SEPTEMBER), ("transfer_202610", 2, 202610)]
    assert rows(url, "SELECT make_transfer_month(202609), make_transfer_month(202610)") == [
        (True, False)
    ]
    assert rows(url, PLACES) == [("transfer_202609", 1, SEPTEMBER), ("transfer_202610", 2, 202610)]
    await book_groups(url, [win("w", 5, "b")])
    assert [place for place, _, _ in rows(url, PLACES)] == [
        "transfer_202609",
        "transfer_202610",
        "transfer_202609",
    ]
    with pytest.raises(psycopg.errors.UniqueViolation):
        rows(url, "INSERT INTO transfer SELECT * FROM transfer WHERE version = 1")
    with pytest.raises(psycopg.errors.RaiseException, match="202613 is no month"):
        rows(url, "SELECT make_transfer_month(202613)")


def shape(url):
    """Columns, constraints and indexes of all tables, without what a date has made of it."""
    return rows(
        url,
        """
        SELECT 'column', table_schema, table_name, column_name, data_type || is_nullable || coalesce(column_default, '')
          FROM information_schema.columns WHERE table_schema IN ('public', 'away', 'dead_letters')
        UNION ALL
        SELECT 'constraint', n.nspname, c.relname, conname, pg_get_constraintdef(k.oid)
          FROM pg_constraint k JOIN pg_class c ON c.oid = conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname IN ('public', 'away', 'dead_letters')
        UNION ALL
        SELECT 'index', schemaname, tablename, indexname, indexdef FROM pg_indexes
         WHERE schemaname IN ('public', 'away', 'dead_letters')
        UNION ALL
        SELECT 'table', n.nspname, c.relname, c.relkind::text, coalesce(c.reloptions::text, '')
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname IN ('public', 'away', 'dead_letters') AND c.relkind IN ('r', 'p', 'i', 'I')
         ORDER BY 1, 2, 3, 4, 5
        """,
    )


async def test_a_ledger_with_a_past_becomes_what_a_new_one_is(
    empty_runtime, stack, namespaces, monkeypatch
):
    from pitboss.embedded.databases import create_database, drop_database

    url, new = empty_runtime.database_url, stack.runtime(namespaces())
    older = [one for one in migrations.migration_files() if one.name < "0060"]
    with monkeypatch.context() as patched:
        patched.setattr(MigrationSet, "files", lambda _: older)
        patched.setattr(
            "runtime.postgres.migrations._grant", lambda *_: None
        )  # rights of tables that come later
        migrate(url)
    rows(
        url,
        "INSERT INTO transfer SELECT 'p-1', 'EUR', n, 'psp:adyen', 'player:p-1:cash', 5, 5 * n, 0, 0,"
        " gen_random_uuid(), 0, 0, n - 1, 0 FROM generate_series(1, 3) n",
    )
    rows(url, "INSERT INTO wallet VALUES ('p-1', 'EUR', 2, 15, 0, 0, 3, gen_random_uuid(), 0, 2)")
    assert [one.name for one in migrate(url)] == [
        one.name for one in migrations.migration_files() if one.name >= "0060"
    ]
    create_database(new)
    try:
        migrate(new.database_url)
        assert shape(url) == shape(new.database_url)
    finally:
        drop_database(new)
    await book_groups(url, [bet("b", 4)])
    assert rows(url, "SELECT version, cash_minor, month FROM transfer ORDER BY version") == [
        (1, 5, 0),
        (2, 10, 0),
        (3, 15, 0),
        (4, 11, SEPTEMBER),
    ]


async def test_a_month_that_was_moved_away_is_answered_for_and_comes_back(runtime):
    url = runtime.database_url
    migrate(url)
    rows(url, "SELECT make_transfer_month(202609), make_transfer_month(202610)")
    await book_groups(url, [deposit("d", 100), bet("b", 10), bet("c", 20)])
    move_away(url, SEPTEMBER)
    assert rows(url, "SELECT count(*) FROM transfer") == [(0,)]
    # A retry gets the same answer, a wallet goes on, and what cannot be looked up moves nothing.
    again = bet("b", 10)
    await book_groups(url, [again, later(win("w", 5, "b")), later(rollback("r", "b"))])
    assert rows(url, "SELECT outcome, reason FROM repeat") == [("EXISTS", "BOOKED")]
    assert rows(
        url, "SELECT provider_tx_id, outcome, reason FROM entry WHERE source_offset > 2 ORDER BY 1"
    ) == [("r", "UNRESOLVED", "PERIOD_ARCHIVED"), ("w", "POSTED", "BOOKED")]
    assert rows(url, "SELECT cash_minor, version FROM wallet") == [(75, 4)]
    assert [one.month for one in list_months(url) if one.is_away] == [SEPTEMBER]
    with pytest.raises(UsageError, match="is not a month of this ledger"):
        move_away(url, SEPTEMBER)
    bring_back(url, SEPTEMBER)
    assert rows(url, "SELECT version FROM transfer ORDER BY 1") == [(1,), (2,), (3,), (4,)]
    await book_groups(url, [later(rollback("r2", "c"))])
    assert rows(url, "SELECT cash_minor, version FROM wallet") == [(95, 5)]
    with pytest.raises(UsageError, match="was not moved away"):
        bring_back(url, SEPTEMBER)


async def stood(url, next_offset):
    """The version of p-1's wallet behind an offset, as `--at` finds it; 0 for a wallet that had not moved."""
    database = LedgerDatabase(url, "pitboss.test", role=Role.READER)
    try:
        found = await history.wallets_before(database, "p-1", next_offset)
    finally:
        await database.close()
    return sum(wallet.version for wallet in found)


async def test_a_balance_at_a_place_is_found_behind_a_month_that_is_away(runtime):
    url = runtime.database_url
    migrate(url)
    rows(url, "SELECT make_transfer_month(202609), make_transfer_month(202610)")
    await book_groups(
        url,
        [deposit(f"d{n}", 100) for n in range(100)],
        [later(bet(f"b{n}", 1)) for n in range(100)],
    )
    there = [await stood(url, offset) for offset in range(0, 201, 10)]
    move_away(url, SEPTEMBER)
    assert [await stood(url, offset) for offset in (101, 150, 199, 200)] == [101, 150, 199, 200]
    for offset in (1, 50, 100):
        with pytest.raises(
            history.MonthAway, match=r"version 0 is not in the tables.*months back.*202609"
        ):
            await stood(url, offset)
    bring_back(url, SEPTEMBER)
    assert (
        [await stood(url, offset) for offset in range(0, 201, 10)]
        == there
        == list(range(0, 201, 10))
    )


async def test_a_balance_at_a_place_is_not_guessed_where_a_late_event_left_a_hole(runtime):
    url = runtime.database_url
    migrate(url)
    rows(url, "SELECT make_transfer_month(202609), make_transfer_month(202610)")
    await book_groups(
        url,
        [
            later(deposit("d", 100)),
            deposit("late", 7),
            deposit("later", 8),
            *map(later, (bet("b", 1), bet("c", 1))),
        ],
    )
    move_away(url, SEPTEMBER)
    assert [await stood(url, offset) for offset in (0, 1, 4, 5)] == [0, 1, 4, 5]
    for offset in (2, 3):
        with pytest.raises(history.MonthAway, match="after version 1 is not in the tables"):
            await stood(url, offset)
    rows(url, "DELETE FROM month_away")
    with pytest.raises(history.MonthAway, match="no month was moved away"):
        await stood(url, 2)


async def test_a_win_makes_no_cash_of_bonus_money_that_was_bet_in_a_month_that_is_away(runtime):
    url = runtime.database_url
    migrate(url)
    rows(url, "SELECT make_transfer_month(202609), make_transfer_month(202610)")
    granted = house("bonus.granted", "g", leg("BONUS_GRANT", 1_000), leg("WAGERING", 50_000))
    await book_groups(url, [granted, bet("b", 1_000), deposit("d", 1)])
    move_away(url, SEPTEMBER)
    await book_groups(url, [later(win("w", 900, "b"))])
    assert rows(url, "SELECT outcome, reason FROM entry WHERE provider_tx_id = 'w'") == [
        ("UNRESOLVED", "PERIOD_ARCHIVED")
    ]
    assert rows(url, "SELECT cash_minor, bonus_minor FROM wallet") == [(1, 0)]
    # Of a bet that has never come nothing is away.
    await book_groups(url, [later(win("w2", 7, "never seen"))])
    assert rows(url, "SELECT cash_minor, bonus_minor FROM wallet") == [(8, 0)]
    bring_back(url, SEPTEMBER)
    await book_groups(url, [later(win("w3", 900, "b"))])
    assert rows(url, "SELECT cash_minor, bonus_minor FROM wallet") == [(8, 900)]


def contribution(tx_id):
    return transaction("contribution", tx_id, leg("JACKPOT_CONTRIBUTION", 5))


async def test_what_moved_between_house_accounts_alone_is_not_taken_for_away(runtime):
    url = runtime.database_url
    migrate(url)
    rows(url, "SELECT make_transfer_month(202609), make_transfer_month(202610)")
    await book_groups(
        url,
        [deposit("d", 100), later(contribution("here")), later(bet("b", 1)), contribution("gone")],
    )
    move_away(url, SEPTEMBER)
    assert rows(url, "SELECT version FROM transfer ORDER BY 1") == [(2,), (None,)]
    undone = [
        later(
            transaction(
                "undo", f"u{tx_id}", leg("ROLLBACK", None, None), reference=("contribution", tx_id)
            )
        )
        for tx_id in ("here", "gone")
    ]
    of_deposit = transaction(
        "undo",
        "ud",
        leg("ROLLBACK", None, None),
        provider="adyen",
        reference=("AUTHORISATION", "d"),
    )
    await book_groups(url, [*undone, later(of_deposit)])
    assert rows(
        url, "SELECT provider_tx_id, outcome, reason FROM entry WHERE operation = 'undo' ORDER BY 1"
    ) == [
        ("ud", "UNRESOLVED", "PERIOD_ARCHIVED"),
        ("ugone", "POSTED", "BOOKED"),
        ("uhere", "POSTED", "BOOKED"),
    ]


async def test_a_month_comes_back_to_what_came_late_for_it_meanwhile(runtime):
    url = runtime.database_url
    migrate(url)
    rows(url, "SELECT make_transfer_month(202609), make_transfer_month(202610)")
    await book_groups(url, [deposit("d", 100), later(bet("b", 10))])
    move_away(url, SEPTEMBER)
    await book_groups(url, [win("late", 5, "b")])
    assert rows(url, PLACES) == [("transfer_202610", 2, 202610), ("transfer_other", 3, SEPTEMBER)]
    bring_back(url, SEPTEMBER)
    assert [place for place, _, _ in rows(url, PLACES)] == [
        "transfer_202609",
        "transfer_202610",
        "transfer_202609",
    ]
    assert rows(url, "SELECT count(*) FROM month_away") == [(0,)]


def test_months_are_made_ahead_and_listed(empty_runtime, monkeypatch):
    url = empty_runtime.database_url
    migrate(url)  # now: the template may be of the month before
    monkeypatch.setattr("pitboss.cli.ledger_months._database_url", lambda: url)

    def run_months(*arguments):
        done = CliRunner().invoke(ledger_group, ["months", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    missing = json.loads(run_months("make", "--ahead", "14", "--dry-run", "--json"))["missing"]
    assert len(missing) == 11  # there were this one and three more
    assert create_months(url, 14) == missing
    assert "nothing to make" in run_months("make", "--ahead", "14")
    there = [one["month"] for one in json.loads(run_months("list", "--json")) if one["month"]]
    assert there == sorted(there)
    assert len(there) == 16
    assert all(after == next_month(month) for month, after in pairwise(there))
    run_months("away", str(there[0]))
    assert "yes" in run_months("list")
    run_months("back", str(there[0]))


@pytest.mark.parametrize(
    ("at_ms", "month"),
    [
        (0, 197001),
        (-1, 0),
        (NOW, SEPTEMBER),
        (2**62, 0),
        (1_798_761_599_999, 202612),
        (1_798_761_600_000, 202701),
    ],
)
def test_a_time_has_a_month(at_ms, month):
    assert month_of(at_ms) == month


LOCKED_TRANSFERS = """
SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
 WHERE l.pid = pg_backend_pid() AND c.relname LIKE 'transfer%%'
"""


async def test_a_look_up_of_movements_locks_the_months_of_its_group_and_no_others(runtime):
    """A plan without months locks every partition with its indexes: hundreds for ten years, until COMMIT."""
    url = runtime.database_url
    migrate(url)
    rows(
        url,
        "SELECT make_transfer_month(year * 100 + month) FROM generate_series(2017, 2026) AS year,"
        " generate_series(1, 12) AS month",
    )
    await book_groups(url, [deposit("d", 100), bet("b", 10)])
    taken_back = log_event(rollback("r", "b"), 0, 2)
    read_set = collect_read_set([taken_back], {})
    database = LedgerDatabase(url, "pitboss.ledger")
    locked = []
    # PostgreSQL makes a plan for any parameters from the eleventh time on.
    for _ in range(14):
        book = Book()
        async with database.transaction() as connection:
            reads = await send_reads(connection, read_set, ["p-1"])
            await reads.fill(book)
            await read_follow_ups(connection, book, read_set, [taken_back])
            [(count,)] = await (await connection.execute(LOCKED_TRANSFERS)).fetchall()
        locked.append(count)
        assert [one.amount_minor for [one] in book.transfers_of.values()] == [10]
    await database.close()
    assert max(locked) <= 10, locked
