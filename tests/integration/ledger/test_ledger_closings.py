"""What has ended an event stays ended, in whichever transactions it came: on the real database."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from ledger_sink.booking.positions import claim_positions
from ledger_sink.store import ledger as ledger_module
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.migrate import migrate
from ledger_sink.store.reading import collect_read_set
from ledger_sink.store.writing import RowsMoved
from schemas.policies import LedgerPolicy
from tests.support.ledger_events import bet, deposit, leg, log_event, rollback, transaction

pytestmark = pytest.mark.integration

POLICIES = {
    "refuse": LedgerPolicy(rollback_after_win="REFUSE"),
    "open rounds": LedgerPolicy(open_round_max_age_ms=1),
}


@pytest.fixture
async def book(runtime):
    """Books events, each in a transaction of its own, under a policy."""
    migrate(runtime.database_url)
    database = LedgerDatabase(runtime.database_url, "pitboss.ledger")

    async def apply(policy, events):
        ledger = PostgresLedger(database, {"hub88": policy, "adyen": policy})
        ledger.epochs[0] = (await claim_positions(database, [0]))[0].epoch
        for offset, event in enumerate(events):
            await ledger.commit_group([Slice(0, offset, offset + 1, [log_event(event, 0, offset)])])

    yield apply
    await database.close()


def rows(runtime, query):
    with psycopg.connect(runtime.database_url) as connection:
        return connection.execute(query).fetchall()


def jackpot(tx_id, of):
    return transaction("jackpot", tx_id, leg("JACKPOT_WIN", 5), reference=("bet", of))


HISTORIES = {
    "after": [
        deposit("d", 1_000),
        bet("b", 100),
        rollback("r1", "b"),
        jackpot("j", "b"),
        rollback("r2", "b"),
    ],
    "before": [deposit("d", 1_000), rollback("r1", "b"), jackpot("j", "b"), bet("b", 100)],
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("history", HISTORIES)
async def test_a_bet_that_was_taken_back_stays_so_whatever_jackpot_names_it(
    book, runtime, policy, history
):
    await book(POLICIES[policy], HISTORIES[history])
    assert rows(runtime, "SELECT action FROM closing") == [("REVERSED",)]
    assert rows(runtime, "SELECT cash_minor FROM wallet") == [(1_005,)]


def of_payment(tx_id, kind, minor, currency="EUR"):
    legs, payment = leg(kind, minor, currency), ("AUTHORISATION", "d")
    return transaction(kind, tx_id, legs, provider="adyen", reference=payment, round_id=None)


async def test_a_reversal_beyond_its_stored_payment_is_in_suspense(book, runtime):
    events = [
        deposit("d", 1_000),
        of_payment("r1", "DEPOSIT_REVERSAL", 400),
        of_payment("r2", "DEPOSIT_REVERSAL", 1_001),
        of_payment("r3", "DEPOSIT_REVERSAL", 5, "BGN"),
        of_payment("r3", "DEPOSIT", 5, "BGN"),
    ]
    await book(LedgerPolicy(reversal_beyond_payment="SUSPENSE"), events)
    assert rows(runtime, "SELECT currency, cash_minor FROM wallet") == [("EUR", 600)]
    query = "SELECT reason FROM entry ORDER BY source_offset"
    assert [reason for (reason,) in rows(runtime, query)] == [
        *("BOOKED", "BOOKED", "ABOVE_PAYMENT"),
        *("PAYMENT_CURRENCY_DIFFERS", "PAYMENT_CURRENCY_DIFFERS"),
    ]
    query = (
        "SELECT currency, sum(amount_minor) FROM transfer WHERE debit = 'suspense:adyen' GROUP BY 1"
    )
    assert sorted(rows(runtime, query)) == [("BGN", 5), ("EUR", 1_001)]


async def test_an_end_that_was_not_read_is_not_overwritten(book, runtime, monkeypatch):

    def forgetful(events, policies):
        return replace(
            collect_read_set(events, policies),
            event_ids={one.event.event_id for one in events},
        )

    monkeypatch.setattr(ledger_module, "collect_read_set", forgetful)
    with pytest.raises(RowsMoved, match="1 closings changed, 0 were written"):
        await book(POLICIES["refuse"], HISTORIES["before"][:3])
    assert rows(runtime, "SELECT action FROM closing") == [("REVERSED",)]
    assert rows(runtime, "SELECT count(*) FROM entry") == [(2,)]


async def test_what_a_win_has_named_may_still_be_taken_back_where_nothing_forbids_it(book, runtime):
    policy = POLICIES["open rounds"]
    await book(policy, [deposit("d", 1_000), bet("b", 100), jackpot("j", "b"), rollback("r", "b")])
    assert rows(runtime, "SELECT action FROM closing") == [("REVERSED",)]
    assert rows(runtime, "SELECT cash_minor FROM wallet") == [(1_005,)]
