"""Events that are decided together: booked as a whole or not at all, and known one by one afterwards.

Every story is also told to the simulator's oracle, which has no batches, books or event ids.
"""

from __future__ import annotations

from itertools import permutations

import pytest

from lab.conformance.intents import Identity, IntentLeg, Verb
from lab.simulator.bundle import BUNDLE
from lab.simulator.intents import SimulatedIntent, link_call, simulated_intent
from lab.simulator.oracle import Oracle
from ledger_sink.rules.book import Book, LogEvent
from ledger_sink.rules.posting import post
from schemas.errors import InvariantBroken
from schemas.events import (
    Amount,
    Attempt,
    Cause,
    Leg,
    Position,
    Reference,
    WalletTransaction,
)
from schemas.identity import event_id, fingerprint
from schemas.policies import DEFAULT_POLICY, LedgerPolicy
from streams.normalise.mapping.grouping import group_transactions

START = 1_000


class Story:
    """The same calls for the ledger's rules and for the oracle; each answer must be the same."""

    def __init__(self, policy: LedgerPolicy = DEFAULT_POLICY) -> None:
        self.policy = policy
        self.book = Book()
        self.oracle = Oracle({BUNDLE: policy})
        self._log = 0
        self._raw = 0
        self.tell([adyen_deposit(START)])

    def tell(self, call: list[SimulatedIntent], raw: int | None = None) -> list[str]:
        """Append a call, or a raw record once more; returns an outcome for each of its events."""
        if raw is None:
            raw = self._raw = self._raw + 1
        call = link_call(call)
        attempts = [(f"provider.{one.provider}.raw.v1", 0, raw, n) for n, one in enumerate(call)]
        events = [as_event(one, Attempt(*key)) for one, key in zip(call, attempts, strict=True)]
        if len(events) > 1:
            events = group_transactions(events)
        pairs = list(zip(call, attempts, strict=True))
        outcomes = []
        for intent, key, event in zip(call, attempts, events, strict=True):
            place = Position("wallet.transactions.v1", 0, self._log)
            self._log += 1
            answer = post(self.book, LogEvent(event, place), self.policy).answer
            group = pairs if len(pairs) > 1 else ()
            expected = self.oracle.answer(intent, key, intent.player, 0, group)
            assert (answer.outcome, answer.reason) == (expected.outcome, expected.reason), intent
            if answer.currency is not None:
                assert answer.available_minor == expected.available[answer.currency], intent
            outcomes.append(answer.outcome)
        for (player, currency), money in self.oracle.money.items():
            wallet = self.book.wallet(player, currency)
            assert [wallet.cash_minor, wallet.bonus_minor, wallet.held_minor] == [*money.values()]
        self._check_rows()
        return outcomes

    def _check_rows(self) -> None:
        """Versions have no gaps, and every decision of the book has its movements."""
        versions = [row.version for _, _, row in self.book.new_transfers if row.version is not None]
        assert versions == list(range(1, len(versions) + 1))
        counted: dict[tuple[str, int], int] = {}
        for log_event, decision, _ in self.book.new_transfers:
            key = log_event.event.event_id, decision
            counted[key] = counted.get(key, 0) + 1
        decided = {
            (one.log_event.event.event_id, one.decision): one.transfers
            for one in self.book.decisions
            if one.decision is not None and one.transfers
        }
        assert counted == decided

    @property
    def cash(self) -> int:
        return self.book.wallet("p-1", "EUR").cash_minor


def identity(operation: str, tx_id: str) -> Identity:
    return ("acme", BUNDLE, operation, tx_id)


def bet(tx_id: str, minor: int, round_id: str = "r-1", player: str = "p-1") -> SimulatedIntent:
    leg = IntentLeg("BET", minor, "EUR")
    return simulated_intent(identity("bet", tx_id), player, (leg,), round_id=round_id)


def win(tx_id: str, minor: int, round_id: str = "r-1") -> SimulatedIntent:
    leg = IntentLeg("WIN", minor, "EUR")
    return simulated_intent(identity("win", tx_id), "p-1", (leg,), round_id=round_id)


def rollback(tx_id: str, of: str) -> SimulatedIntent:
    """A rollback that does not say whether it means a bet or a win."""
    return simulated_intent(
        identity("rollback", tx_id),
        "p-1",
        (IntentLeg("ROLLBACK"),),
        identity("bet", of),
        other_references=(identity("win", of),),
    )


def adyen_deposit(minor: int) -> SimulatedIntent:
    leg = IntentLeg("DEPOSIT", minor, "EUR")
    name = ("acme", "adyen", "AUTHORISATION", "d-1")
    return SimulatedIntent(Verb.DEPOSIT, name, "p-1", (leg,))


def cancel(intent: SimulatedIntent, raw: int, index: int) -> SimulatedIntent:
    key = (f"provider.{intent.provider}.raw.v1", 0, raw, index)
    name = (*intent.identity[:2], "cancel", f"{key[0]}-0@{raw}#{index}")
    return SimulatedIntent(
        intent.verb,
        name,
        intent.player,
        (IntentLeg("CANCEL"),),
        intent.identity,
        round_id=intent.round_id,
        cancels=key,
    )


