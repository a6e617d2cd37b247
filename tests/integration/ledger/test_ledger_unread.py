"""Groups that are written in one round trip without reading first: what is taken for granted is checked as they are written."""

from __future__ import annotations

import random
from typing import Any

import psycopg
import pytest

from ledger_sink.booking.positions import claim_positions
from ledger_sink.rules.book import Book
from ledger_sink.rules.posting import post
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.migrate import migrate
from runtime.postgres.database import DemandFailed, TransactionTrips
from schemas.errors import Fenced, OffsetHole
from schemas.policies import DEFAULT_POLICY, LedgerPolicy
from tests.support.fix_stack import SEED
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

PARTITIONS = 4
POLICIES = {"hub88": LedgerPolicy(refused_id_reusable=True)}


@pytest.fixture
async def worker(runtime):
    migrate(runtime.database_url)
    opened = []

    async def another(partitions=range(PARTITIONS)):
        ledger = PostgresLedger(LedgerDatabase(runtime.database_url, "pitboss.ledger"), POLICIES)
        opened.append(ledger)
        claims = await claim_positions(ledger.database, partitions)
        ledger.epochs.update({partition: claim.epoch for partition, claim in claims.items()})
        return ledger

    yield another
    for ledger in opened:
        await ledger.database.close()


@pytest.fixture
def trips(monkeypatch):
    """The round trips of transactions so far."""
    made: list[Any] = []
    original, original_whole = TransactionTrips.trip, TransactionTrips.commit_all

    def counted(self, **options):
        made.append(options)
        return original(self, **options)

    def counted_whole(self, statements):
        made.append("whole")
        return original_whole(self, statements)

    monkeypatch.setattr(TransactionTrips, "trip", counted)
    monkeypatch.setattr(TransactionTrips, "commit_all", counted_whole)
    return made


def rows(runtime, query):
    with psycopg.connect(runtime.database_url) as connection:
        return connection.execute(query).fetchall()


def cut(start, *events, partition=0):
    placed = [log_event(event, partition, start + n) for n, event in enumerate(events)]
    return Slice(partition, start, start + len(events), placed)


async def test_a_bet_of_a_known_player_takes_one_round_trip(worker, runtime, trips):
    ledger = await worker()
    await ledger.commit_group([cut(0, deposit("d", 1_000), bet("b", 100))])
    trips.clear()
    await ledger.commit_group([cut(2, bet("c", 50)), cut(0, partition=1)])
    assert trips == ["whole"]
    await ledger.commit_group([cut(3, win("w", 70, "c"), bet("d2", 5_000))])
    assert trips == ["whole"] * 2
    assert ledger.reread_groups == 0
    assert rows(runtime, "SELECT cash_minor, version FROM wallet") == [(920, 4)]
    assert rows(runtime, "SELECT outcome FROM entry WHERE provider_tx_id = 'd2'") == [
        ("REFUSED_FUNDS",)
    ]
    assert rows(
        runtime, "SELECT next_offset FROM stream_position WHERE part < 2 ORDER BY part"
    ) == [
        (5,),
        (0,),
    ]


async def test_a_player_who_is_not_in_memory_is_read_without_a_transaction(worker, runtime, trips):
    await (await worker()).commit_group([cut(0, deposit("d", 1_000))])
    ledger = await worker()
    trips.clear()
    await ledger.commit_group([cut(1, bet("b", 400))])
    assert trips == ["whole"]
    assert rows(runtime, "SELECT cash_minor, version FROM wallet") == [(600, 2)]


async def test_what_has_come_before_is_found_and_answered_as_before(worker, runtime):
    ledger = await worker()
    await ledger.commit_group([cut(0, deposit("d", 1_000), rollback("r", "late"), bet("b", 100))])
    await ledger.commit_group([cut(3, bet("b", 100))])
    assert ledger.reread_groups == 1
    applied = await ledger.commit_group([cut(4, bet("late", 100))])
    assert ledger.reread_groups == 2
    assert [one.answer.outcome for one in applied.book.decisions] == ["TOMBSTONED"]
    assert rows(runtime, "SELECT outcome FROM repeat") == [("EXISTS",)]
    assert rows(runtime, "SELECT cash_minor FROM wallet") == [(900,)]


async def test_a_redelivered_group_is_trimmed_and_a_hole_stops(worker, runtime):
    ledger = await worker()
    await ledger.commit_group([cut(0, deposit("d", 1_000))])
    group = [cut(1, bet("b", 100))]
    await ledger.commit_group(group)
    applied = await ledger.commit_group(group)
    assert (len(applied.already_committed), applied.newly_committed) == (1, [])
    with pytest.raises(OffsetHole):
        await ledger.commit_group([cut(7, bet("c", 100))])
    assert rows(runtime, "SELECT cash_minor FROM wallet") == [(900,)]


