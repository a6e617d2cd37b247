"""An entry that was booked as a whole, and its payments that another message states: booked once."""

from __future__ import annotations

from itertools import permutations

import pytest

from schemas.events import Reference
from tests.support.camt_files import Packing, print_detail, print_entry, print_file
from tests.unit.providers.test_camt_kinds import read, run, totals


def parts(*amounts: str, returned: bool = False) -> tuple[str, ...]:
    more = "<RtrInf/>" if returned else ""
    return tuple(
        print_detail(
            end_to_end=f"dep-{number}", amount=amount, refs=f"<TxId>T{number}</TxId>", more=more
        )
        for number, amount in enumerate(amounts, 1)
    )


def file_of(entry: str, number: int) -> str:
    return print_file((entry,), packing=Packing("054", statement=f"N{number}"))


DIVIDED = file_of(print_entry(*parts("30", "70"), amount="100", ref="R1"), 1)
WHOLES = {
    "parts that do not add up": print_entry(*parts("30", "60"), amount="100", ref="R1"),
    "nothing shows that it is several": print_entry(amount="100", ref="R1"),
    "its text names one payer": print_entry(amount="100", ref="R1", text="dep-2"),
}
RIGHT = {"p-1": "30.00 EUR", "p-2": "70.00 EUR", "psp:camt": "-100.00 EUR"}


@pytest.mark.parametrize("whole", WHOLES.values(), ids=list(WHOLES))
def test_a_whole_and_its_payments_are_booked_once_in_any_order(whole: str) -> None:
    told = [DIVIDED, file_of(whole, 2), DIVIDED, file_of(whole, 3)]
    for files in permutations(told):
        assert totals(*files) == RIGHT
    assert totals(DIVIDED) == RIGHT
    both = print_file((whole,), (print_entry(*parts("30", "70"), amount="100", ref="R1"),))
    assert totals(both) == RIGHT


def test_payments_keep_their_ids_beside_a_whole_that_contradicts_them() -> None:
    # In one file T2 has two amounts, 70 and 60; the second is of an entry that cannot be right.
    both = print_file(
        (WHOLES["parts that do not add up"],),
        (print_entry(*parts("30", "70"), amount="100", ref="R1"),),
    )
    for files in permutations([both, DIVIDED]):
        assert totals(*files) == RIGHT


def test_returns_are_booked_once_too() -> None:
    unclear = print_entry(
        *parts("30", "60", returned=True), amount="100", ref="R1", direction="DBIT"
    )
    right = print_entry(*parts("30", "70", returned=True), amount="100", ref="R1", direction="DBIT")
    files = [file_of(unclear, 1), file_of(right, 2)]
    expected = {"p-1": "-30.00 EUR", "p-2": "-70.00 EUR", "psp:camt": "100.00 EUR"}
    for order in permutations(files):
        assert totals(*order) == expected


def test_payments_that_name_no_deposit_wait_in_suspense_and_their_whole_does_not() -> None:
    nameless = [print_detail(amount=text, refs=f"<TxId>T{text}</TxId>") for text in ("30", "70")]
    files = [
        file_of(print_entry(amount="100", ref="R1"), 1),
        file_of(print_entry(*nameless, amount="100", ref="R1"), 2),
    ]
    for order in permutations(files):
        assert totals(*order) == {"suspense:camt": "100.00 EUR", "psp:camt": "-100.00 EUR"}


def test_other_entries_stay_as_they_are() -> None:
    others = (
        print_entry(amount="100", ref="R2"),
        print_entry(amount="50", ref="R1"),
        print_entry(amount="100"),
    )
    found = totals(DIVIDED, *(file_of(entry, number) for number, entry in enumerate(others, 2)))
    assert found == {**RIGHT, "suspense:camt": "250.00 EUR", "psp:camt": "-350.00 EUR"}


def test_a_whole_that_went_back_says_why() -> None:
    explanation = run(file_of(WHOLES["parts that do not add up"], 1), DIVIDED)
    answers = {row.event.operation: row.answer for row in explanation.events if row.answer}
    division = answers["CRDT:DTLS"]
    assert (division.outcome, division.reason) == ("POSTED", "BOOKED")
    explanation = run(DIVIDED, file_of(WHOLES["parts that do not add up"], 1))
    verdicts = [
        (row.answer.outcome, row.answer.reason)
        for row in explanation.events
        if row.answer and row.event.provider_tx_id.endswith("|R1|10000EUR")
    ]
    assert verdicts == [
        ("TOMBSTONED", "REFERENCE_NOT_SEEN_YET"),
        ("TOMBSTONED", "ROLLBACK_PRECEDED"),
    ]


def test_the_division_names_the_whole() -> None:
    *_, division = read(print_entry(*parts("30", "70"), amount="100", ref="R1"))
    assert division.operation == "CRDT:DTLS"
    assert division.reference == Reference("CRDT", division.provider_tx_id)
    assert [leg.kind for leg in division.legs] == ["ROLLBACK"]


@pytest.mark.parametrize(
    "entry",
    [
        print_entry(*parts("30", "70"), amount="100"),
        print_entry(*parts("30", "70"), amount="100", ref="R1", status="PDNG"),
        print_entry(*parts("30", "70"), amount="100", ref="R1", direction="DBIT"),
        print_entry(*parts("30", "60"), amount="100", ref="R1"),
    ],
    ids=["no reference", "pending", "payouts", "does not add up"],
)
def test_nothing_is_divided_that_could_not_be_booked_as_a_whole(entry: str) -> None:
    assert "DTLS" not in {item.operation.partition(":")[2] for item in read(entry)}
