"""Fractions of jackpot contributions: what was moved and what is kept are the sum of what was contributed."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ledger_sink.rules.book import Book
from ledger_sink.rules.fractions import add, floor, parse, text_of
from ledger_sink.rules.posting import post
from schemas.events import Amount, Leg
from schemas.policies import DEFAULT_POLICY
from tests.support.ledger_events import call, deposit, leg, log_event, rollback, transaction

AMOUNTS = st.builds(Amount, st.integers(0, 20_000), st.integers(0, 8))


def contribution(amount: Amount) -> Leg:
    return Leg("JACKPOT_CONTRIBUTION", amount, "EUR")


def minor(amount: Amount) -> Fraction:
    return Fraction(amount.unscaled, 10**amount.scale) * 100


@given(st.integers(-(10**40), 10**40), st.integers(0, 30), st.integers(-(10**9), 10**9))
def test_texts_and_sums_are_exact(unscaled, scale, other):
    number = Fraction(unscaled, 10**scale)
    text = text_of((unscaled, scale))
    assert Fraction(text) == number
    read = parse(text)
    assert Fraction(read[0], 10 ** read[1]) == number
    total = add(read, (other, 3))
    assert Fraction(total[0], 10 ** total[1]) == number + Fraction(other, 1000)
    assert floor(read) == number.__floor__()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["beside", "alone", "back", "refused"]),
        st.integers(0, 1_000),
        AMOUNTS,
        st.sampled_from(["p-1", "p-2"]),
        st.integers(0, 30),
    ),
    max_size=25,
)


@given(STEPS)
def test_contributions_add_up_to_the_last_digit(steps):
    book = Book()
    events: list[Any] = [deposit("d1", 50_000), deposit("d2", 50_000, player="p-2")]
    contributed: dict[str, tuple[str, Fraction]] = {}
    gone: set[str] = set()
    alone = Fraction(0)
    for number, (step, stake, amount, player, of) in enumerate(steps):
        tx_id = f"t{number}"
        if step == "beside":
            legs = (leg("BET", stake), contribution(amount))
            events.append(transaction("bet", tx_id, *legs, decide=True, player=player))
            contributed[tx_id] = (player, min(minor(amount), Fraction(stake)))
        elif step == "alone":
            events.append(transaction("bet", tx_id, contribution(amount), player=player))
            alone += minor(amount)
            contributed[tx_id] = (player, Fraction(0))  # a rollback leaves it as it is
        elif step == "refused":  # a whole call: what its first bet left over is taken back
            first = transaction(
                "bet", tx_id, leg("BET", 10), contribution(amount), decide=True, player=player
            )
            second = transaction("bet", f"{tx_id}-2", leg("BET", 10**7), decide=True, player=player)
            events += call(first, second)
        elif f"t{of}" in contributed:
            events.append(rollback(tx_id, f"t{of}", player=contributed[f"t{of}"][0]))
            gone.add(f"t{of}")
    for offset, event in enumerate(events):
        post(book, log_event(event, offset=offset), DEFAULT_POLICY)
    moved = sum(
        row.amount_minor * ((row.credit == "jackpot:hub88") - (row.debit == "jackpot:hub88"))
        for _, _, row in book.new_transfers
    )
    kept = sum(
        Fraction(text) for state in book.states.values() for text in state.fractions.values()
    )
    expected = sum(amount for tx_id, (_, amount) in contributed.items() if tx_id not in gone)
    assert moved + kept == expected + alone
    if not gone:
        assert all(
            0 <= Fraction(text) < 1
            for state in book.states.values()
            for text in state.fractions.values()
        )
