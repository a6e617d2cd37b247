"""A demo in which nothing happened fails its expectations, although all of its checks hold."""

from __future__ import annotations

import msgspec
import pytest

from lab.conformance.books import ProviderBooks
from lab.conformance.intents import Identity
from lab.sandbox.calling import PlannedCall
from pitboss.demo.expectations import (
    check_providers,
    find_fast_players,
    is_refused_at_the_door,
    unmet_expectations,
)
from replay.audit.evidence import AnswerRow, TableEvidence, TopicEvidence
from replay.audit.rerun import rerun_detectors
from schemas.errors import RejectCode
from schemas.events import Attempt, DeadLetter, Position
from schemas.identity import event_id
from tests.support.fraud_log import T0, burst
from tests.support.ledger_events import log_event

SPEED = burst("fast", T0, 600)


BET: Identity = ("default", "hub88", "bet", "t-1")


def call(poison: RejectCode | None = None, provider: str = "hub88") -> PlannedCall:
    return PlannedCall(provider, b"", (), 1, poison)


def answer_row(identity: Identity) -> AnswerRow:
    return AnswerRow(
        *(0, 7, event_id(*identity), "POSTED", "BOOKED", "EUR", 9_850, 1, Attempt("raw", 0, 7, 0)),
        *identity,
        "p-1",
    )


def letter(code: RejectCode, offset: int) -> DeadLetter:
    return DeadLetter(
        Position("raw", 0, offset), None, None, None, [], 0, code, "", "normalise", "0", None
    )


@pytest.fixture
def settled() -> tuple[list[PlannedCall], TopicEvidence]:
    """603 calls, of which three are poison and the rest one burst, and what comes of them."""
    calls = [call() for _ in SPEED] + [
        call(RejectCode.MALFORMED),
        call(RejectCode.BAD_AMOUNT),
        call(RejectCode.BAD_SIGNATURE),
    ]
    topics = TopicEvidence(
        log={0: [log_event(event, 0, offset) for offset, event in enumerate(SPEED)]},
        dead_letters=[letter(RejectCode.MALFORMED, 600), letter(RejectCode.BAD_AMOUNT, 601)],
    )
    topics.alerts = rerun_detectors(topics.log)
    return calls, topics


def unmet(calls: list[PlannedCall], topics: TopicEvidence) -> list[str]:
    return unmet_expectations(calls, topics, TableEvidence(answers=[answer_row(BET)]), {BET})


def test_everything_as_expected(settled):
    calls, topics = settled
    assert [alert.severity for alert in topics.alerts.values()] == ["review", "hold"]
    assert unmet(calls, topics) == []


def test_a_letter_that_is_published_twice_counts_once(settled):
    calls, topics = settled
    topics.dead_letters.append(topics.dead_letters[0])
    assert unmet(calls, topics) == []


def test_an_alert_for_a_debt_is_not_a_detectors(settled):
    calls, topics = settled
    [_, alert] = topics.alerts.values()
    topics.alerts["debt"] = msgspec.structs.replace(
        alert, alert_id="debt", rule_id="L01", player_id="other"
    )
    assert unmet(calls, topics) == []


def test_an_answer_of_success_that_the_ledger_knows_nothing_of(settled):
    calls, topics = settled
    tables = TableEvidence(answers=[answer_row(BET)])
    other = (*BET[:3], "t-2")
    assert unmet_expectations(calls, topics, tables, {BET, other}) == [
        f"1 transactions were answered with success and are not in the ledger, first {other}"
    ]
    assert unmet_expectations(calls, topics, tables, set()) == ["no transaction was accepted"]


def test_an_unexpected_rejection(settled):
    calls, topics = settled
    topics.dead_letters.append(letter(RejectCode.BAD_SIGNATURE, 3))
    assert unmet(calls, topics) == [
        "the poison is 1 BAD_AMOUNT, 1 MALFORMED, and the dead letters are 1 BAD_AMOUNT, 1 BAD_SIGNATURE, 1 MALFORMED"
    ]


def test_poison_that_was_accepted(settled):
    calls, topics = settled
    del topics.dead_letters[0]
    [sentence] = unmet(calls, topics)
    assert sentence.endswith("the dead letters are 1 BAD_AMOUNT")


def test_a_burst_without_an_alert(settled):
    calls, topics = settled
    topics.alerts.clear()
    differing, missing = unmet(calls, topics)
    assert "is not what the detectors find in the log" in differing
    assert missing == "1 players bet too fast, and D01 holds the money of 0"


def test_an_alert_with_another_count(settled):
    calls, topics = settled
    [_, (name, alert)] = topics.alerts.items()
    topics.alerts[name] = msgspec.structs.replace(alert, observed=501)
    assert unmet(calls, topics) == [f"alert {name} is not what the detectors find in the log"]


def test_empty_evidence_fails():
    calls = [call(), call(RejectCode.MALFORMED)]
    assert len(unmet_expectations(calls, TopicEvidence(), TableEvidence(), set())) == 2


def test_an_account_is_fast_by_distinct_bets_within_a_minute():
    def log_of(bets: list) -> TopicEvidence:
        events = [log_event(bet, 0, offset) for offset, bet in enumerate(bets)]
        return TopicEvidence(log={0: events})

    assert find_fast_players(log_of(SPEED)) == {"fast"}
    assert find_fast_players(log_of(SPEED[:499])) == set()
    assert find_fast_players(log_of([*SPEED[:250], *SPEED[:250]])) == set(), "repeats are counted"
    slow = [
        msgspec.structs.replace(bet, occurred_at=T0 + 125 * number)
        for number, bet in enumerate(SPEED)
    ]
    assert find_fast_players(log_of(slow)) == set()


@pytest.mark.parametrize(
    ("provider", "code", "is_refused"),
    [
        ("hub88", RejectCode.BAD_SIGNATURE, True),
        ("house", RejectCode.MISSING_SIGNATURE, True),
        ("playngo", RejectCode.MALFORMED, True),
        ("playngo", RejectCode.AMOUNT_SCALE, False),
        ("hub88", RejectCode.MALFORMED, False),
        ("adyen", RejectCode.MALFORMED, False),
    ],
)
def test_what_the_gateway_refuses_is_no_dead_letter(provider, code, is_refused):
    assert is_refused_at_the_door(call(code, provider)) is is_refused


def test_the_providers_books_are_compared_with_the_ledgers():
    books = ProviderBooks()
    books.note_accepted(BET, -150)
    ours = {"hub88": {event_id(*BET): -150}}
    check = check_providers(ours, books)
    assert (check.name, check.holds, check.detail) == (
        "providers_agree",
        True,
        "moves in their books: 1 of hub88",
    )
    books.note_taken_back(BET)
    check = check_providers(ours, books)
    assert not check.holds
    assert check.detail.startswith("hub88: the ledger moved -150")
    assert not check_providers({}, ProviderBooks()).holds, "empty books say nothing"
