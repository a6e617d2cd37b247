"""Workers that book the same ids at the same time, partition against partition: the replay gives their answers."""

from __future__ import annotations

import asyncio
import random

import pytest

from ledger_sink.booking.positions import claim_positions
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.migrate import migrate
from pitboss.embedded.databases import create_database, drop_database
from pitboss.settings import runtime_of
from replay.audit.checks import check_tables
from replay.audit.evidence import read_tables
from replay.audit.rerun import replay_ledger
from schemas.errors import Unavailable
from schemas.policies import LedgerPolicy
from schemas.topics import TRANSACTIONS
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

WORKERS, PARTITIONS_EACH = 3, 2
POLICIES = {"hub88": LedgerPolicy(refused_id_reusable=True)}


def contended_events(rng: random.Random, partition: int, count: int):
    """A partition's events, of which many carry an id that other partitions use as well."""
    player, events = (
        f"p-{partition}",
        [deposit(f"first-{partition}", 3_000, player=f"p-{partition}")],
    )
    for n in range(count):
        shared = f"s{rng.randrange(count)}"
        events.append(
            rng.choice(
                [
                    bet(shared, 100, player=player),
                    bet(shared, rng.choice([100, 9_000]), player=player),
                    transaction(
                        "bet", shared, leg("BET", 10, is_free=True), decide=True, player=player
                    ),
                    win(shared, 50, shared, player=player),
                    rollback(shared, shared, player=player),
                    rollback(f"{partition}-{n}", shared, player=player),
                    deposit(shared, 70, player=rng.choice([player, None])),
                    house("adjustment", shared, leg("ADJUSTMENT", -5), player=player),
                    rng.choice(events),
                ]
            )
        )
    return events


@pytest.mark.timeout(240)
@pytest.mark.parametrize("round_", range(3))
async def test_a_replay_of_contended_partitions_gives_the_same_rows(runtime, round_):
    rng = random.Random(f"{SEED} {round_}")
    migrate(runtime.database_url)
    partitions = range(WORKERS * PARTITIONS_EACH)
    log = {
        partition: [
            log_event(event, partition, n)
            for n, event in enumerate(contended_events(rng, partition, 120))
        ]
        for partition in partitions
    }
    again = 0

    async def work(mine) -> None:
        nonlocal again
        ledger = PostgresLedger(LedgerDatabase(runtime.database_url, "pitboss.ledger"), POLICIES)
        claims = await claim_positions(ledger.database, mine)
        ledger.epochs.update({partition: claim.epoch for partition, claim in claims.items()})
        reached = dict.fromkeys(mine, 0)
        while any(reached[partition] < len(log[partition]) for partition in mine):
            group = []
            for partition in rng.sample(mine, rng.randint(1, len(mine))):
                start, end = (
                    reached[partition],
                    min(len(log[partition]), reached[partition] + rng.randint(1, 12)),
                )
                if start < end:
                    group.append(Slice(partition, start, end, log[partition][start:end]))
            try:
                await ledger.commit_group(group)
            except Unavailable:
                again += 1
                await asyncio.sleep(rng.random() / 100)
            else:
                reached |= {slice_.partition: slice_.next_offset for slice_ in group}
        await ledger.database.close()

    await asyncio.gather(
        *[
            work(list(partitions[w * PARTITIONS_EACH : (w + 1) * PARTITIONS_EACH]))
            for w in range(WORKERS)
        ]
    )
    database = LedgerDatabase(runtime.database_url, "pitboss.test")
    live, checks = await read_tables(database), await check_tables(database)
    await database.close()
    assert {check.name: check.detail for check in checks if not check.holds} == {}
    assert {answer.outcome for answer in live.answers} >= {
        "CONFLICT",
        "REFUSED_FUNDS",
        "TOMBSTONED",
        "EXISTS",
    }
    empty = runtime_of(runtime.broker, runtime.database_url, f"{runtime.namespace}_r")
    create_database(empty)
    try:
        await replay_ledger(
            empty.database_url, TRANSACTIONS, log, live.batches, POLICIES, lambda *_: None
        )
        database = LedgerDatabase(empty.database_url, "pitboss.test")
        replayed = await read_tables(database)
        await database.close()
    finally:
        drop_database(empty)
    assert replayed == live
    print(f"{again} transactions were tried again")
