"""Kinds of faults in bank statements that integrators reported: for each, more cases than were reported."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.explain import MessageExplanation, RawBody, explain
from schemas.events import Reference
from streams.drift.checking import DriftChecker
from streams.providers.camt import Camt
from streams.providers.registry import by_provider
from tests.support.camt_files import (
    HEAD,
    PLAIN,
    ROOTS,
    VERSIONS,
    Packing,
    print_detail,
    print_entry,
    print_file,
    print_money,
)
from tests.support.dialect_records import APPENDED_AT, raw_record

WORDS = (
    "NONREF",
    "NOTPROVIDED",
    "NONE",
    "N/A",
    "-",
    "0",
    "UNKNOWN",
    "not provided",
    "n.a.",
    "XXXX",
    "000000",
)
OPENED = {"dep-1": "p-1", "dep-2": "p-2", "dep-12": "p-12", "dep-1234": "p-1234"}


def run(*files: str, opened: dict[str, str] = OPENED) -> MessageExplanation:
    """Book files after the deposits that they may name."""
    deposits = [
        json.dumps(
            {
                "operation": "deposit.opened",
                "id": deposit,
                "at": "2026-09-21T14:00:00Z",
                "player_id": player,
                "amount": "50.00",
                "currency": "EUR",
                "psp": "any",
            }
        )
        for deposit, player in opened.items()
    ]
    bodies = [("house", text) for text in deposits] + [("camt", text) for text in files]
    return explain(
        [
            RawBody(str(at), f"provider.{provider}.raw.v1", text.encode(), [], at, APPENDED_AT)
            for at, (provider, text) in enumerate(bodies)
        ]
    )


def totals(*files: str, opened: dict[str, str] = OPENED) -> dict[str, str]:
    """What is not zero, by player or house account."""
    explanation = run(*files, opened=opened)
    assert explanation.rejected == []
    found = explanation.balances() | explanation.house()
    return {
        name: f"{text} {currency}"
        for name, by_currency in found.items()
        for currency, text in by_currency.items()
        if text.strip("-0.")
    }


def read(*entries: str, packing: Packing = PLAIN, dialect: Camt | None = None) -> list[Any]:
    body = print_file(entries, packing=packing)
    return (dialect or Camt()).reader(None)(raw_record("camt", body), {})


# --- placeholders -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize(
    "place", ["AcctSvcrRef", "NtryRef", "InstrId", "PmtInfId", "TxId", "UETR", "MndtId"]
)
def test_a_placeholder_in_any_place_makes_no_two_payments_one(word: str, place: str) -> None:
    def day(number: int, deposit: str) -> str:
        at = f"<Dt>2026-11-{number}</Dt>"
        within = f"<{place}>{word}</{place}>"
        of_entry = place in {"AcctSvcrRef", "NtryRef"}
        refs, more = ("", within) if of_entry else (within, "")
        entries = (
            print_entry(
                print_detail(end_to_end=deposit, refs=refs), amount="50", day=at, more=more
            ),
            print_entry(
                print_detail(end_to_end=word, refs=refs, lines=("Einzahlung",)),
                amount="20",
                day=at,
                more=more,
            ),
        )
        return print_file(entries, packing=Packing("053", statement=f"D{number}"))

    files = day(20, "dep-1"), day(21, "dep-2")
    right = {
        "p-1": "50.00 EUR",
        "p-2": "50.00 EUR",
        "psp:camt": "-140.00 EUR",
        "suspense:camt": "40.00 EUR",
    }
    assert totals(*files) == totals(*files, *files) == right


@pytest.mark.parametrize("word", WORDS)
def test_a_placeholder_is_the_same_as_nothing(word: str) -> None:
    def ids(text: str | None) -> list[str]:
        refs = (
            ""
            if text is None
            else "".join(f"<{name}>{text}</{name}>" for name in ("InstrId", "PmtInfId", "TxId"))
        )
        details = [
            print_detail(end_to_end=text or "", amount=amount, refs=refs) for amount in ("1", "2")
        ]
        whole = print_entry(*details, amount="3", ref="R1")
        return [
            item.provider_tx_id
            for item in read(whole, print_entry(*details[:1], amount="1", ref=text))
        ]

    assert ids(word) == ids(None)


@pytest.mark.parametrize("word", ["BANK", "SAMMLER", "2026"])
def test_one_reference_on_different_entries_of_a_file_is_none(word: str) -> None:
    def day(number: int, deposit: str) -> str:
        at = f"<Dt>2026-11-{number}</Dt>"
        return print_file(
            (
                print_entry(print_detail(end_to_end=deposit), amount="50", ref=word, day=at),
                print_entry(print_detail(lines=("Einzahlung",)), amount="20", ref=word, day=at),
            ),
            packing=Packing("053", statement=f"D{number}"),
        )

    assert totals(day(20, "dep-1"), day(21, "dep-2")) == {
        "p-1": "50.00 EUR",
        "p-2": "50.00 EUR",
        "psp:camt": "-140.00 EUR",
        "suspense:camt": "40.00 EUR",
    }


def test_one_reference_on_a_payment_its_fee_and_its_return_is_one() -> None:
    payment = print_entry(print_detail(end_to_end="dep-1"), amount="50", ref="R1")
    fee = print_entry(amount="1", ref="R1", direction="DBIT")
    back = print_entry(amount="50", ref="R1", direction="DBIT", more="<RvslInd>true</RvslInd>")
    alone, beside = read(payment), read(payment, fee, back)
    assert alone[0].provider_tx_id == beside[0].provider_tx_id


# --- sums and parts ---------------------------------------------------------------------------------------------------

PARTS = print_entry(
    print_detail(end_to_end="dep-1", amount="30"),
    print_detail(end_to_end="dep-2", amount="70"),
    amount="100",
    ref="B1",
    count=2,
)
DIVIDED = {"p-1": "30.00 EUR", "p-2": "70.00 EUR", "psp:camt": "-100.00 EUR"}
WHOLE = {"psp:camt": "-100.00 EUR", "suspense:camt": "100.00 EUR"}
SUMS = {
    "bare": print_entry(amount="100", ref="B1", count=2),
    "further message": print_entry(
        amount="100", ref="B1", more="<AddtlInfInd><MsgNmId>camt.054</MsgNmId></AddtlInfInd>"
    ),
    "further message and a nameless detail": print_entry(
        print_detail(end_to_end="NOTPROVIDED"), amount="100", ref="B1", more="<AddtlInfInd/>"
    ),
    "one detail": print_entry(
        print_detail(end_to_end="NOTPROVIDED"), amount="100", ref="B1", count=2
    ),
    "one detail with the sum": print_entry(
        print_detail(end_to_end="dep-1", amount="100"), amount="100", ref="B1", count=2
    ),
    "details without amounts": print_entry(
        print_detail(end_to_end="dep-1"),
        print_detail(end_to_end="dep-2"),
        amount="100",
        ref="B1",
        count=2,
    ),
    "text that names a payer": print_entry(amount="100", ref="B1", count=2, text="2 POSTEN dep-1"),
    "two batches": print_entry(amount="100", ref="B1").replace(
        "</Ntry>", "<NtryDtls><Btch><NbOfTxs>1</NbOfTxs></Btch></NtryDtls>" * 2 + "</Ntry>"
    ),
}


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("sum_version", ["02", "08"])
@pytest.mark.parametrize("sum_first", [True, False])
def test_a_sum_and_its_parts_are_booked_once_in_either_order(
    name: str, sum_version: str, sum_first: bool
) -> None:
    first = print_file((SUMS[name],), packing=Packing("053", sum_version, "D20"))
    second = print_file((PARTS,), packing=Packing("054", "08", "N1"))
    assert totals(*(first, second) if sum_first else (second, first)) == DIVIDED


def test_a_sum_and_its_parts_of_one_message_in_two_versions_are_booked_once() -> None:
    first = print_file((SUMS["details without amounts"],), packing=Packing("053", "02"))
    assert totals(first, print_file((PARTS,), packing=Packing("053", "13"))) == DIVIDED


UNCLEAR = {
    "less than the entry": (("30", "60"), 2),
    "more than the entry": (("30", "80"), 2),
    "two amounts of three payments": (("30", "40"), 3),
    "an amount is missing": (("30", None, "40"), 3),
    "the first of several": (("30",), 3),
    "one that is not all": (("30",), None),
    "no number": (("30", "7O"), 2),
    "no amounts and no number of payments": ((None, None), None),
    "fractions of a cent": (("33.333", "33.333", "33.334"), 3),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_parts_that_do_not_add_up_leave_the_entry_whole_and_in_suspense(name: str) -> None:
    amounts, count = UNCLEAR[name]
    details = [
        print_detail(end_to_end=f"dep-{1 + at % 2}", amount=amount)
        for at, amount in enumerate(amounts)
    ]
    assert (
        totals(print_file((print_entry(*details, amount="100", ref="B1", count=count),))) == WHOLE
    )


def test_a_fee_within_a_batch_counts_against_it() -> None:
    fee = print_detail(amount="2", more="<CdtDbtInd>DBIT</CdtDbtInd>")
    details = (
        print_detail(end_to_end="dep-1", amount="40"),
        print_detail(end_to_end="dep-2", amount="60"),
        fee,
    )
    assert totals(print_file((print_entry(*details, amount="98", ref="B1"),))) == {
        "p-1": "40.00 EUR",
        "p-2": "60.00 EUR",
        "psp:camt": "-100.00 EUR",
    }


CHARGES = {
    "until version 3": "<Chrgs><Amt Ccy='EUR'>0.50</Amt><CdtDbtInd>DBIT</CdtDbtInd></Chrgs>",
    "records": "<Chrgs><TtlChrgsAndTaxAmt Ccy='EUR'>0.50</TtlChrgsAndTaxAmt>"
    "<Rcrd><Amt Ccy='EUR'>0.20</Amt></Rcrd><Rcrd><Amt Ccy='EUR'>0.30</Amt></Rcrd></Chrgs>",
    "a total": "<Chrgs><TtlChrgsAndTaxAmt Ccy='EUR'>0.50</TtlChrgsAndTaxAmt></Chrgs>",
}


@pytest.mark.parametrize("name", CHARGES)
def test_bank_charges_within_a_detail_leave_what_the_account_received(name: str) -> None:
    detail = print_detail(end_to_end="dep-1", amount="50", more=CHARGES[name])
    right = {"p-1": "49.50 EUR", "psp:camt": "-49.50 EUR"}
    assert totals(print_file((print_entry(detail, amount="49.50", ref="C1"),))) == right
    of_entry = print_entry(
        print_detail(end_to_end="dep-1", amount="50"), amount="49.50", ref="C1", more=CHARGES[name]
    )
    assert totals(print_file((of_entry,))) == right
    other = print_detail(end_to_end="dep-2", amount="30")
    assert totals(print_file((print_entry(detail, other, amount="79.50", ref="C1", count=2),))) == {
        "p-1": "49.50 EUR",
        "p-2": "30.00 EUR",
        "psp:camt": "-79.50 EUR",
    }


# --- currencies -------------------------------------------------------------------------------------------------------


def foreign(deposit: str, usd: str, eur: str | None, version: str) -> str:
    """A detail in dollars, instructed over still another amount, with charges and an original of a return."""
    counter = f"<CntrValAmt>{print_money('Amt', eur)}</CntrValAmt>" if eur else ""
    own = print_money("Amt", usd, "USD")
    details = (
        f"<AmtDtls><InstdAmt>{print_money('Amt', '999', 'GBP')}</InstdAmt><TxAmt>{own}</TxAmt>{counter}</AmtDtls>"
        f"<Chrgs>{print_money('Amt', '3', 'USD')}</Chrgs>"
    )
    return print_detail(end_to_end=deposit, more=("" if version == "02" else own) + details)


@pytest.mark.parametrize("version", ["02", "08", "14"])
@pytest.mark.parametrize("count", [None, 2])
def test_of_a_payment_in_another_currency_counts_what_the_account_received(
    version: str, count: int | None
) -> None:
    details = foreign("dep-1", "110", "100", version), foreign("dep-2", "220", "200", version)
    whole = print_entry(*details, amount="300", ref="FX1", count=count, version=version)
    assert totals(print_file((whole,), packing=Packing("053", version))) == {
        "p-1": "100.00 EUR",
        "p-2": "200.00 EUR",
        "psp:camt": "-300.00 EUR",
    }
    unknown = foreign("dep-1", "110", None, version), foreign("dep-2", "220", None, version)
    whole = print_entry(*unknown, amount="300", ref="FX1", count=count, version=version)
    assert totals(print_file((whole,), packing=Packing("053", version))) == {
        "psp:camt": "-300.00 EUR",
        "suspense:camt": "300.00 EUR",
    }
    single = print_entry(unknown[0], amount="100", ref="FX2", version=version)
    assert totals(print_file((single,), packing=Packing("053", version))) == {
        "p-1": "100.00 EUR",
        "psp:camt": "-100.00 EUR",
    }


def test_what_was_instructed_is_not_what_was_received() -> None:
    instructed = [
        print_detail(
            end_to_end=f"dep-{at}",
            more=f"<AmtDtls><InstdAmt>{print_money('Amt', '50')}</InstdAmt></AmtDtls>",
        )
        for at in (1, 2)
    ]
    assert totals(print_file((print_entry(*instructed, amount="100", ref="I1", count=2),))) == WHOLE


# --- ids in cut text --------------------------------------------------------------------------------------------------


@given(data=st.data(), long=st.booleans())
def test_text_cut_anywhere_never_names_another_deposit(data: st.DataObject, long: bool) -> None:
    named = "dep-1234" if long else "dep-12"
    text = f"Einzahlung 77 {named} danke" if data.draw(st.booleans()) else f"{named} 34 dep"
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1), max_size=3)))
    lines = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    found = totals(
        print_file((print_entry(print_detail(lines=tuple(lines)), amount="50", ref="U1"),))
    )
    owner = OPENED[named]
    assert found in (
        {owner: "50.00 EUR", "psp:camt": "-50.00 EUR"},
        {"suspense:camt": "50.00 EUR", "psp:camt": "-50.00 EUR"},
    )
    if not cuts:
        assert owner in found


@pytest.mark.parametrize(
    ("lines", "deposit"),
    [
        (("pay dep-12", "34 danke"), None),
        (("pay dep-12\n34 danke",), None),
        (("pay dep-", "1234 danke"), "dep-1234"),
        (("pay de", "p-1234"), "dep-1234"),
        (("pay", "dep-1234"), "dep-1234"),
        (("dep-1234", ", danke"), "dep-1234"),
        (("dep-1234", "again dep-1234"), "dep-1234"),
        (("dep-1234", "dep-1234"), "dep-1234"),
        (("dep-12", "dep-1234"), None),
        (("x" * 2_000 + " dep-1234",), "dep-1234"),
        (("dep-" + "9" * 200,), None),
    ],
)
def test_an_id_is_certain_where_one_reading_fits(
    lines: tuple[str, ...], deposit: str | None
) -> None:
    [draft] = read(print_entry(print_detail(lines=lines), amount="50", ref="U1"))
    expected = None if deposit is None else Reference("deposit.opened", deposit)
    assert (draft.reference if draft.reference.operation != "unmatched" else None) == expected


def test_another_text_settles_what_a_cut_leaves_open() -> None:
    [draft] = read(
        print_entry(
            print_detail(end_to_end="dep-1234", lines=("dep-12", "34")), amount="50", ref="U1"
        )
    )
    assert draft.reference == Reference("deposit.opened", "dep-1234")


def test_the_text_of_an_entry_speaks_for_its_only_payment() -> None:
    for details in ((), (print_detail(end_to_end="NOTPROVIDED"),)):
        entry = print_entry(*details, amount="50", ref="T1", text="GUTSCHRIFT dep-1")
        assert totals(print_file((entry,))) == {"p-1": "50.00 EUR", "psp:camt": "-50.00 EUR"}


@pytest.mark.parametrize("amounts", [("30", "70"), (None, None), ("30", "60")])
def test_the_text_of_an_entry_never_speaks_for_several(amounts: tuple[str | None, ...]) -> None:
    details = [print_detail(end_to_end="NOTPROVIDED", amount=amount) for amount in amounts]
    entry = print_entry(*details, amount="100", ref="T1", text="SAMMELGUTSCHRIFT dep-1")
    assert totals(print_file((entry,))) == WHOLE


def test_a_copy_of_the_order_is_not_searched() -> None:
    detail = print_detail(end_to_end="NOTPROVIDED", more="<InstrCpy>order of dep-1</InstrCpy>")
    assert totals(print_file((print_entry(detail, amount="100", ref="T1"),))) == WHOLE


# --- twins ------------------------------------------------------------------------------------------------------------

ONE = print_entry(print_detail(end_to_end="dep-1"), amount="50", ref="R-100")
TWO = print_entry(print_detail(end_to_end="dep-2"), amount="25", ref="R-101")


@pytest.mark.parametrize("ref", ["R-100", "NONREF", None])
def test_twins_in_one_statement_are_two_and_a_copy_of_it_is_a_copy(ref: str | None) -> None:
    twin = print_entry(print_detail(end_to_end="dep-1"), amount="50", ref=ref)
    body = print_file((twin, twin))
    right = {"p-1": "100.00 EUR", "psp:camt": "-100.00 EUR"}
    assert totals(body) == totals(body, body) == right


@pytest.mark.parametrize(
    "statements",
    [
        ((ONE,), (ONE, TWO)),
        ((ONE, TWO), (TWO, ONE)),
        ((ONE,), (TWO,), (ONE, TWO)),
        ((TWO, ONE), (ONE,)),
    ],
)
def test_statements_that_overlap_book_an_entry_once(
    statements: tuple[tuple[str, ...], ...],
) -> None:
    right = {"p-1": "50.00 EUR", "p-2": "25.00 EUR", "psp:camt": "-75.00 EUR"}
    assert totals(print_file(*statements)) == right
    files = [
        print_file(entries, packing=Packing(statement=f"T{at}"))
        for at, entries in enumerate(statements)
    ]
    assert totals(*files) == totals(*files[::-1]) == right


# --- reversals and returns --------------------------------------------------------------------------------------------

RETURN_CODES = [
    ("RCDT", "RRTN"),
    ("ICDT", "RRTN"),
    ("RCDT", "RPCR"),
    ("IDDT", "UPDD"),
    ("IDDT", "PRDD"),
    ("RRCT", "RRTN"),
]


def bank_code(family: str, code: str) -> str:
    return f"<BkTxCd><Domn><Cd>PMNT</Cd><Fmly><Cd>{family}</Cd><SubFmlyCd>{code}</SubFmlyCd></Fmly></Domn></BkTxCd>"


@pytest.mark.parametrize(("family", "code"), RETURN_CODES)
@pytest.mark.parametrize("of_detail", [True, False])
def test_a_return_that_only_the_bank_s_code_states_takes_the_deposit_back(
    family: str, code: str, of_detail: bool
) -> None:
    text = bank_code(family, code)
    detail = print_detail(end_to_end="dep-1", more=text if of_detail else "")
    back = print_entry(
        detail, amount="50", ref="R2", direction="DBIT", more="" if of_detail else text
    )
    assert totals(print_file((ONE, back))) == {}
    payout = print_entry(
        print_detail(end_to_end="wd-1"), amount="50", ref="R3", direction="CRDT", more=text
    )
    assert totals(print_file((payout,))) == {}


@pytest.mark.parametrize(("family", "code"), [("RCDT", "ESCT"), ("ICDT", "ESCT"), ("MDOP", "CHRG")])
def test_another_code_is_no_return(family: str, code: str) -> None:
    paid = print_entry(
        print_detail(end_to_end="dep-1"), amount="50", ref="R4", more=bank_code(family, code)
    )
    debit = print_entry(amount="50", ref="R5", direction="DBIT", more=bank_code(family, code))
    assert totals(print_file((paid, debit))) == {"p-1": "50.00 EUR", "psp:camt": "-50.00 EUR"}


@pytest.mark.parametrize("own", ["", "CRDT", "DBIT"])
def test_the_detail_of_a_reversal_may_have_either_direction(own: str) -> None:
    way = f"<CdtDbtInd>{own}</CdtDbtInd>" if own else ""
    detail = print_detail(end_to_end="dep-1", amount="50", more=way)
    back = print_entry(
        detail, amount="50", ref="R2", direction="DBIT", more="<RvslInd>true</RvslInd>"
    )
    assert totals(print_file((ONE, back))) == {}


@pytest.mark.parametrize(
    ("repeats", "direction", "kind"),
    [
        (False, "DBIT", "DEPOSIT_REVERSAL"),
        (False, "CRDT", "INFORMATIONAL"),
        (True, "CRDT", "DEPOSIT_REVERSAL"),
        (True, "DBIT", "INFORMATIONAL"),
    ],
)
def test_which_way_a_reversal_goes_is_a_setting(repeats: bool, direction: str, kind: str) -> None:
    entry = print_entry(
        print_detail(end_to_end="dep-1"),
        amount="50",
        direction=direction,
        more="<RvslInd>1</RvslInd>",
    )
    [draft] = read(entry, dialect=Camt(reversal_repeats_direction=repeats))
    assert draft.legs[0].kind == kind


def test_the_id_of_a_return_makes_a_debit_a_return() -> None:
    detail = print_detail(end_to_end="dep-1", refs="<RtrId>RT-1</RtrId>")
    back = print_entry(detail, amount="50", ref="R2", direction="DBIT")
    assert totals(print_file((ONE, back), packing=Packing(version="14"))) == {}


def test_a_batch_of_returns_that_is_unclear_leaves_suspense() -> None:
    code = bank_code("RCDT", "RRTN")
    details = [print_detail(end_to_end=f"dep-{at}", more=code) for at in (1, 2)]
    back = print_entry(*details, amount="50", ref="R2", direction="DBIT")
    assert totals(print_file((back,))) == {"psp:camt": "50.00 EUR", "suspense:camt": "-50.00 EUR"}


# --- files ------------------------------------------------------------------------------------------------------------

PACKINGS = {
    "business message": Packing(
        envelope=f'<BizMsgEnvlp xmlns="urn:iso:std:iso:20022:tech:xsd:head.003.001.01">{HEAD}{{}}</BizMsgEnvlp>'
    ),
    "SWIFT": Packing(
        envelope=f'<Saa:DataPDU xmlns:Saa="urn:swift:saa:xsd:saa.2.0"><Saa:Body>{HEAD}{{}}</Saa:Body></Saa:DataPDU>'
    ),
    "a bank's own": Packing(envelope="<Export><Item>{}</Item></Export>"),
    "no namespace": Packing(namespace=False),
    "no namespace in an envelope": Packing(namespace=False, envelope="<Export>{}</Export>"),
    "a line break before the declaration": Packing(
        before='\n<?xml version="1.0" encoding="UTF-8"?>\n'
    ),
    "white space before the declaration": Packing(before=' \r\n\t<?xml version="1.0"?>'),
    "a byte order mark and a line break": Packing(
        before='\ufeff\n<?xml version="1.0" encoding="UTF-8"?>'
    ),
}


@pytest.mark.parametrize("name", PACKINGS)
def test_an_envelope_is_opened_and_a_namespace_may_be_missing(name: str) -> None:
    right = {"p-1": "50.00 EUR", "psp:camt": "-50.00 EUR"}
    assert totals(print_file((ONE,), packing=PACKINGS[name])) == right


def test_a_wrong_namespace_that_names_the_message_is_read() -> None:
    body = print_file((ONE,)).replace("iso:20022:tech", "iso:20023:tech")
    assert totals(body) == {"p-1": "50.00 EUR", "psp:camt": "-50.00 EUR"}


def test_drift_looks_into_the_envelope() -> None:
    checker = DriftChecker(by_provider([Camt()]))
    plain, wrapped = (
        checker.check("camt", raw_record("camt", print_file((ONE,), packing=packing)))
        for packing in (Packing(), PACKINGS["business message"])
    )
    assert [finding.shape for finding in wrapped] == [finding.shape for finding in plain]


def test_two_messages_in_one_envelope_are_both_read() -> None:
    first, second = (
        print_file((one,), packing=Packing(statement=name))
        for one, name in ((ONE, "A"), (TWO, "B"))
    )
    assert totals(f"<Export>{first}{second}</Export>") == {
        "p-1": "50.00 EUR",
        "p-2": "25.00 EUR",
        "psp:camt": "-75.00 EUR",
    }


@pytest.mark.parametrize("message", ROOTS)
def test_every_version_gives_one_payment_one_identity(message: str) -> None:
    seen = set()
    for version in VERSIONS:
        details = [
            print_detail(
                end_to_end=f"dep-{at}", amount=amount, refs=f"<TxId>T{at}</TxId>", version=version
            )
            for at, amount in ((1, "30"), (2, "70"))
        ]
        entries = (
            print_entry(*details, amount="100", ref="B1", count=2, version=version),
            print_entry(details[0], amount="30", ref="B2", version=version),
            print_entry(details[0], amount="30", version=version),
        )
        items = read(*entries, packing=Packing(message, version))
        seen.add(
            tuple(
                (item.operation, item.provider_tx_id, repr(item.reference), repr(item.legs))
                for item in items
            )
        )
    assert len(seen) == 1


def test_an_account_may_be_known_by_a_proxy_only() -> None:
    def proxy(kind: str, name: str) -> Packing:
        return Packing(
            version="14",
            account=f"<Prxy><Tp><Cd>{kind}</Cd></Tp><Id>{name}</Id></Prxy><Ccy>EUR</Ccy>",
        )

    files = [
        print_file(
            (print_entry(print_detail(end_to_end="dep-1"), amount="50", ref="R"),),
            packing=proxy("EMAL", name),
        )
        for name in ("a@casino.example", "b@casino.example")
    ]
    assert totals(*files, *files) == {"p-1": "100.00 EUR", "psp:camt": "-100.00 EUR"}
    explanation = run(print_file((ONE,), packing=Packing(version="14", account="<Ccy>EUR</Ccy>")))
    assert [item.code.value for _, item in explanation.rejected] == ["MISSING_FIELD"]


def test_an_iban_is_one_account_however_it_is_printed() -> None:
    spelt = Packing(account="<Id><IBAN>nl26 VAYB 8060 4768 90</IBAN></Id>")
    assert totals(print_file((ONE,)), print_file((ONE,), packing=spelt)) == {
        "p-1": "50.00 EUR",
        "psp:camt": "-50.00 EUR",
    }


def allocation(amount: str | None, ref: str, direction: str = "CRDT") -> str:
    money = "" if amount is None else print_money("Amt", amount)
    return f"<UndrlygAllcn>{money}<CdtDbtInd>{direction}</CdtDbtInd><Ref>{ref}</Ref></UndrlygAllcn>"


@pytest.mark.parametrize("stated", [None, "100"])
def test_a_payment_for_several_things_is_divided_where_they_add_up(stated: str | None) -> None:
    parts = allocation("60", "dep-1") + allocation("40", "dep-2")
    detail = print_detail(end_to_end="dep-12", amount=stated, refs="<TxId>T1</TxId>", more=parts)
    body = print_file((print_entry(detail, amount="100", ref="A1"),), packing=Packing(version="13"))
    right = {"p-1": "60.00 EUR", "p-2": "40.00 EUR", "psp:camt": "-100.00 EUR"}
    assert totals(body) == totals(body, body) == right
    for other in (allocation("30", "dep-2"), allocation(None, "dep-2")):
        wrong = print_detail(amount=stated, more=allocation("60", "dep-1") + other)
        assert totals(print_file((print_entry(wrong, amount="100", ref="A1"),))) == WHOLE


# --- times ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "at"),
    [
        ("<DtTm>2026-11-20T24:00:00</DtTm>", 1_795_219_200_000),
        ("<DtTm>2026-11-20T24:00:00Z</DtTm>", 1_795_219_200_000),
        ("<DtTm>2026-11-20T00:00:00.1234567890123Z</DtTm>", 1_795_132_800_123),
        ("<DtTm>2026-11-20T25:61:00Z</DtTm>", 1_795_132_800_000),
        ("<DtTm>2026-11-20T12.30</DtTm>", 1_795_132_800_000),
    ],
)
def test_a_time_that_cannot_be_read_does_not_stop_money_that_has_a_day(day: str, at: int) -> None:
    [draft] = read(print_entry(print_detail(end_to_end="dep-1"), amount="50", ref="R", day=day))
    assert (draft.legs[0].kind, draft.provider_at) == ("DEPOSIT", at)


def test_the_value_date_stands_in_for_a_booking_day_that_cannot_be_read() -> None:
    more = "<ValDt><Dt>2026-11-20</Dt></ValDt>"
    [draft] = read(print_entry(amount="50", ref="R", day="<Dt>soon</Dt>", more=more))
    assert draft.provider_at == 1_795_132_800_000
