"""Workers that book the same ids at the same time, partition against partition: the replay says what they said."""

from __future__ import annotations

import asyncio
import random

import pytest

from ledger_sink.booking.positions import claim_positions
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.ledger import PostgresLedger, Slice
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
from tests.unit.ledger_events import bet, deposit, house, leg, log_event, rollback, transaction, win

pytestmark = pytest.mark.integration

WORKERS, PARTS_EACH = 3, 2
POLICIES = {"hub88": LedgerPolicy(refused_id_reusable=True)}


def contended(chance: random.Random, part: int, count: int):
    """A partition's events, of which many carry an id that other partitions use as well."""
    player, events = f"p-{part}", [deposit(f"first-{part}", 3_000, player=f"p-{part}")]
    for n in range(count):
        shared = f"s{chance.randrange(count)}"
        events.append(
            chance.choice(
                [
                    bet(shared, 100, player=player),
                    bet(shared, chance.choice([100, 9_000]), player=player),
                    transaction(
                        "bet", shared, leg("BET", 10, is_free=True), decide=True, player=player
                    ),
                    win(shared, 50, shared, player=player),
                    rollback(shared, shared, player=player),
                    rollback(f"{part}-{n}", shared, player=player),
                    deposit(shared, 70, player=chance.choice([player, None])),
                    house("adjustment", shared, leg("ADJUSTMENT", -5), player=player),
                    chance.choice(events),
                ]
            )
        )
    return events


@pytest.mark.timeout(240)
@pytest.mark.parametrize("round_", range(3))
async def test_a_replay_of_contended_partitions_gives_the_same_rows(runtime, round_):
    chance = random.Random(f"{SEED} {round_}")
    migrate(runtime.database_url)
    parts = range(WORKERS * PARTS_EACH)
    log = {
        part: [log_event(event, part, n) for n, event in enumerate(contended(chance, part, 120))]
        for part in parts
    }
    again = 0

    async def work(mine) -> None:
        nonlocal again
        ledger = PostgresLedger(LedgerDatabase(runtime.database_url, "pitboss.ledger"), POLICIES)
        claims = await claim_positions(ledger.database, mine)
        ledger.epochs.update({part: claim.epoch for part, claim in claims.items()})
        reached = dict.fromkeys(mine, 0)
        while any(reached[part] < len(log[part]) for part in mine):
            group = []
            for part in chance.sample(mine, chance.randint(1, len(mine))):
                start, end = (
                    reached[part],
                    min(len(log[part]), reached[part] + chance.randint(1, 12)),
                )
                if start < end:
                    group.append(Slice(part, start, end, log[part][start:end]))
            try:
                await ledger.commit_group(group)
            except Unavailable:
                again += 1
                await asyncio.sleep(chance.random() / 100)
            else:
                reached |= {slice_.partition: slice_.next_offset for slice_ in group}
        await ledger.database.close()

    await asyncio.gather(
        *[work(list(parts[w * PARTS_EACH : (w + 1) * PARTS_EACH])) for w in range(WORKERS)]
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
    empty = runtime_of(runtime.bootstrap_servers, runtime.database_url, f"{runtime.namespace}_r")
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
