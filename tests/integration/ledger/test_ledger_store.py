"""The ledger's one transaction on the real database: trims, fences, stops at holes, and writes what the rules decided."""

from __future__ import annotations

import msgspec
import psycopg
import pytest

from ledger_sink.booking.positions import claim_positions
from ledger_sink.store import transaction as transaction_module
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice, UnbookableEvent
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.migrate import MigrationChanged, list_migrations, migrate, migration_files
from ledger_sink.store.writing import RowsMoved, write_book
from runtime.postgres.database import DataRefused
from schemas.errors import Fenced, OffsetHole, Unavailable
from schemas.events import Amount, Leg, WalletTransaction
from schemas.identity import event_id
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser
from streams.providers.registry import DIALECTS, policies
from tests.support.camt_files import Packing, print_detail, print_entry, print_file
from tests.support.dialect_records import keyring, raw_record
from tests.support.ledger_events import (
    bet,
    call,
    deposit,
    house,
    leg,
    log_event,
    rollback,
    transaction,
    win,
)

pytestmark = pytest.mark.integration


@pytest.fixture
async def ledger(runtime):
    migrate(runtime.database_url)
    database = LedgerDatabase(runtime.database_url, "pitboss.ledger")
    postgres = PostgresLedger(database, {})
    claims = await claim_positions(database, [0, 1])
    postgres.epochs.update({partition: claim.epoch for partition, claim in claims.items()})
    yield postgres
    await database.close()


def slice_of(*events, partition=0, start=0):
    placed = [log_event(event, partition, start + n) for n, event in enumerate(events)]
    return Slice(partition, start, start + len(events), placed, 1_790_000_000_000, 7)


def rows(runtime, query):
    with psycopg.connect(runtime.database_url) as connection:
        return connection.execute(query).fetchall()


EVENTS = (
    deposit("d", 10_000),
    bet("b", 150),
    win("w", 400, "b"),
    bet("b2", 20_000),
    rollback("r0", "b3"),
    bet("b3", 50),
    rollback("r", "b"),
    house("player.limited", "l", leg("PLAYER_STATE", 100)),
)


async def test_what_the_rules_say_is_what_the_tables_hold(ledger, runtime):
    await ledger.commit_group([slice_of(*EVENTS)])
    assert rows(runtime, "SELECT outcome FROM entry ORDER BY source_offset") == [
        ("POSTED",),
        ("POSTED",),
        ("POSTED",),
        ("REFUSED_FUNDS",),
        ("TOMBSTONED",),
        ("TOMBSTONED",),
        ("POSTED",),
        ("POSTED",),
    ]
    assert rows(runtime, "SELECT player_id, currency, cash_minor, version FROM wallet") == [
        ("p-1", "EUR", 10_400, 4)
    ]
    assert rows(runtime, "SELECT version, cash_minor FROM transfer ORDER BY version") == [
        (1, 10_000),
        (2, 9_850),
        (3, 10_250),
        (4, 10_400),
    ]
    assert rows(runtime, "SELECT next_offset FROM stream_position WHERE part = 0") == [(8,)]


async def test_one_event_a_transaction_or_all_in_one_comes_out_alike(ledger, runtime):
    for offset, event in enumerate(EVENTS):
        await ledger.commit_group([slice_of(event, partition=1, start=offset)])
    one_by_one = rows(
        runtime,
        "SELECT event_id, outcome, available_minor, version FROM entry ORDER BY source_offset",
    )
    with psycopg.connect(runtime.database_url) as connection:
        for table in ("entry", "transfer", "wallet", "closing", "player_state"):
            connection.execute(f"DELETE FROM {table}")
    await ledger.commit_group([slice_of(*EVENTS)])
    assert one_by_one == rows(
        runtime,
        "SELECT event_id, outcome, available_minor, version FROM entry ORDER BY source_offset",
    )


