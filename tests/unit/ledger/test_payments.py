"""What is taken from a payment, or given back to it: as much as the payment, in its currency."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_sink.booking.messages import MessageEncoder
from schemas import codec
from schemas.events import Cause, FraudAlert
from schemas.policies import DEFAULT_POLICY, LedgerPolicy
from streams.providers.registry import policies
from tests.support.ledger_events import (
    book_of,
    deposit,
    house,
    last,
    leg,
    purse,
    transaction,
)
from tests.unit.ledger.test_debts import row_of

CARDS = LedgerPolicy(reversal_beyond_payment="SUSPENSE", opened_amount_differs="SUSPENSE")
PAYMENT = ("AUTHORISATION", "d")
KINDS = {
    "CHARGEBACK": "DEPOSIT_REVERSAL",
    "REFUND": "DEPOSIT_REVERSAL",
    "REFUND_FAILED": "DEPOSIT",
    "CHARGEBACK_REVERSED": "DEPOSIT",
}


def later(operation, tx_id, minor, currency="EUR", reference=PAYMENT, **more):
    return transaction(
        operation,
        tx_id,
        leg(KINDS[operation], minor, currency),
        provider="adyen",
        reference=reference,
        round_id=None,
        **more,
    )


def house_sums(book):
    sums: dict[tuple[str, str], int] = {}
    for _, _, row in book.new_transfers:
        for account, minor in ((row.debit, -row.amount_minor), (row.credit, row.amount_minor)):
            sums[account, row.currency] = sums.get((account, row.currency), 0) + minor
    return {key: minor for key, minor in sums.items() if minor and not key[0].startswith("player")}


@pytest.mark.parametrize("operation", KINDS)
@pytest.mark.parametrize(
    ("minor", "currency", "reason"),
    [
        (300, "EUR", "BOOKED"),
        (1, "EUR", "BOOKED"),
        (301, "EUR", "ABOVE_PAYMENT"),
        (300, "BGN", "PAYMENT_CURRENCY_DIFFERS"),
        (1, "USD", "PAYMENT_CURRENCY_DIFFERS"),
    ],
)
def test_what_does_not_fit_its_payment_waits_in_suspense(operation, minor, currency, reason):
    book = book_of(deposit("d", 300), later(operation, "x", minor, currency), policy=CARDS)
    sign = 1 if KINDS[operation] == "DEPOSIT" else -1
    assert last(book).answer.reason == reason
    if reason == "BOOKED":
        assert purse(book) == (300 + sign * minor, 0, 0)
        return
    assert last(book).answer.outcome == "UNRESOLVED"
    assert purse(book) == (300, 0, 0)
    assert house_sums(book)["suspense:adyen", currency] == sign * minor
    assert (last(book).answer.currency, last(book).answer.available_minor) == ("EUR", 300)


def test_a_provider_whose_policy_books_is_not_compared():
    events = (deposit("d", 300), later("CHARGEBACK", "x", 301), later("REFUND", "y", 5, "BGN"))
    book = book_of(*events)
    assert purse(book) == (-1, 0, 0)
    assert purse(book, currency="BGN") == (-5, 0, 0)


def test_card_processors_compare_and_the_others_do_not():
    comparing = {
        name for name, rules in policies().items() if rules.reversal_beyond_payment == "SUSPENSE"
    }
    assert comparing == {"adyen", "stripe"}


@pytest.mark.parametrize(
    "reference", [None, ("deposit.opened", "dep-1"), ("AUTHORISATION", "another"), PAYMENT]
)
def test_what_names_no_booked_payment_is_booked_as_it_came(reference):
    book = book_of(later("CHARGEBACK", "x", 450, reference=reference), policy=CARDS)
    assert purse(book) == (-450, 0, 0)


def test_another_players_payment_is_not_compared():
    mine = later("CHARGEBACK", "x", 450)
    book = book_of(deposit("d", 300, player="p-2"), mine, policy=CARDS)
    assert purse(book) == (-450, 0, 0)


def test_a_repeat_of_a_misfit_moves_nothing_more():
    event, again = (later("CHARGEBACK", "x", 301) for _ in range(2))
    book = book_of(deposit("d", 300), event, event, again, policy=CARDS)
    assert len({decided.answer for decided in book.decisions[1:]}) == 1
    assert house_sums(book)["suspense:adyen", "EUR"] == -301


def test_a_misfit_is_an_alert_from_memory_and_the_same_one_from_the_tables():
    events = [deposit("d", 300), later("CHARGEBACK", "x", 301), later("REFUND", "y", 5, "BGN")]
    book = book_of(*events, events[1], policy=CARDS)
    records = MessageEncoder("wallet.transactions.v1")
    alerts = [records.encode_alert(decided) for decided in book.decisions]
    assert [alert is not None for alert in alerts] == [False, True, True, False]
    rows = [records.encode_alert_row(row_of(decided), 0) for decided in book.decisions[:3]]
    assert rows == alerts[:3]
    assert alerts[2] is not None
    key, value = alerts[2]
    alert: FraudAlert = codec.decoder(FraudAlert)(value)
    assert (key, alert.rule_id, alert.sample_event_ids) == (
        b"acme:p-1",
        "L02",
        [events[2].event_id],
    )
    assert alert.evidence == {"operation": "REFUND", "reason": "PAYMENT_CURRENCY_DIFFERS"}


# --- the deposit that was opened --------------------------------------------------------------------------------------


def opened(minor=300, currency="EUR", psp="adyen", **more):
    cause = Cause("psp", psp)
    return house(
        "deposit.opened", "dep-1", leg("INFORMATIONAL", minor, currency), cause=cause, **more
    )


def paid(minor, currency="EUR", tx_id="d", **more):
    return transaction(
        "AUTHORISATION",
        tx_id,
        leg("DEPOSIT", minor, currency),
        provider="adyen",
        round_id=None,
        reference=("deposit.opened", "dep-1"),
        **more,
    )


@pytest.mark.parametrize(
    ("minor", "currency", "reason"),
    [
        (300, "EUR", "BOOKED"),
        (299, "EUR", "OPENED_AMOUNT_DIFFERS"),
        (301, "EUR", "OPENED_AMOUNT_DIFFERS"),
        (300, "USD", "OPENED_CURRENCY_DIFFERS"),
    ],
)
def test_a_payment_that_differs_from_its_deposit_goes_by_the_policy(minor, currency, reason):
    for policy, outcome in ((CARDS, "UNRESOLVED"), (DEFAULT_POLICY, "POSTED")):
        book = book_of(opened(), paid(minor, currency), policy=policy)
        is_booked = reason == "BOOKED" or policy is DEFAULT_POLICY
        assert last(book).answer.reason == reason
        assert last(book).answer.outcome == ("POSTED" if reason == "BOOKED" else outcome)
        assert purse(book, currency=currency) == (minor if is_booked else 0, 0, 0)
        assert house_sums(book)["psp:adyen", currency] == -minor


@pytest.mark.parametrize(
    "deposit_opened", [opened(psp="any"), opened(psp="stripe"), opened(player="p-2")]
)
def test_a_deposit_of_another_provider_or_player_says_nothing(deposit_opened):
    book = book_of(deposit_opened, paid(450), policy=CARDS)
    assert (purse(book), last(book).answer.reason) == ((450, 0, 0), "BOOKED")


def test_what_is_taken_from_a_payment_in_suspense_is_not_taken_from_the_player():
    events = (opened(), paid(450), later("REFUND", "x", 450))
    book = book_of(*events, policy=CARDS)
    assert last(book).answer.reason == "PAYMENT_IN_SUSPENSE"
    assert (purse(book), house_sums(book)) == ((0, 0, 0), {})
    book = book_of(*events, later("REFUND_FAILED", "x", 450), policy=CARDS)
    assert purse(book) == (0, 0, 0)
    assert house_sums(book) == {("psp:adyen", "EUR"): -450, ("suspense:adyen", "EUR"): 450}


def test_a_payment_that_differs_is_an_alert_of_its_own_rule_under_either_policy():
    records = MessageEncoder("wallet.transactions.v1")
    for policy in (CARDS, DEFAULT_POLICY):
        book = book_of(opened(), paid(301), paid(301), policy=policy)
        alerts = [records.encode_alert(decided) for decided in book.decisions]
        assert [alert is not None for alert in alerts] == [False, True, False]
        assert records.encode_alert_row(row_of(book.decisions[1]), 0) == alerts[1]
        assert alerts[1] is not None
        alert: FraudAlert = codec.decoder(FraudAlert)(alerts[1][1])
        assert (alert.rule_id, alert.evidence["reason"]) == ("L03", "OPENED_AMOUNT_DIFFERS")


def test_card_processors_differences_wait_and_a_banks_are_booked():
    waiting = {
        name for name, rules in policies().items() if rules.opened_amount_differs == "SUSPENSE"
    }
    assert waiting == {"adyen", "stripe"}


MIRRORS = {"CHARGEBACK": "CHARGEBACK_REVERSED", "REFUND": "REFUND_FAILED"}


@given(
    paid=st.integers(0, 500),
    taken=st.lists(
        st.tuples(
            st.sampled_from(list(MIRRORS)), st.integers(0, 700), st.sampled_from(["EUR", "BGN"])
        ),
        max_size=5,
    ),
    data=st.data(),
)
def test_whatever_is_taken_and_comes_back_leaves_every_balance_where_it_was(paid, taken, data):
    events = []
    for number, (operation, minor, currency) in enumerate(taken):
        events.append(later(operation, f"x{number}", minor, currency))
        events.append(later(MIRRORS[operation], f"x{number}", minor, currency))
    told = data.draw(st.permutations(events))
    before = book_of(deposit("d", paid), policy=CARDS)
    after = book_of(deposit("d", paid), *told, policy=CARDS)
    assert purse(after) == purse(before) == (paid, 0, 0)
    assert house_sums(after) == house_sums(before)
    assert purse(after, currency="BGN") == (0, 0, 0)
