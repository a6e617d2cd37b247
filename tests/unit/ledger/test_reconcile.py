"""What the comparisons of `pitboss ledger reconcile` find, and what they leave alone."""

from __future__ import annotations

import msgspec
import pytest

from ledger_sink.proof.reconcile import (
    BookedEvent,
    StatementLine,
    compare_balances,
    compare_statement,
)
from ledger_sink.rules.journal import Wallet
from pitboss.ops.reconcile import parse_csv_statement
from schemas.errors import UsageError
from schemas.events import Position, WalletBalance
from schemas.identity import event_id

WALLET = Wallet("p-1", "EUR", 2, 900, 50, 10, 7, "e-7", 3, 40)
BALANCE = WalletBalance(
    "p-1", "EUR", 2, 960, 950, 10, 50, 7, "e-7", Position("wallet.transactions.v1", 3, 40)
)


def faults(wallets, balances, published=None):
    report = compare_balances(wallets, balances, {3: 41} if published is None else published)
    return [(fault.key, fault.what) for fault in report.faults], report.in_flight


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({}, None),
        ({"version": 6}, "OLDER"),
        ({"version": 8}, "NEWER"),
        ({"balance_minor": 961}, "DIFFERENT"),
        ({"available_minor": 951, "balance_minor": 961}, "DIFFERENT"),
        ({"bonus_minor": 49}, "DIFFERENT"),
        ({"event_id": "e-6"}, "DIFFERENT"),
        ({"scale": 3}, "DIFFERENT"),
    ],
)
def test_a_balance_that_differs_is_reported(change, what):
    balances = {"p-1:EUR": msgspec.structs.replace(BALANCE, **change)}
    assert faults([WALLET], balances) == ([("p-1:EUR", what)] if what else [], 0)


def test_a_wallet_is_missing_on_either_side():
    assert faults([WALLET], {}) == ([("p-1:EUR", "MISSING")], 0)
    assert faults([], {"p-1:EUR": BALANCE}) == ([("p-1:EUR", "UNKNOWN")], 0)


def test_what_is_on_its_way_is_no_fault_and_what_came_before_it_is():
    older = {"p-1:EUR": msgspec.structs.replace(BALANCE, version=6)}
    assert faults([WALLET], older, {3: 40}) == ([], 1)
    assert faults([WALLET], {}, {}) == ([], 1)
    assert faults([WALLET], older, {3: 41}) == ([("p-1:EUR", "OLDER")], 0)
    # The cursor may lag: a record that is there in spite of it counts.
    assert faults([WALLET], {"p-1:EUR": msgspec.structs.replace(BALANCE, version=8)}, {3: 40})[
        0
    ] == [("p-1:EUR", "NEWER")]


def line(tx_id, minor=100, currency="EUR"):
    return StatementLine(event_id("b", "hub88", "bet", tx_id), "bet", tx_id, currency, minor)


def booked_event(tx_id, minor=100, outcome="POSTED"):
    return BookedEvent(
        event_id("b", "hub88", "bet", tx_id), "bet", tx_id, "p-1", outcome, "R", "EUR", minor
    )


def test_a_statement_and_the_ledger_are_compared_both_ways():
    known = [
        booked_event("same"),
        booked_event("more", 101),
        booked_event("refused", 0, "REFUSED_FUNDS"),
        booked_event("unsaid"),
        booked_event("dollars"),
    ]
    lines = [
        line("same"),
        line("more"),
        line("refused"),
        line("nowhere"),
        line("same"),
        line("dollars", currency="USD"),
    ]
    lines.append(line("unsaid", None, None))
    found = compare_statement(
        lines, {one.event_id: one for one in known}, [*known, booked_event("only ours")]
    )
    assert [(fault.what, fault.provider_tx_id) for fault in found] == [
        ("DIFFERENT", "more"),
        ("NOT_BOOKED", "refused"),
        ("MISSING", "nowhere"),
        ("TWICE", "same"),
        ("DIFFERENT", "dollars"),
        ("EXTRA", "only ours"),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_is_read_exactly(delimiter):
    rows = [
        ("operation", "transaction_id", "amount", "currency", "note"),
        ("bet", "t1", "0.10", "eur", "x"),
        ("win", "t2", "-7", "JPY", ""),
    ]
    text = "\r\n".join(delimiter.join(row) for row in rows)
    lines = list(parse_csv_statement(text, provider="hub88", brand="b"))
    assert [
        (one.operation, one.provider_tx_id, one.currency, one.amount_minor) for one in lines
    ] == [("bet", "t1", "EUR", 10), ("win", "t2", "JPY", 7)]
    assert lines[0].event_id == event_id("b", "hub88", "bet", "t1")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("bet,t1,0.101,EUR", "line 2.*not an amount"),
        ("bet,t1,NaN,EUR", "line 2.*not an amount"),
        ("bet,t1,1,XXY", "line 2.*not an amount"),
        ("bet,,1,EUR", "line 2 .*lacks its operation"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(row, message):
    with pytest.raises(UsageError, match=message):
        list(
            parse_csv_statement(
                f"operation,transaction_id,amount,currency\n{row}\n", provider="hub88", brand="b"
            )
        )
    with pytest.raises(UsageError, match="no column 'amount'"):
        list(
            parse_csv_statement("operation,transaction_id,currency\n", provider="hub88", brand="b")
        )