def calls():
    """A call of a bet, a bet and a win, its retry, one with another bet, and fractions of contributions."""

    def parts(*more):
        beside = win("w1", 100, "b1", is_implied=True)
        return bet("b1", 300), bet("b2", 200), beside, *more

    share = Leg("JACKPOT_CONTRIBUTION", Amount(5, 3), "EUR")
    return [
        deposit("d", 1_000),
        *call(*parts()),
        *call(*reversed(parts())),
        *call(bet("b1", 300), bet("b9", 1)),
        *call(bet("c1", 300), bet("c2", 9_000)),
        *[transaction("bet", f"f{n}", leg("BET", 10), share, decide=True) for n in range(3)],
        rollback("r", "f2"),
        rollback("x", "w1", other_operations=("win",)),
    ]


@pytest.mark.parametrize("few_events_max", [0, 200])
async def test_a_call_is_decided_once_wherever_batches_end(ledger, runtime, few_events_max):
    """One record a transaction: whatever a later record of a call has to know is in the tables."""
    ledger._few_events_max = few_events_max
    events = calls()
    of_entry = "provider_tx_id, outcome, reason, available_minor, version, transfers, group_id, contribution_rest"
    of_repeat = "source_offset, provider_tx_id, redelivered, outcome, reason, available_minor"
    queries = (
        f"SELECT {of_entry} FROM entry ORDER BY source_offset, attempt_index",
        f"SELECT {of_repeat} FROM repeat ORDER BY source_offset, attempt_index",
        "SELECT cash_minor, version FROM wallet",
        "SELECT fractions FROM player_state",
        "SELECT version, debit, credit, amount_minor, cash_minor FROM transfer ORDER BY version",
    )
    for offset, event in enumerate(events):
        await ledger.commit_group([slice_of(event, partition=1, start=offset)])
    one_by_one = [rows(runtime, query) for query in queries]
    with psycopg.connect(runtime.database_url) as connection:
        for table in ("entry", "repeat", "transfer", "wallet", "closing", "player_state"):
            connection.execute(f"DELETE FROM {table}")
    ledger._players.clear()
    await ledger.commit_group([slice_of(*events)])
    assert one_by_one == [rows(runtime, query) for query in queries]
    entries, repeats, *_ = one_by_one
    assert [row[:2] for row in entries[1:6]] == [
        ("b1", "POSTED"),
        ("b2", "POSTED"),
        ("w1", "POSTED"),
        ("c1", "REFUSED_FUNDS"),
        ("c2", "REFUSED_FUNDS"),
    ]
    # The first record of the retry answers all three, and so does that of the other call.
    assert [row[1] for row in repeats if row[0] == 4] == ["w1", "b2", "b1"]
    assert {row[3] for row in repeats if row[0] in (4, 5, 6)} == {"EXISTS"}
    assert [row[3:5] for row in repeats if row[0] in (7, 8)] == [
        ("CONFLICT", "DECIDED_WITH_OTHERS")
    ] * 3
    assert rows(runtime, "SELECT amount_minor FROM transfer WHERE credit = 'jackpot:hub88'") == [
        (1,)
    ]
    # Three halves were contributed and one was rolled back: one whole was moved, nothing is left over.
    assert rows(runtime, "SELECT fractions FROM player_state") == [({},)]
    assert rows(runtime, "SELECT cash_minor FROM wallet") == [(1_000 - 300 - 200 - 20,)]


async def test_a_redelivered_batch_is_trimmed_to_what_is_new(ledger, runtime):
    await ledger.commit_group([slice_of(*EVENTS[:3])])
    again = await ledger.commit_group([slice_of(*EVENTS[:3])])
    assert [slice_.next_offset for slice_ in again.already_committed] == [3]
    overlapping = await ledger.commit_group([slice_of(*EVENTS)])
    assert [(slice_.from_offset, slice_.next_offset) for slice_ in overlapping.newly_committed] == [
        (3, 8)
    ]
    # What was trimmed off may never have been published: its COMMIT's reply was lost.
    assert [
        (slice_.from_offset, slice_.next_offset) for slice_ in overlapping.already_committed
    ] == [(0, 3)]
    assert rows(runtime, "SELECT count(*) FROM entry") == [(8,)]
    assert rows(runtime, "SELECT from_offset, next_offset FROM batch ORDER BY sequence") == [
        (0, 3),
        (3, 8),
    ]