async def test_a_zombie_with_all_players_in_memory_is_fenced(worker, runtime):
    zombie = await worker()
    await zombie.commit_group([cut(0, deposit("d", 1_000))])
    await (await worker()).commit_group([cut(1, bet("b", 1_000))])
    with pytest.raises(Fenced):
        await zombie.commit_group([cut(1, bet("z", 1_000))])
    assert rows(runtime, "SELECT provider_tx_id FROM entry ORDER BY 1") == [("b",), ("d",)]


async def test_a_group_that_has_to_be_read_logs_no_warning(worker, caplog):
    ledger = await worker()
    await ledger.commit_group([cut(0, deposit("d", 1_000), bet("b", 1))])
    for offset in range(2, 12):
        await ledger.commit_group([cut(offset, bet("b", 1))])
    assert ledger.reread_groups == 10
    assert caplog.records == []


async def test_a_wallet_that_was_moved_meanwhile_is_read_anew(worker, runtime):
    ledger = await worker()
    await ledger.commit_group([cut(0, deposit("d", 1_000))])
    with psycopg.connect(runtime.database_url) as connection:
        connection.execute("UPDATE wallet SET cash_minor = 30, version = 50")
    applied = await ledger.commit_group([cut(1, bet("b", 100))])
    assert ledger.reread_groups == 1
    assert [one.answer.outcome for one in applied.book.decisions] == ["REFUSED_FUNDS"]


async def test_nothing_is_committed_behind_a_demand_that_fails(worker, runtime):
    ledger = await worker()

    async def write_and_demand() -> None:
        async with ledger.database.trips() as trips, trips.trip(is_last=True):
            await trips.connection.execute("UPDATE crossing SET count = 7")
            await trips.connection.execute("SELECT demand(false, 'it does not hold')")

    with pytest.raises(DemandFailed, match="it does not hold"):
        await write_and_demand()
    assert rows(runtime, "SELECT count FROM crossing") == [(0,)]
    await ledger.commit_group([cut(0, deposit("d", 1))])


def any_event(rng: random.Random, player: str):
    tx, other = str(rng.randrange(60)), str(rng.randrange(60))
    match rng.randrange(10):
        case 0:
            return deposit(tx, rng.randrange(1, 500), player=player)
        case 1 | 2 | 3 | 4 | 5:
            return bet(tx, rng.randrange(1, 300), player=player)
        case 6:
            return win(tx, rng.randrange(1, 300), other, player=player)
        case 7:
            return rollback(tx, other, player=player)
        case 8:
            name = rng.choice(["player.blocked", "player.released"])
            return house(name, tx, leg("PLAYER_STATE", None, None), player=player)
        case _:
            return transaction(
                "rollback",
                f"n{tx}",
                leg("ROLLBACK", None, None),
                player=None,
                reference=("bet", other),
            )


@pytest.mark.parametrize("draw", range(3))
async def test_small_groups_are_booked_as_the_rules_decide_them_one_by_one(worker, runtime, draw):
    rng = random.Random(f"{SEED} {draw}")
    ledger, ends, book = await worker(), [0] * PARTITIONS, Book()
    for _ in range(120):
        group = []
        for partition in rng.sample(range(PARTITIONS), rng.randrange(1, 3)):
            player = f"p-{rng.randrange(2)}-{partition}"
            events = [any_event(rng, player) for _ in range(rng.randrange(1, 3))]
            group.append(cut(ends[partition], *events, partition=partition))
            ends[partition] += len(events)
        await ledger.commit_group(group)
        for event in (one for slice_ in group for one in slice_.events):
            post(book, event, POLICIES.get(event.event.provider, DEFAULT_POLICY))
    assert ledger.unread_groups > 5
    assert ledger.reread_groups > 2
    expected = {
        (one.log_event.source.partition, one.log_event.source.offset): (
            one.answer.outcome,
            one.answer.reason,
            one.answer.available_minor,
            one.answer.version,
            one.decision is None,
        )
        for one in book.decisions
    }
    query = "SELECT part, source_offset, outcome, reason, available_minor, version, {} FROM {}"
    found = rows(runtime, query.format("false", "entry"))
    found += rows(runtime, query.format("true", "repeat"))
    assert {row[:2]: row[2:] for row in found} == expected
    wallets = rows(runtime, "SELECT player_id, cash_minor, version FROM wallet ORDER BY 1")
    assert wallets == sorted(
        (wallet.player_id, wallet.cash_minor, wallet.version)
        for wallet in book.changed_wallets.values()
    )
    gaps = "SELECT count(*) FROM batch b WHERE from_offset > 0 AND NOT EXISTS (SELECT FROM batch o WHERE o.part = b.part AND o.next_offset = b.from_offset)"
    assert rows(runtime, gaps) == [(0,)]
