"""What is decided while the group before it is written is what would be decided after it, or it is not written."""

from __future__ import annotations

import random

import psycopg
import pytest

from ledger_sink.booking.positions import claim_positions
from ledger_sink.rules.book import Book
from ledger_sink.rules.posting import post
from ledger_sink.store import transaction as transaction_module
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice, UnbookableEvent
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.migrate import migrate
from ledger_sink.store.writing import write_book
from schemas.errors import Fenced, Unavailable
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
POLICIES = {"hub88": LedgerPolicy(refused_id_reusable=True, rollback_after_win="REFUSE")}


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


def rows(runtime, query):
    with psycopg.connect(runtime.database_url) as connection:
        return connection.execute(query).fetchall()


def cut(partition, start, events):
    placed = [log_event(event, partition, start + n) for n, event in enumerate(events)]
    return Slice(partition, start, start + len(events), placed)


def any_event(rng: random.Random, partition: int):
    """Few ids and few players of a partition, so that events meet their own repeats, endings and namesakes."""
    player = f"p-{rng.randrange(2)}-{partition}"
    tx, other = str(rng.randrange(40)), str(rng.randrange(40))
    match rng.randrange(8):
        case 0:
            return deposit(tx, rng.randrange(1, 500), player=player)
        case 1 | 2 | 3:
            return bet(tx, rng.randrange(1, 300), player=player)
        case 4:
            return win(tx, rng.randrange(1, 300), other, player=player)
        case 5:
            return rollback(tx, other, player=player)
        case 6:
            name = rng.choice(["player.blocked", "player.released"])
            return house(name, tx, leg("PLAYER_STATE", None, None), player=player)
        case _ if rng.random() < 0.8:
            return deposit(other, 1, player=player)
        case _:
            return transaction(
                "rollback",
                f"n{tx}",
                leg("ROLLBACK", None, None),
                player=None,
                reference=("bet", other),
            )


def any_groups(rng: random.Random, count: int):
    """Slices of partitions 0 and 1, of 2 and 3, and so on in turns: as a committer makes them."""
    ends = [0] * PARTITIONS
    groups = []
    for turn in range(count):
        group = []
        for partition in ((0, 1), (2, 3))[turn % 2]:
            events = [any_event(rng, partition) for _ in range(rng.randrange(1, 12))]
            group.append(cut(partition, ends[partition], events))
            ends[partition] += len(events)
        groups.append(group)
    return groups


@pytest.mark.parametrize("draw", range(3))
async def test_groups_decided_ahead_are_as_if_one_came_after_the_other(worker, runtime, draw):
    rng = random.Random(f"{SEED} {draw}")
    groups = any_groups(rng, 30)
    ledger, ahead = await worker(), 0
    for turn, group in enumerate(groups):
        await ledger.commit_group(group, groups[turn + 1] if turn + 1 < len(groups) else ())
        ahead += ledger._ahead.has_group
    assert 5 < ahead < len(groups)
    book = Book()
    for group in groups:
        for event in (one for slice_ in group for one in slice_.events):
            post(book, event, POLICIES.get(event.event.provider, DEFAULT_POLICY))
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
    found = rows(runtime, query.format("false", "entry")) + rows(
        runtime, query.format("true", "repeat")
    )
    assert {row[:2]: row[2:] for row in found} == expected
    wallets = rows(
        runtime,
        "SELECT player_id, cash_minor, bonus_minor, held_minor, version FROM wallet ORDER BY 1",
    )
    assert wallets == sorted(
        (w.player_id, w.cash_minor, w.bonus_minor, w.held_minor, w.version)
        for w in book.changed_wallets.values()
    )


FIRST = cut(0, 0, [deposit("d", 1_000, player="a"), bet("b", 100, player="a")])
SECOND = cut(1, 0, [deposit("e", 500, player="c"), bet("f", 500, player="c")])


async def test_what_was_decided_on_top_of_a_group_that_failed_is_thrown_away(
    worker, runtime, monkeypatch
):
    ledger = await worker()
    first, second = [FIRST], [SECOND]

    async def write_and_lose(connection, *what):
        await write_book(connection, *what)
        message = "lost"
        raise Unavailable(message)

    with monkeypatch.context() as patched:
        patched.setattr(transaction_module, "write_book", write_and_lose)
        with pytest.raises(Unavailable):
            await ledger.commit_group(first, second)
    assert not ledger._ahead.has_group
    await ledger.commit_group(second, first)
    await ledger.commit_group(first)
    assert rows(runtime, "SELECT player_id, cash_minor FROM wallet ORDER BY 1") == [
        ("a", 900),
        ("c", 0),
    ]


