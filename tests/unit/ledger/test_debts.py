from __future__ import annotations

import msgspec
import pytest

from ledger_sink.booking.messages import MessageEncoder
from schemas import codec
from schemas.events import FraudAlert
from tests.support.ledger_events import (
    bet,
    book_of,
    deposit,
    house,
    leg,
    limit_events,
    rollback,
    transaction,
    win,
)


def row_of(decided):
    event, answer, source = decided.log_event.event, decided.answer, decided.log_event.source
    attempt = event.attempt
    return (
        source.offset,
        event.event_id,
        event.brand,
        event.provider,
        event.operation,
        event.provider_tx_id,
        attempt.topic,
        attempt.partition,
        attempt.offset,
        attempt.record_index,
        event.player_id,
        answer.outcome,
        answer.reason,
        answer.currency,
        answer.available_minor,
        answer.version,
        answer.decided_at,
        event.occurred_at,
    )


def test_a_debt_is_an_alert_from_memory_and_the_same_one_from_the_tables():
    chargeback = transaction("CHARGEBACK", "c", leg("DEPOSIT_REVERSAL", 450), provider="adyen")
    correction = house("adjustment", "a", leg("ADJUSTMENT", -1))
    book = book_of(*limit_events(1), deposit("d", 300), chargeback, correction, chargeback)
    records = MessageEncoder("wallet.transactions.v1")
    decisions = book.decisions[2:]
    alerts = [records.encode_alert(decided) for decided in decisions]
    assert [alert is not None for alert in alerts] == [False, True, True, False]
    assert [records.encode_alert_row(row_of(decided), 0) for decided in decisions[:3]] == alerts[:3]
    assert alerts[1] is not None
    key, value = alerts[1]
    alert: FraudAlert = codec.decoder(FraudAlert)(value)
    assert (key, alert.player_id, alert.observed, alert.unit) == (
        b"acme:p-1",
        "p-1",
        150,
        "minor units of EUR",
    )
    assert alert.sources[0].first_offset == 3
    # A repeat's row has no time, and is no news.
    assert records.encode_alert_row((*row_of(decisions[1])[:17], None), 0) is None
    assert msgspec.structs.asdict(alert)["evidence"]["reason"] == "BOOKED_INTO_DEBT"


def withdrawal_request(minor):
    return house("withdrawal.requested", "w", leg("WITHDRAWAL", minor), decide=True)


PAID = house(
    "withdrawal.paid", "p", leg("WITHDRAWAL", None, None), reference=("withdrawal.requested", "w")
)
GRANT = house("bonus.granted", "g", leg("BONUS_GRANT", 100), leg("WAGERING", 500))


@pytest.mark.parametrize(
    ("events", "debts"),
    [
        ([PAID, withdrawal_request(10_000)], [10_000]),
        ([GRANT, transaction("bet", "b", leg("BET", 5_000))], [4_900]),
        ([transaction("bet", "b", leg("BET", 9, is_free=True), leg("BET", 70))], [70]),
        (
            [
                win("w", 50, "b"),
                bet("c", 50),
                transaction("rollback", "r", leg("ROLLBACK", None, None), reference=("win", "w")),
            ],
            [50],
        ),
        # Not below zero, or not further below than before.
        ([deposit("d", 10_000), PAID, withdrawal_request(10_000)], []),
        (
            [
                transaction("CHARGEBACK", "c", leg("DEPOSIT_REVERSAL", 450), provider="adyen"),
                win("w", 50, "b"),
                rollback("r", "b"),
            ],
            [450],
        ),
    ],
    ids=[
        "paid before requested",
        "wagering met",
        "free and not",
        "win taken back",
        "paid with money",
        "already in debt",
    ],
)
def test_whatever_takes_a_player_below_zero_raises_an_alert(events, debts):
    book, records = book_of(*events), MessageEncoder("wallet.transactions.v1")
    alerts = [records.encode_alert(decided) for decided in book.decisions]
    assert alerts == [records.encode_alert_row(row_of(decided), 0) for decided in book.decisions]
    decode = codec.decoder(FraudAlert)
    assert [decode(alert[1]).observed for alert in alerts if alert is not None] == debts
    reasons = [decided.answer.reason for decided in book.decisions]
    assert reasons.count("BOOKED_INTO_DEBT") == len(debts)
