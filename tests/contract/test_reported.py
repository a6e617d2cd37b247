"""One test a fault that integrators reported in public, with the money that is right.

The inputs are in `tests/vectors/reported`; they go through the production normaliser and posting rules. A
fault of another provider is a row of `FAULTS` and a folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from pitboss.ops.message_files import read_bodies
from replay.explain import MessageExplanation, explain
from schemas.events import Outcome
from streams.providers.registry import DIALECTS

VECTORS = Path(__file__).parents[1] / "vectors" / "reported"
PAGES = Path(__file__).parents[2] / "docs" / "reference" / "providers"
APPENDED_AT = 1_795_305_600_000
"""2026-11-22: the day after the last one in the inputs."""


class Fault(NamedTuple):
    """The right balances and house accounts, as `player currency amount` and `account currency amount`."""

    folder: str
    balances: set[str]
    house: set[str]
    operations: frozenset[str] = frozenset()
    """Some of the operations that must be noted on the way."""
    settlements: frozenset[str] = frozenset()
    """All records of a market, as `kind market outcome`; an outcome of `-` is the whole market."""
    player_events: frozenset[str] = frozenset()
    """All facts about players that move no money, as `operation player`."""


FAULTS = [
    Fault(
        "01-camt-nonref",
        {"p-1 EUR 100.00"},
        {"psp:camt EUR -140.00", "suspense:camt EUR 40.00"},
    ),
    Fault(
        "03-camt-batch-sum-with-a-detail",
        {"p-1 EUR 30.00", "p-2 EUR 70.00"},
        {"psp:camt EUR -100.00"},
        frozenset({"CRDT:BTCH"}),
    ),
    Fault(
        "03b-camt-batch-sum-with-its-details-without-amounts",
        {"p-1 EUR 30.00", "p-2 EUR 70.00"},
        {"psp:camt EUR -100.00"},
        frozenset({"CRDT:BTCH"}),
    ),
    Fault(
        # dep-12 and dep-1234 are both known and both opened over 50.00: nothing tells which is meant.
        "05-camt-id-cut-by-the-line",
        set(),
        {"psp:camt EUR -50.00", "suspense:camt EUR 50.00"},
    ),
    Fault(
        "06-camt-batch-in-another-currency",
        {"p-1 EUR 100.00", "p-2 EUR 200.00"},
        {"psp:camt EUR -300.00"},
    ),
    Fault(
        # The balance id at the end of a transaction's id belongs to the sending.
        "13-pgsoft-resend-under-another-balance-id",
        {"p-1 EUR 101.50"},
        {"adjustments EUR -100.00", "provider:pgsoft EUR -1.50"},
    ),
    Fault(
        "14-pgsoft-thousands",
        {"p-1 IDR 997500.00", "p-1 VND 994500"},
        {
            "adjustments IDR -1000000.00",
            "adjustments VND -1000000",
            "provider:pgsoft IDR 2500.00",
            "provider:pgsoft VND 5500",
        },
    ),
    Fault(
        # What was never captured is no refund: 40.00 of the 100.00 were released.
        "07-stripe-partial-capture",
        {"p-1 EUR 60.00"},
        {"psp:stripe EUR -60.00"},
        frozenset({"charge.refunded"}),
    ),
    Fault(
        "09-stripe-refund-failed-by-charge-refund-updated",
        {"p-1 EUR 100.00"},
        {"psp:stripe EUR -100.00"},
        frozenset({"refund.failed"}),
    ),
    Fault(
        "10-stripe-refund-canceled",
        {"p-1 EUR 100.00"},
        {"psp:stripe EUR -100.00"},
        frozenset({"refund.failed"}),
    ),
    Fault(
        "11-adyen-refund-failed",
        {"p-1 EUR 100.00"},
        {"psp:adyen EUR -100.00"},
        frozenset({"REFUND_FAILED"}),
    ),
    Fault("19-camt-overlapping-statements-in-one-file", {"p-1 EUR 75.00"}, {"psp:camt EUR -75.00"}),
    Fault("20-camt-one-statement-twice-in-one-file", {"p-1 EUR 50.00"}, {"psp:camt EUR -50.00"}),
    Fault(
        # By the standard the second entry reverses a credit; `reversal_repeats_direction` is for banks
        # that print the direction of the original.
        "23-camt-reversal-with-the-direction-of-the-original",
        set(),
        {"psp:camt EUR 40.00", "suspense:camt EUR -40.00"},
    ),
    Fault(
        "26-pgsoft-adjustment-in-thousands",
        {"p-1 VND 1012500"},
        {"adjustments VND -1012500"},
    ),
    Fault(
        "25-stripe-refunds-out-of-order-after-a-partial-capture",
        {"p-1 EUR 50.00"},
        {"psp:stripe EUR -50.00"},
    ),
    Fault(
        "28-camt-the-sum-s-text-names-one-payer",
        set(),
        {"psp:camt EUR -100.00", "suspense:camt EUR 100.00"},
    ),
    Fault(
        # Without references two statements that overlap are two payments: the page warns.
        "29-camt-overlapping-statements-without-references",
        {"p-1 EUR 125.00"},
        {"psp:camt EUR -125.00"},
    ),
    Fault(
        "15-uof-rollback-of-one-outcome",
        set(),
        set(),
        settlements=frozenset(
            {"SETTLED 1 1", "SETTLED 1 2", "SETTLED 1 3", "SETTLEMENT_ROLLED_BACK 1 1"}
        ),
    ),
    Fault(
        # No state beside them: what waits for a service is GREEN before its end.
        "22-sumsub-types-that-the-document-lists",
        set(),
        set(),
        player_events=frozenset(
            {
                "applicantAwaitingUser p-1",
                "applicantAwaitingService p-1",
                "applicantActionLevelChanged p-1",
            }
        ),
    ),
    Fault(
        "27-uof-rollback-one-market-element-per-outcome",
        set(),
        set(),
        settlements=frozenset(
            {
                "SETTLEMENT_ROLLED_BACK 40 sr:player:1",
                "SETTLEMENT_ROLLED_BACK 40 sr:player:2",
            }
        ),
    ),
    Fault(
        # A prize of the supplier's is bonus cost, and no unknown bet refuses it.
        "hub88-supplier-promo",
        {"p-1 EUR 7.50"},
        {"promotions:default EUR -7.50"},
    ),
]


def explain_folder(folder: str) -> MessageExplanation:
    return explain(read_bodies([VECTORS / folder], APPENDED_AT))


def print_totals(totals: dict[str, dict[str, str]]) -> set[str]:
    """Return the totals that are not zero."""
    return {
        f"{name} {currency} {text}"
        for name, by_currency in totals.items()
        for currency, text in by_currency.items()
        if text.strip("-0.")
    }


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.folder)
def test_a_reported_fault_comes_out_right(fault: Fault) -> None:
    explanation = explain_folder(fault.folder)
    assert explanation.rejected == []
    assert print_totals(explanation.balances()) == fault.balances
    assert print_totals(explanation.house()) == fault.house
    assert {row.event.operation for row in explanation.events} >= fault.operations
    outcomes = {row.answer.outcome for row in explanation.events if row.answer is not None}
    assert Outcome.CONFLICT not in outcomes


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.folder)
def test_a_reported_fault_gives_the_right_records_beside_the_ledger(fault: Fault) -> None:
    explanation = explain_folder(fault.folder)
    settlements = [event for _, event in explanation.settlements]
    told = [f"{each.action} {each.market_id} {each.outcome_id or '-'}" for each in settlements]
    assert sorted(told) == sorted(fault.settlements)
    facts = [event for _, event in explanation.player_events]
    assert sorted(f"{each.operation} {each.player_id}" for each in facts) == sorted(
        fault.player_events
    )
    event_ids = [each.event_id for each in settlements] + [each.event_id for each in facts]
    assert len(set(event_ids)) == len(event_ids)
    if fault.player_events:
        assert explanation.events == [], "a fact about a player is no state"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.folder)
def test_a_reported_fault_resent_as_a_whole_moves_nothing_more(fault: Fault) -> None:
    bodies = read_bodies([VECTORS / fault.folder], APPENDED_AT)
    # The same folder twice: other places in the topics, so other attempts.
    again = read_bodies([VECTORS / fault.folder, VECTORS / fault.folder], APPENDED_AT)
    once, twice = explain(bodies), explain(again)
    assert (twice.balances(), twice.house()) == (once.balances(), once.house())


def test_every_input_is_tried() -> None:
    folders = {path.name for path in VECTORS.iterdir() if path.is_dir()}
    assert folders == {fault.folder for fault in FAULTS}


@pytest.mark.parametrize("provider", sorted(DIALECTS))
def test_each_page_says_what_was_tried_and_how_it_comes_out(provider: str) -> None:
    page = (PAGES / f"{provider}.md").read_text()
    assert page.count("\n## Reported elsewhere\n") == 1