def as_event(intent: SimulatedIntent, attempt: Attempt) -> WalletTransaction:
    """An intent as the normaliser would write it, without its format in between."""
    legs = [
        Leg(
            leg.kind,
            None if leg.minor is None else Amount(leg.minor, 2),
            leg.currency,
            leg.is_free,
            leg.campaign,
        )
        for leg in intent.legs
    ]
    reference = None
    if intent.reference is not None:
        others = [other[2] for other in intent.other_references]
        reference = Reference(*intent.reference[2:], others, intent.is_implied)
    brand, provider, operation, tx_id = intent.identity
    cause = None
    if intent.cancels is not None:
        topic, partition, offset, index = intent.cancels
        cause = Cause("connector", f"{topic}-{partition}@{offset}#{index}")
    return WalletTransaction(
        event_id(brand, provider, operation, tx_id),
        brand,
        provider,
        "1",
        "MT",
        operation,
        tx_id,
        attempt,
        intent.player,
        legs,
        reference,
        intent.round_id,
        round_closed=False,
        game_id=None,
        occurred_at=0,
        time_source="BROKER",
        provider_at=None,
        received_at=None,
        appended_at=0,
        fingerprint=fingerprint(intent.player, legs, reference, intent.round_id, None),
        fingerprint_version=1,
        signature="VALID",
        decision_required=intent.decides,
        cause=cause,
    )


def trio(stake: int = 500, second: int = 200, won: int = 250) -> list[SimulatedIntent]:
    return [bet("b1", stake), bet("b2", second), win("w1", won)]


def test_a_call_is_booked_as_a_whole():
    story = Story()
    assert story.tell(trio()) == ["POSTED"] * 3
    assert story.cash == START - 500 - 200 + 250


def test_one_refusal_refuses_all_with_its_reason():
    story = Story()
    assert story.tell(trio(second=600)) == ["REFUSED_FUNDS"] * 3
    assert story.cash == START
    assert {row.answer.reason for row in story.book.decisions[1:]} == {"NOT_ENOUGH_MONEY"}
    assert story.tell([rollback("x1", "b1")]) == ["POSTED"]  # nothing was moved, so nothing is
    assert story.book.decisions[-1].answer.reason == "NOTHING_TO_REVERSE"
    assert story.cash == START


def test_what_cannot_be_booked_leaves_nothing_of_its_call():
    story = Story()
    far = win("w1", 2**62)
    assert story.tell([bet("b1", 100), far, win("w2", 2**62)]) == ["UNRESOLVED"] * 3
    assert story.cash == START


@pytest.mark.parametrize("order", list(permutations(["b1", "b2", "w1"])))
def test_its_transactions_are_rolled_back_one_by_one(order):
    story = Story()
    story.tell(trio())
    for number, of in enumerate(order):
        assert story.tell([rollback(f"x{number}", of)]) == ["POSTED"]
    assert story.cash == START
    assert story.tell([rollback("x9", "b1")]) == ["POSTED"]
    assert story.cash == START


@pytest.mark.parametrize("order", list(permutations(["b1", "b2", "w1"], 2)))
def test_rolled_back_before_it_came_a_call_ends_as_rolled_back_after(order):
    before, after = Story(), Story()
    for number, of in enumerate(order):
        assert before.tell([rollback(f"x{number}", of)]) == ["TOMBSTONED"]
    outcomes = before.tell(trio())
    assert {"POSTED", "TOMBSTONED"} == set(outcomes)
    after.tell(trio())
    for number, of in enumerate(order):
        after.tell([rollback(f"x{number}", of)])
    assert before.cash == after.cash


def test_a_retry_gets_the_same_answers_in_whatever_order():
    story = Story()
    story.tell(trio())
    again = [story.book.decisions[index].answer for index in (1, 2, 3)]
    for order in permutations(trio()):
        assert story.tell(list(order)) == ["EXISTS"] * 3
    assert story.cash == START - 450
    latest = {
        decided.log_event.event.provider_tx_id: decided.answer
        for decided in story.book.decisions[-5:]
    }
    assert [latest[name].available_minor for name in ("b1", "b2", "w1")] == [
        answer.available_minor for answer in again
    ]


@pytest.mark.parametrize(
    "other",
    [
        [bet("b1", 500), bet("b2", 200)],
        [*trio(), bet("b3", 10)],
        [bet("b1", 500), bet("b3", 10)],
        [bet("b3", 10), win("w1", 250)],
        [bet("b1", 501), bet("b2", 200), win("w1", 250)],
    ],
    ids=["fewer", "more", "half", "the win with another bet", "another amount"],
)
def test_another_subset_or_content_is_a_conflict_and_no_half_booking(other):
    story = Story()
    story.tell(trio())
    cash = story.cash
    assert set(story.tell(other)) == {"CONFLICT"}
    assert all(one.answer.available_minor == cash for one in story.book.decisions[-len(other) :])
    assert story.cash == cash
    assert story.tell([bet("b3", 10)]) == ["POSTED"]  # its id is not burnt by the conflict