async def test_what_is_only_known_already_teaches_nothing_of_its_players(worker, runtime):
    await (await worker([0])).commit_group([FIRST])
    ledger = await worker([0])
    await ledger.commit_group([FIRST])
    await ledger.commit_group([cut(0, 2, [win("w", 50, "b", player="a")])])
    assert rows(runtime, "SELECT cash_minor, version FROM wallet") == [(950, 3)]


async def test_a_draft_of_a_partition_that_another_worker_has_claimed_is_fenced(worker, runtime):
    ledger = await worker()
    first, second = [FIRST], [SECOND]
    await ledger.commit_group(first, second)
    await worker([1])
    with pytest.raises(Fenced):
        await ledger.commit_group(second)
    assert rows(runtime, "SELECT player_id FROM wallet") == [("a",)]


async def test_what_another_worker_has_moved_meanwhile_is_read_anew(worker, runtime):
    ours = await worker()
    await ours.commit_group([FIRST])
    other = await worker([0])
    await other.commit_group([cut(0, 2, [win("w", 50, "b", player="a")])])
    claims = await claim_positions(ours.database, [0])
    ours.epochs[0] = claims[0].epoch
    await ours.commit_group([cut(0, 3, [win("w2", 7, "b", player="a")])])
    assert rows(runtime, "SELECT cash_minor, version FROM wallet") == [(957, 4)]


async def test_a_draft_does_not_miss_what_crossed_partitions_meanwhile(worker, runtime):
    ours, other = await worker([0, 1]), await worker([2])
    first, second = [FIRST], [SECOND]
    await ours.commit_group(first, second)
    assert ours._ahead.has_group
    lost = transaction(
        "rollback", "r", leg("ROLLBACK", None, None), player=None, reference=("bet", "f")
    )
    await other.commit_group([cut(2, 0, [lost])])
    await ours.commit_group(second)
    assert rows(
        runtime, "SELECT provider_tx_id, outcome FROM entry WHERE part = 1 ORDER BY source_offset"
    ) == [("e", "POSTED"), ("f", "TOMBSTONED")]


async def test_who_was_read_anew_is_not_known_any_more_once_another_has_claimed_the_partition(
    worker, runtime
):
    ours, other = await worker([0, 1]), await worker([2])
    first, second = [FIRST], [SECOND]
    await ours.commit_group(first, second)
    lost = transaction(
        "rollback", "r", leg("ROLLBACK", None, None), player=None, reference=("bet", "f")
    )
    await other.commit_group([cut(2, 0, [lost])])
    await ours.commit_group(
        second
    )  # not as it was decided ahead: all that was remembered was forgotten on the way
    await (await worker([1])).commit_group([cut(1, 2, [deposit("g", 70, player="c")])])
    ours.epochs[1] = (await claim_positions(ours.database, [1]))[1].epoch
    # It moves nothing, so no row count shows that the wallet is another.
    free = transaction("bet", "h", leg("BET", 1, is_free=True), player="c", decide=True)
    await ours.commit_group([cut(1, 3, [free])])
    assert rows(
        runtime, "SELECT available_minor, version FROM entry WHERE provider_tx_id = 'h'"
    ) == [(570, 2)]


async def test_a_draft_that_cannot_be_decided_fails_at_its_own_turn(worker, runtime):
    ledger = await worker()
    first, second = [FIRST], [cut(1, 0, [transaction("x", "x", leg("UNHEARD_OF", 1))])]
    await ledger.commit_group(first, second)
    with pytest.raises(UnbookableEvent, match="no posting rule"):
        await ledger.commit_group(second)
    assert rows(runtime, "SELECT count(*) FROM entry") == [(2,)]


async def test_nothing_is_remembered_of_players_who_are_too_many(worker, runtime):
    ledger = await worker()
    ledger._players._players_max = 3
    for turn in range(3):
        deposits = [deposit(f"d{turn}{n}", 10, player=f"p{n}") for n in range(5)]
        await ledger.commit_group([cut(0, turn * 5, deposits)])
        assert len(ledger._players._players) == 3
    assert rows(runtime, "SELECT DISTINCT cash_minor, version FROM wallet") == [(30, 3)]