async def test_a_hole_stops_the_ledger(ledger):
    with pytest.raises(OffsetHole, match="@0"):
        await ledger.commit_group([slice_of(bet("b", 1), start=5)])


async def test_a_zombie_is_fenced_and_writes_nothing(ledger, runtime):
    await ledger.commit_group([slice_of(*EVENTS[:2])])
    other = LedgerDatabase(runtime.database_url, "pitboss.other")
    await claim_positions(other, [0])
    with pytest.raises(Fenced, match="epoch 2, ours 1"):
        await ledger.commit_group([slice_of(EVENTS[2], start=2)])
    assert rows(runtime, "SELECT count(*) FROM entry") == [(2,)]
    await other.close()


async def test_a_batch_of_a_revoked_partition_is_not_applied_and_ends_no_worker(ledger, runtime):
    del ledger.epochs[1]
    both = [slice_of(*EVENTS[:2]), slice_of(deposit("e", 100, player="p-2"), partition=1)]
    with pytest.raises(Unavailable, match="revoked while"):
        await ledger.commit_group(both)
    assert rows(runtime, "SELECT count(*) FROM entry") == [(0,)]
    await ledger.commit_group(both[:1])


async def test_a_partition_that_is_revoked_during_its_commit_is_committed(
    ledger, runtime, monkeypatch
):

    async def write_and_revoke(*what):
        await write_book(*what)
        ledger.epochs.clear()

    monkeypatch.setattr(transaction_module, "write_book", write_and_revoke)
    applied = await ledger.commit_group([slice_of(*EVENTS[:2])])
    assert applied.epochs == {0: 1}
    assert rows(runtime, "SELECT next_offset FROM stream_position WHERE part = 0") == [(2,)]


@pytest.mark.parametrize(
    "event",
    [
        win("w\0", 1, "b"),
        win("w", 1, "b", player="p\0"),
        win("w", 1, "b", round_id="\0"),
        bet("b\0", 1),
    ],
)
async def test_what_postgresql_cannot_store_is_named_and_never_skipped(ledger, runtime, event):
    with pytest.raises(
        UnbookableEvent, match=r"wallet\.transactions\.v1-0@1: PostgreSQL stores no NUL"
    ):
        await ledger.commit_group([slice_of(deposit("d", 10), event)])
    assert rows(runtime, "SELECT count(*) FROM entry") == [(0,)]


@pytest.mark.parametrize(
    "odd", ["\\N", "a\tb\nc\rd", "\\.", "ł🎰'\"$1%s", "x" * 128, "🎰" * 128, ":cash", " "]
)
async def test_any_other_text_comes_back_as_it_went_in(ledger, runtime, odd):
    await ledger.commit_group([slice_of(win(odd, 10, odd, player=odd, round_id=odd))])
    await ledger.commit_group([slice_of(bet(odd, 4, player=odd), start=1)])
    await ledger.commit_group([slice_of(rollback(odd, odd, player=odd), start=2)])
    assert rows(runtime, "SELECT player_id, provider_tx_id, round_id, outcome FROM entry") == [
        (odd, odd, odd, "POSTED"),
        (odd, odd, "r-1", "POSTED"),
        (odd, odd, "r-1", "POSTED"),
    ]
    assert rows(runtime, "SELECT player_id, cash_minor, version FROM wallet") == [(odd, 10, 3)]