def test_a_transaction_that_was_decided_alone_is_no_part_of_a_later_call():
    story = Story()
    assert story.tell([bet("b1", 500)]) == ["POSTED"]
    assert story.tell(trio()) == ["CONFLICT"] * 3
    assert story.cash == START - 500


def test_a_win_is_the_same_beside_its_bet_and_alone():
    story = Story()
    story.tell(trio())
    assert story.tell([win("w1", 250)]) == ["EXISTS"]
    assert story.tell([win("w1", 251)]) == ["CONFLICT"]


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_a_call_whose_appending_was_cut_off_is_booked_once(cut):
    """A normaliser that is killed appends its last records again, from the first of the call on."""
    story = Story()
    events = group_transactions(
        [
            as_event(one, Attempt("provider.bundle.raw.v1", 0, 77, index))
            for index, one in enumerate(link_call(trio()))
        ]
    )
    answers: dict[str, set[str]] = {}
    for offset, event in enumerate([*events[:cut], *events]):
        place = Position("wallet.transactions.v1", 0, 100 + offset)
        decided = post(story.book, LogEvent(event, place), story.policy)
        answers.setdefault(event.event_id, set()).add(repr(decided.answer))
    assert all(len(given) == 1 for given in answers.values())
    assert story.cash == START - 450


def test_an_event_whose_group_never_began_stops_the_ledger():
    [_, second] = group_transactions(
        [
            as_event(one, Attempt("provider.bundle.raw.v1", 0, 1, index))
            for index, one in enumerate([bet("b1", 1), bet("b2", 1)])
        ]
    )
    with pytest.raises(InvariantBroken, match="the first event of its group has not come"):
        post(Book(), LogEvent(second, Position("wallet.transactions.v1", 0, 5)), DEFAULT_POLICY)


def test_a_call_that_its_connector_gave_up_is_taken_back_with_its_win():
    story = Story()
    call = trio()
    story.tell(call)
    raw = story._raw
    assert story.cash == START - 450
    for index, intent in enumerate(link_call(call)):
        assert story.tell([cancel(intent, raw, index)]) == ["CANCELLED"]
    assert story.cash == START
    assert story.tell(call) == ["CANCELLED"] * 3


def test_a_call_that_was_cancelled_before_it_came_moves_nothing():
    story = Story()
    call = trio()
    for index, intent in enumerate(call):
        story.tell([cancel(intent, 99, index)])
    assert story.tell(call, raw=99) == ["TOMBSTONED"] * 3
    assert story.cash == START


def test_a_refused_call_may_be_decided_again_where_refused_ids_may_be_used_again():
    for policy, expected in (
        (DEFAULT_POLICY, "REFUSED_FUNDS"),
        (LedgerPolicy(refused_id_reusable=True), "POSTED"),
    ):
        story = Story(policy)
        assert story.tell(trio(second=600)) == ["REFUSED_FUNDS"] * 3
        story.tell([win("more", 500, "r-2")])
        assert story.tell(trio(second=600)) == [expected] * 3
        smaller = [bet("b1", 10), bet("b4", 20)]
        assert set(story.tell(smaller)) == {"CONFLICT"}


def test_another_player_cannot_have_a_refused_call_decided_again():
    story = Story(LedgerPolicy(refused_id_reusable=True))
    story.tell([bet("b1", 5_000), bet("b2", 1)])
    foreign = [bet("b1", 0, player="p-2"), bet("b2", 0, player="p-2")]
    assert story.tell(foreign) == ["CONFLICT"] * 2


def test_a_protected_bet_refuses_the_rollback_and_all_that_came_with_it():
    story = Story(LedgerPolicy(rollback_after_win="REFUSE"))
    story.tell([bet("b1", 100), win("w1", 50)])
    cash = story.cash
    assert story.tell([bet("b2", 10), rollback("x1", "b1")]) == ["REFUSED_REFERENCE"] * 2
    assert story.cash == cash
    assert story.tell([bet("b3", 10)]) == ["POSTED"]


def test_a_rollback_of_one_id_closes_whichever_comes_under_it():
    story = Story()
    assert story.tell([rollback("x1", "t1")]) == ["TOMBSTONED"]
    assert story.tell([win("t1", 100)]) == ["TOMBSTONED"]
    assert story.tell([bet("t1", 100)]) == ["TOMBSTONED"]
    assert story.cash == START


def test_a_rollback_that_does_not_say_what_it_means_takes_back_the_one_that_is_there():
    for make, moved in ((bet, -100), (win, 100)):
        story = Story()
        story.tell([make("t1", 100)])
        assert story.cash == START + moved
        assert story.tell([rollback("x1", "t1")]) == ["POSTED"]
        assert story.cash == START
