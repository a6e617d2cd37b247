"""From a payment provider's bytes to the player's wallet: each story with retries, copies and the other message."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import permutations
from typing import Any

import pytest
from msgspec.structs import replace

from lab.conformance.adapters import registered_versions
from lab.conformance.examples.fill import Fill, record
from lab.conformance.examples.find import examples_of
from ledger_sink.rules.book import Book
from ledger_sink.rules.posting import post
from schemas.events import WalletTransaction
from schemas.identity import referenced_event_id
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser
from streams.providers.camt import Camt
from streams.providers.dialect import Dialect
from streams.providers.house import House
from streams.providers.registry import policies
from streams.providers.stripe import Stripe
from streams.providers.sumsub import Sumsub
from tests.support.camt_entries import RETURN, detail, entry, file
from tests.support.dialect_records import raw_record
from tests.support.ledger_events import log_event, purse
from tests.unit.providers.test_dialect_stripe import CHARGE, GIVEN, PAID, TAKEN, dispute, event
from tests.unit.providers.test_dialect_sumsub import BODY as REVIEWED
from tests.unit.providers.test_dialect_sumsub import result

DIALECTS: dict[str, Dialect] = {
    dialect.provider: dialect for dialect in (House(), Stripe(), Camt(), Sumsub())
}
NORMALISER = Normaliser(DIALECTS, {})


ADAPTERS = {version.row.name: version.dialect for version in registered_versions()}


@pytest.mark.parametrize("name", sorted(ADAPTERS))
@pytest.mark.parametrize("hostile", [False, True])
def test_whatever_an_adapter_reads_the_ledger_can_decide(name: str, hostile: bool) -> None:
    """An event that the posting rules cannot take would stop the ledger: no adapter may make one."""
    dialect = ADAPTERS[name]
    read = Normaliser({dialect.provider: dialect}, {}).normalise
    made = examples_of(dialect)
    seen = 0
    for seed in range(8):
        book, player_of = Book(), dict[str, str]()
        fill = Fill(seed, made.currencies[seed % len(made.currencies)], hostile=hostile)
        for offset, example in enumerate([*made.make(fill), *made.make(fill.again())]):
            for item in read(record(example, dialect.provider, offset=offset)):
                if isinstance(item, AcceptedTransaction):
                    found = resolve(item.transaction, player_of)
                    post(book, log_event(found, offset=len(book.decisions)), dialect.policy)
        seen += len(book.decisions)
    assert seen


def house(n: int, amount: str = "15.00") -> tuple[str, Any]:
    message = {
        "operation": "deposit.opened",
        "id": f"dep-{n}",
        "at": "2026-09-21T14:00:00Z",
        "player_id": "p-1",
    }
    return "house", message | {"amount": amount, "currency": "EUR", "psp": "any"}


def ledger_after(messages: Iterable[tuple[str, Any]]) -> Book:
    """The pure ledger after these messages; an event without a player gets that of its reference, as from the resolver."""
    book, player_of = Book(), dict[str, str]()
    for offset, (provider, message) in enumerate(messages):
        body = message if isinstance(message, str) else json.dumps(message)
        for item in NORMALISER.normalise(raw_record(provider, body, offset=offset)):
            if isinstance(item, AcceptedTransaction):
                found = resolve(item.transaction, player_of)
                post(book, log_event(found, offset=len(book.decisions)), policies()[provider])
    return book


def resolve(message: WalletTransaction, player_of: dict[str, str]) -> WalletTransaction:
    if message.player_id is None and message.reference is not None:
        target = referenced_event_id(message.brand, message.provider, message.reference)
        message = replace(message, player_id=player_of.get(target))
    if message.player_id is not None:
        player_of[message.event_id] = message.player_id
    return message


def cash(*messages: tuple[str, Any]) -> int:
    return purse(ledger_after(messages))[0]


def stripe(*message: dict[str, Any]) -> list[tuple[str, Any]]:
    return [("stripe", each) for each in message]


PARTITION = event(
    "charge.refunded", CHARGE | {"amount_refunded": 500}, {"amount_refunded": 0}, id="evt_part"
)
LIFE = stripe(
    PAID,
    event("charge.succeeded", CHARGE, id="evt_charge"),
    PARTITION,
    dispute("withdrawn", TAKEN) | {"id": "evt_taken"},
    dispute("reinstated", TAKEN, GIVEN) | {"id": "evt_given"},
)


def test_a_payment_s_life_at_stripe() -> None:
    after = [cash(house(1), *LIFE[:n]) for n in range(len(LIFE) + 1)]
    assert after == [0, 1500, 1500, 1000, 0, 1000]


def test_a_retry_of_anything_at_any_time_changes_nothing() -> None:
    for n in range(len(LIFE)):
        again = [
            ("stripe", message | {"pending_webhooks": 2, "created": 1_790_000_900})
            for _, message in LIFE[: n + 1]
        ]
        assert cash(house(1), *LIFE[: n + 1], *again) == cash(house(1), *LIFE[: n + 1])


def test_a_payment_in_two_events_is_paid_once() -> None:
    assert cash(house(1), *LIFE[:1], *stripe(PAID | {"id": "evt_other"})) == 1500


def bank(*entries: str, **how: Any) -> tuple[str, Any]:
    return "camt", file(*entries, **how)


TWINS = entry(detail(), detail(), detail("NOTPROVIDED", "1"), amount="7.4", ref="T")
RETURNED = entry(detail(more=RETURN), direction="DBIT", amount="3.2", ref="R")


def test_two_like_payments_are_two_deposits_however_often_the_bank_tells_of_them() -> None:
    messages = [
        bank(TWINS),
        bank(TWINS, more="<CpyDplctInd>CODU</CpyDplctInd>", head="M2"),
        bank(TWINS, message="053", version="02", statement="MONTH"),
        bank(RETURNED),
        bank(TWINS, RETURNED, message="053", statement="YEAR"),
    ]
    assert [cash(house(1), *messages[:n]) for n in range(len(messages) + 1)] == [
        0,
        640,
        640,
        640,
        320,
        320,
    ]


def test_what_is_expected_first_is_booked_when_it_comes() -> None:
    waiting = entry(detail(), amount="3.2", status="<Sts>PDNG</Sts>")
    assert [
        cash(house(1), bank(waiting)),
        cash(house(1), bank(waiting), bank(entry(detail(), amount="3.2"))),
    ] == [0, 320]


def test_money_without_a_player_is_in_suspense_once_and_in_no_wallet() -> None:
    nameless = bank(entry(detail("NOTPROVIDED"), amount="3.2"))
    book = ledger_after([house(1), nameless, nameless])
    moved = [
        (transfer.debit, transfer.credit, transfer.amount_minor)
        for _, _, transfer in book.new_transfers
    ]
    assert moved == [("psp:camt", "suspense:camt", 320)]
    assert purse(book) == (0, 0, 0)


def review(answer: str, hour: int, correlation: str) -> tuple[str, Any]:
    time = {"createdAtMs": f"2026-09-21 {hour:02}:00:00.000", "correlationId": correlation}
    return "sumsub", REVIEWED | result(answer, "FINAL" if answer == "RED" else None) | time


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_newest_verdict_stands_in_whichever_order_they_come(order: tuple[int, ...]) -> None:
    message = [review("RED", 8, "c1"), review("GREEN", 9, "c2"), review("RED", 7, "c0")]
    book = ledger_after([message[n] for n in order])
    assert not book.player_state("p-1001").is_blocked
    assert ledger_after([message[0], message[2]]).player_state("p-1001").is_blocked