async def test_a_key_that_no_index_takes_is_no_outage(ledger):
    long = "".join(chr(0x4E00 + n % 20_000) for n in range(0, 90_000, 7))
    with pytest.raises(DataRefused, match="does not take this"):
        await ledger.commit_group([slice_of(win("w", 1, "b", player=long))])


async def test_a_currency_whose_decimals_were_changed_stops_the_ledger(ledger, runtime):
    await ledger.commit_group([slice_of(EVENTS[0])])
    with psycopg.connect(runtime.database_url) as connection:
        connection.execute("UPDATE wallet SET scale = 3")
    ledger._players.clear()  # as a worker that starts
    with pytest.raises(UnbookableEvent, match="opened with 3 decimals, the currency now has 2"):
        await ledger.commit_group([slice_of(EVENTS[1], start=1)])


async def test_a_wallet_that_another_writer_moved_forward_is_noticed(ledger, runtime):
    await ledger.commit_group([slice_of(EVENTS[0])])
    with psycopg.connect(runtime.database_url, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION overtake() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " UPDATE wallet SET version = 100; RETURN NULL; END $$"
        )
        connection.execute(
            "CREATE TRIGGER overtake AFTER INSERT ON transfer FOR EACH STATEMENT EXECUTE FUNCTION overtake()"
        )
    ledger._few_events_max = 0  # else one statement does it all, and the trigger comes after it
    with pytest.raises(RowsMoved, match="1 wallets changed, 0 were written"):
        await ledger.commit_group([slice_of(EVENTS[1], start=1)])


async def test_a_rollback_in_a_later_transaction_returns_what_the_bet_took(ledger, runtime):
    grant = house("bonus.granted", "g", leg("BONUS_GRANT", 500))
    await ledger.commit_group([slice_of(deposit("d", 100), grant, bet("b", 150))])
    await ledger.commit_group([slice_of(rollback("r", "b"), start=3)])
    assert rows(runtime, "SELECT cash_minor, bonus_minor, version FROM wallet") == [(100, 500, 6)]


REQUEST = house("withdrawal.requested", "w", leg("WITHDRAWAL", 60), decide=True)
ABOUT_IT = ("withdrawal.requested", "w")


@pytest.mark.parametrize(
    ("ending", "purse"),
    [
        (house("withdrawal.paid", "p", leg("WITHDRAWAL", None, None), reference=ABOUT_IT), (40, 0)),
        (
            house(
                "withdrawal.refused",
                "r",
                leg("WITHDRAWAL_REVERSAL", None, None),
                reference=ABOUT_IT,
            ),
            (100, 0),
        ),
        (house("cancel", "c", leg("CANCEL", None, None), reference=ABOUT_IT), (100, 0)),
        (house("x", "x", leg("ROLLBACK", None, None), reference=ABOUT_IT), (100, 0)),
        (
            house("withdrawal.approved", "a", leg("INFORMATIONAL", None, None), reference=ABOUT_IT),
            (40, 60),
        ),
    ],
)
async def test_a_withdrawal_is_ended_in_a_later_transaction(ledger, runtime, ending, purse):
    await ledger.commit_group([slice_of(deposit("d", 100), REQUEST)])
    assert rows(runtime, "SELECT cash_minor, held_minor FROM wallet") == [(40, 60)]
    await ledger.commit_group([slice_of(ending, start=2)])
    assert rows(runtime, "SELECT cash_minor, held_minor FROM wallet") == [purse]


async def test_identity_holds_across_partitions(ledger, runtime):
    await ledger.commit_group(
        [
            slice_of(deposit("d", 1_000), bet("b", 100)),
            slice_of(deposit("e", 1_000, player="p-2"), partition=1),
        ]
    )
    await ledger.commit_group([slice_of(bet("b", 100, player="p-2"), partition=1, start=1)])
    assert rows(runtime, "SELECT outcome FROM repeat") == [("CONFLICT",)]
    assert rows(runtime, "SELECT cash_minor FROM wallet WHERE player_id = 'p-2'") == [(1_000,)]


