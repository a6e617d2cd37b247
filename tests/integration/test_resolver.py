"""Events without a player: found, waiting, or final, on the real database."""

from __future__ import annotations

import psycopg
import pytest

from ledger_sink.database import Database
from ledger_sink.migrate import migrate
from ledger_sink.positions import claim_positions
from ledger_sink.resolver import CONSUMER, Parked, Resolver, has_passed
from ledger_sink.store import PostgresLedger, Slice
from schemas import codec
from schemas.errors import Fenced, OffsetHole
from schemas.events import WalletTransaction
from schemas.topics import TRANSACTIONS, UNRESOLVED
from tests.unit.ledger_events import deposit, house, leg, sourced, transaction

pytestmark = pytest.mark.integration


class Log:
    """How far things are, said by the test; the appended records, kept."""

    def __init__(self) -> None:
        self.raw, self.done, self.log = {"raw-0": 5}, {"raw-0": 0}, {f"{TRANSACTIONS}-0": 1}
        self.records = []

    async def append(self, records):
        self.records += [(key.decode(), codec.decoder(WalletTransaction)(value)) for key, value in records]

    async def raw_ends(self):
        return self.raw

    async def normalised(self):
        return self.done

    async def log_ends(self):
        return self.log


@pytest.fixture
async def parts(runtime):
    migrate(runtime.database_url)
    database = Database(runtime.database_url, "pitboss.resolve")
    ledger = PostgresLedger(Database(runtime.database_url, "pitboss.ledger"), {})
    claims = await claim_positions(ledger.database, [0])
    ledger.epochs.update({0: claims[0].epoch})
    log = Log()
    resolver = Resolver(database, log.append, log, topic=UNRESOLVED, log_topic=TRANSACTIONS, min_age_ms=0)
    claims = await claim_positions(database, [0], consumer=CONSUMER, topic=UNRESOLVED)
    resolver.epochs[0] = claims[0].epoch
    yield resolver, ledger, log
    await database.close()
    await ledger.database.close()


def notice(tx_id="psp-1", of="dep-1"):
    return deposit(tx_id, 2_500, player=None, reference=("deposit.opened", of))


def opened(tx_id="dep-1"):
    return house("deposit.opened", tx_id, leg("INFORMATIONAL", 2_500))


def parked(*events):
    return [Parked(n, event, codec.encoder(WalletTransaction)(event)) for n, event in enumerate(events)]


async def book(ledger, *events, start=0):
    rows = [sourced(event, 0, start + n) for n, event in enumerate(events)]
    await ledger.apply([Slice(0, start, start + len(events), rows)])


async def test_a_notice_is_appended_under_the_player_who_opened_the_deposit(parts):
    resolver, ledger, log = parts
    await book(ledger, opened())
    await resolver.park(0, 0, 1, parked(notice()))
    await resolver.sweep()
    assert [(key, event.player_id, event.event_id) for key, event in log.records] == [("p-1", "p-1", notice().event_id)]
    await resolver.sweep()
    assert len(log.records) == 1


async def test_a_notice_that_comes_first_waits_for_its_deposit(parts):
    resolver, ledger, log = parts
    await resolver.park(0, 0, 1, parked(notice()))
    assert await resolver.sweep() == 1
    assert log.records == []
    await book(ledger, opened())
    await resolver.sweep()
    assert [key for key, _ in log.records] == ["p-1"]


async def test_not_found_is_final_only_behind_both_barriers(parts):
    resolver, ledger, log = parts
    await resolver.park(0, 0, 1, parked(notice()))
    for _ in range(3):
        await resolver.sweep()
    assert log.records == []  # the raw records are not normalised yet
    log.done["raw-0"] = 5
    for _ in range(3):
        await resolver.sweep()
    assert log.records == []  # the log is not booked yet
    await book(ledger, deposit("other", 100))
    await resolver.sweep()
    assert [(key, event.player_id) for key, event in log.records] == [("psp-1", None)]


async def test_a_refund_waits_while_its_payment_waits(parts):
    resolver, ledger, log = parts
    refund = transaction(
        "REFUND", "ref-1", leg("DEPOSIT_REVERSAL", 2_500), provider="adyen", player=None,
        reference=("AUTHORISATION", "psp-1"), round_id=None,
    )  # fmt: skip
    log.done["raw-0"] = 5
    await resolver.park(0, 0, 2, parked(refund, notice()))
    await book(ledger, opened())
    await resolver.sweep()
    await resolver.sweep()
    assert [key for key, _ in log.records] == ["p-1"]
    await book(ledger, log.records[0][1], start=1)
    await resolver.sweep()
    assert [(key, event.operation) for key, event in log.records] == [("p-1", "AUTHORISATION"), ("p-1", "REFUND")]


async def test_parking_twice_is_parking_once_and_a_zombie_parks_nothing(parts, runtime):
    resolver, _, _ = parts
    await resolver.park(0, 0, 1, parked(notice()))
    await resolver.park(0, 0, 1, parked(notice()))
    with pytest.raises(OffsetHole):
        await resolver.park(0, 4, 5, ())
    with psycopg.connect(runtime.database_url) as connection:
        assert connection.execute("SELECT count(*) FROM parked").fetchone() == (1,)
        connection.execute("UPDATE stream_position SET epoch = epoch + 1")
    with pytest.raises(Fenced):
        await resolver.park(0, 1, 2, ())


def test_a_barrier_is_passed_when_every_partition_has_reached_it():
    assert has_passed({"a-0": 3, "b-0": 0}, {"a-0": 3})
    assert not has_passed({"a-0": 3}, {"a-0": 2})
    assert not has_passed({"a-0": 3}, {})
