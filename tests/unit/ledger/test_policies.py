"""Every policy against every order of a bet, its win, its rollback and their retries."""

from __future__ import annotations

from itertools import permutations, product
from typing import Literal

import pytest

from schemas.policies import LedgerPolicy
from tests.support.ledger_events import (
    bet,
    book_of,
    deposit,
    leg,
    purse,
    rollback,
    transaction,
    win,
)

START, STAKE, WON = 1_000, 100, 250
EITHER: list[Literal["BOOK", "REFUSE"]] = ["BOOK", "REFUSE"]
POLICIES = [
    LedgerPolicy(reusable, unbacked, after_rollback, after_win)
    for reusable, unbacked, after_rollback, after_win in product(
        (False, True), EITHER, EITHER, EITHER
    )
]
ORDERS = list(permutations(["bet", "bet again", "win", "win again", "rollback"]))


def policy_name(policy: LedgerPolicy) -> str:
    return "-".join(
        [
            "reusable" if policy.refused_id_reusable else "burnt",
            policy.win_without_bet,
            policy.win_after_rollback,
            policy.rollback_after_win,
        ]
    )


def events_of(order):
    make = {
        "bet": lambda: bet("b", STAKE),
        "win": lambda: win("w", WON, "b"),
        "rollback": lambda: rollback("r", "b"),
    }
    return [deposit("d", START), *[make[name.split()[0]]() for name in order]]


class Expectation:
    """The rules once more, as one would tell them to a colleague, with nothing of the ledger in it."""

    def __init__(self, policy):
        self.policy = policy
        self.is_bet_known = self.is_booked = self.is_closed = self.is_settled = False
        self.win = self.rollback = None

    def bet(self):
        if not self.is_bet_known:
            self.is_bet_known, self.is_booked = True, not self.is_closed

    def win_comes(self):
        if self.win not in (None, "BET_NOT_FOUND") or (
            self.win == "BET_NOT_FOUND" and not self.is_booked
        ):
            return
        if self.is_closed and self.policy.win_after_rollback == "REFUSE":
            self.win = "BET_ROLLED_BACK"
        elif (
            not (self.is_booked or (self.is_bet_known and self.is_closed))
            and self.policy.win_without_bet == "REFUSE"
        ):
            self.win = "BET_NOT_FOUND"
        else:
            self.win = "paid"
            self.is_settled = self.policy.rollback_after_win == "REFUSE" and not self.is_closed

    def roll_back(self):
        if self.is_settled:
            self.rollback = "BET_SETTLED"
        else:
            self.rollback, self.is_closed = "done", True

    def run(self, order):
        for name in order:
            {"bet": self.bet, "win": self.win_comes, "rollback": self.roll_back}[name.split()[0]]()
        stands = self.is_booked and not self.is_closed
        return START - (STAKE if stands else 0) + (WON if self.win == "paid" else 0)


@pytest.mark.parametrize("policy", POLICIES, ids=policy_name)
def test_every_order_ends_as_the_policy_says_and_money_is_conserved(policy):
    for order in ORDERS:
        book = book_of(*events_of(order), policy=policy)
        expected = Expectation(policy)
        assert purse(book) == (expected.run(order), 0, 0), order
        last = {}
        for decided in book.decisions[1:]:
            last[decided.log_event.event.operation] = decided.answer
        if expected.win != "paid":
            assert (last["win"].outcome, last["win"].reason) == (
                "REFUSED_REFERENCE",
                expected.win,
            ), order
        assert (last["rollback"].reason == "BET_SETTLED") == (expected.rollback == "BET_SETTLED"), (
            order
        )
        accounts: dict[str, int] = {}
        for _, _, row in book.new_transfers:
            accounts[row.debit] = accounts.get(row.debit, 0) - row.amount_minor
            accounts[row.credit] = accounts.get(row.credit, 0) + row.amount_minor
        assert sum(accounts.values()) == 0
        assert accounts["player:p-1:cash"] == purse(book)[0]
        versions = [row.version for _, _, row in book.new_transfers]
        assert versions == list(range(1, len(versions) + 1))


@pytest.mark.parametrize("policy", POLICIES, ids=policy_name)
def test_telling_every_attempt_again_changes_nothing(policy):
    for order in ORDERS[::7]:
        events = events_of(order)
        once, twice = book_of(*events, policy=policy), book_of(*events, *events, policy=policy)
        assert purse(once) == purse(twice)
        assert [d.answer for d in twice.decisions[len(events) :]] == [
            d.answer for d in once.decisions
        ]


def test_without_refusals_a_bet_and_its_rollback_net_to_zero_in_every_order():
    ends = {purse(book_of(*events_of(order))) for order in ORDERS}
    assert ends == {(START + WON, 0, 0)}


def test_with_every_refusal_no_player_gets_both_the_win_and_the_bet_back():
    policy = LedgerPolicy(
        win_without_bet="REFUSE", win_after_rollback="REFUSE", rollback_after_win="REFUSE"
    )
    ends = {purse(book_of(*events_of(order), policy=policy))[0] for order in ORDERS}
    assert ends == {START, START - STAKE + WON}


def test_a_win_that_came_before_its_bet_is_paid_when_it_comes_again():
    policy = LedgerPolicy(win_without_bet="REFUSE")
    early, stake, again, other = (
        win("w", WON, "b"),
        bet("b", STAKE),
        win("w", WON, "b"),
        win("w", WON + 1, "b"),
    )
    book = book_of(
        deposit("d", START), early, win("w", WON, "b"), stake, other, again, early, policy=policy
    )
    expected = [(decided.answer.outcome, decided.answer.reason) for decided in book.decisions[1:]]
    refused = ("REFUSED_REFERENCE", "BET_NOT_FOUND")
    assert expected == [
        refused,
        refused,
        ("POSTED", "BOOKED"),
        ("CONFLICT", "OTHER_CONTENT_UNDER_SAME_ID"),
        ("POSTED", "BOOKED"),
        refused,
    ]
    assert purse(book) == (START - STAKE + WON, 0, 0)


def test_a_win_of_a_refused_bet_is_a_win_without_a_bet():
    book = book_of(
        bet("b", STAKE), win("w", WON, "b"), policy=LedgerPolicy(win_without_bet="REFUSE")
    )
    assert book.decisions[1].answer.reason == "BET_NOT_FOUND"
    assert purse(book_of(bet("b", STAKE), win("w", WON, "b"))) == (WON, 0, 0)


def test_another_players_bet_backs_no_win():
    policy = LedgerPolicy(win_without_bet="REFUSE")
    book = book_of(
        deposit("d", START), bet("b", STAKE), win("w", WON, "b", player="p-2"), policy=policy
    )
    assert book.decisions[2].answer.reason == "BET_NOT_FOUND"


def test_policies_leave_wins_alone_that_name_no_bet_and_jackpots():
    policy = POLICIES[-1]
    book = book_of(
        transaction("win", "w", leg("WIN", WON)),
        transaction("jackpot", "j", leg("JACKPOT_WIN", WON), reference=("bet", "b")),
        policy=policy,
    )
    assert purse(book) == (2 * WON, 0, 0)


def test_a_refused_rollback_burns_no_win_and_a_win_of_zero_settles_too():
    policy = LedgerPolicy(rollback_after_win="REFUSE")
    book = book_of(
        deposit("d", START), bet("b", STAKE), win("w", 0, "b"), rollback("r", "b"), policy=policy
    )
    assert book.decisions[3].answer.reason == "BET_SETTLED"
    assert book.decisions[3].answer.available_minor == START - STAKE
    assert purse(book) == (START - STAKE, 0, 0)
