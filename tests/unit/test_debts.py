from __future__ import annotations

import msgspec

from ledger_sink.settled import SettledRecords
from schemas import codec
from schemas.events import FraudAlert
from tests.unit.ledger_events import book_of, deposit, house, leg, transaction


def row_of(decided):
    event, answer, source = decided.sourced.event, decided.answer, decided.sourced.source
    attempt = event.attempt
    return (
        source.offset, event.event_id, event.brand, event.provider, event.operation, event.provider_tx_id,
        attempt.topic, attempt.partition, attempt.offset, attempt.record_index, event.player_id, answer.outcome,
        answer.reason, answer.currency, answer.available_minor, answer.version, event.occurred_at,
    )  # fmt: skip


def test_a_debt_is_an_alert_from_memory_and_the_same_one_from_the_tables():
    chargeback = transaction("CHARGEBACK", "c", leg("DEPOSIT_REVERSAL", 450), provider="adyen")
    book = book_of(deposit("d", 300), chargeback, house("adjustment", "a", leg("ADJUSTMENT", -1)), chargeback)
    records = SettledRecords("wallet.transactions.v1")
    alerts = [records.alert_of(decided) for decided in book.decided]
    assert [alert is not None for alert in alerts] == [False, True, True, False]
    assert [records.alert_of_row(row_of(decided), 0) for decided in book.decided[:3]] == alerts[:3]
    key, value = alerts[1]
    alert: FraudAlert = codec.decoder(FraudAlert)(value)
    assert (key, alert.player_id, alert.observed, alert.unit) == (b"acme:p-1", "p-1", 150, "minor units of EUR")
    assert alert.sources[0].first_offset == 1
    # A repeat's row has no time, and is no news.
    assert records.alert_of_row((*row_of(book.decided[1])[:16], None), 0) is None
    assert msgspec.structs.asdict(alert)["evidence"]["reason"] == "BOOKED_INTO_DEBT"