async def test_the_connection_may_break_between_batches(ledger, runtime):
    await ledger.commit_group([slice_of(*EVENTS[:2])])
    with psycopg.connect(runtime.database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pitboss.ledger'"
            " AND datname = current_database()"
        )
    with pytest.raises(Unavailable):
        await ledger.commit_group([slice_of(EVENTS[2], start=2)])
    await ledger.commit_group([slice_of(EVENTS[2], start=2)])
    assert rows(runtime, "SELECT count(*) FROM entry") == [(3,)]


async def test_migrations_are_applied_once_and_never_edited(empty_runtime):
    names = [migration.name for migration in migration_files()]
    assert names == sorted(names)
    assert [migration.name for migration in migrate(empty_runtime.database_url)] == names
    assert migrate(empty_runtime.database_url) == []
    assert all(migration.is_applied for migration in list_migrations(empty_runtime.database_url))
    with psycopg.connect(empty_runtime.database_url) as connection:
        connection.execute("UPDATE schema_migration SET checksum = 'other'")
    with pytest.raises(MigrationChanged, match="0001_ledger"):
        migrate(empty_runtime.database_url)


def events_of(*entries: str, statement: str) -> list[WalletTransaction]:
    body = print_file(entries, packing=Packing("054", statement=statement))
    items = Normaliser(DIALECTS, keyring()).normalise(raw_record("camt", body))
    return [item.transaction for item in items if isinstance(item, AcceptedTransaction)]


@pytest.mark.parametrize("is_whole_first", [True, False])
async def test_a_whole_goes_back_whatever_transaction_its_payments_come_in(
    ledger, runtime, is_whole_first
):
    whole = events_of(print_entry(amount="100", ref="R1"), statement="N1")
    details = [
        print_detail(amount=amount, refs=f"<TxId>T{amount}</TxId>") for amount in ("30", "70")
    ]
    parts = events_of(print_entry(*details, amount="100", ref="R1"), statement="N2")
    assert (len(whole), len(parts)) == (1, 3)
    start = 0
    for events in (whole, parts) if is_whole_first else (parts, whole):
        await ledger.commit_group([slice_of(*events, start=start)])
        start += len(events)
    moved = rows(runtime, "SELECT debit, credit, amount_minor FROM transfer")
    suspense = sum(
        amount * (credit.startswith("suspense") - debit.startswith("suspense"))
        for debit, credit, amount in moved
    )
    assert suspense == 10_000, moved


async def test_what_refers_to_money_of_another_brand_is_decided(ledger, runtime):
    """Such money has moved between house accounts alone, so no wallet has it: the worker ended for ever (simulator, seed 726)."""
    of_other_brand = msgspec.structs.replace(
        transaction("AUTHORISATION", "p", leg("DEPOSIT", 500, "USD"), provider="adyen"),
        event_id=event_id("zeta", "adyen", "AUTHORISATION", "p"),
        brand="zeta",
    )
    chargeback = msgspec.structs.replace(
        transaction(
            "CHARGEBACK",
            "c",
            leg("DEPOSIT_REVERSAL", 500, "USD"),
            provider="adyen",
            reference=("AUTHORISATION", "p"),
        ),
        brand="zeta",
    )
    await ledger.commit_group([slice_of(deposit("d", 10_000), of_other_brand)])
    assert rows(
        runtime, "SELECT transfers, currency, version FROM entry WHERE provider_tx_id = 'p'"
    ) == [(1, None, None)]
    # By a worker that has to read what the one before has booked.
    successor = PostgresLedger(ledger.database, policies())
    successor.epochs.update(ledger.epochs)
    await successor.commit_group([slice_of(chargeback, start=2)])
    assert rows(runtime, "SELECT outcome, reason FROM entry WHERE provider_tx_id = 'c'") == [
        ("UNRESOLVED", "PLAYER_OF_OTHER_BRAND")
    ]
