"""Bank statements too large for a record are cut into parts that say the same."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import RejectCode, Rejected
from streams.providers.camt_splitting import split_file
from tests.support.camt_entries import (
    BATCHES,
    detail,
    entry,
    facts,
    file,
    plain_fact,
    read,
)
from tests.support.examples import examples


def facts_after_split(body: str, max_bytes: int) -> list[Any]:
    cut = split_file(body.encode(), max_bytes=max_bytes)
    assert max(map(len, cut)) <= max_bytes
    assert (len(cut) > 1) or len(body.encode()) <= max_bytes
    return sorted(fact for piece in cut for fact in facts(piece.decode()))


@examples(100)
@given(
    batches=BATCHES,
    references=st.lists(st.sampled_from([None, "R0", "R1", "R2"]), min_size=4, max_size=4),
)
def test_the_parts_of_a_file_say_what_the_file_says(
    batches: Any, references: list[str | None]
) -> None:
    entries = [
        entry(
            *[detail(e2e, amount, more, refs=refs) for e2e, amount, more, refs in payments], ref=ref
        )
        for payments, ref in zip(batches, references, strict=False)
    ]
    body = file(
        *entries,
        entry(direction="DBIT", amount="12", ref="P1"),
        more="<ElctrncSeqNb>1</ElctrncSeqNb>",
    )
    for room in (2_500, len(body) * 2 // 3):
        with suppress(Rejected):  # too many that belong together
            after = facts_after_split(body, max(room, 1_200))
            assert sorted(map(plain_fact, after)) == sorted(map(plain_fact, facts(body)))


def test_an_entry_too_large_for_a_record_is_cut_between_its_payments() -> None:
    payments = [detail(f"dep-{n}", refs=f"<TxId>T{n}</TxId>") for n in range(200)] + [
        detail("dep-1")
    ] * 3
    body = file(entry(*payments), entry(ref="B"), entry(detail("dep-3"), ref=None))
    assert facts_after_split(body, 4_000) == facts(body)
    batch = "<Btch><MsgId>x</MsgId><NbOfTxs>203</NbOfTxs></Btch>"
    assert facts_after_split(file(entry(*payments, batch=batch)), 4_000) == facts(
        file(entry(*payments, batch=batch))
    )


def test_each_statement_of_a_file_is_cut_by_itself() -> None:
    body = file(*[entry(ref=f"A{n}") for n in range(20)], message="053")
    statement = re.search("<Stmt>.*</Stmt>", body)
    assert statement is not None
    body = body.replace(
        statement[0], statement[0] + statement[0].replace("S1", "S2").replace(">A", ">B")
    )
    body = body.replace(
        "</BkToCstmrStmt>",
        statement[0].split("<Ntry>")[0].replace("S1", "S3") + "</Stmt></BkToCstmrStmt>",
    )
    assert len(facts(body)) == 41
    assert facts_after_split(body, 2_000) == facts(body)


def test_a_file_of_many_megabytes_becomes_records() -> None:
    body = file(
        *[
            entry(detail(more="<AddtlTxInf>" + "x" * 400 + "</AddtlTxInf>"), ref=f"A{n}")
            for n in range(5_000)
        ]
    )
    cut = split_file(body.encode())
    assert len(body) > 3_000_000
    assert max(map(len, cut)) <= 1_000_000
    assert sum(len(read(piece)) for piece in cut) == 5_000


def test_a_file_that_fits_stays_as_it_is_and_twins_that_do_not_fit_are_rejected() -> None:
    body = file(entry(detail(), detail())).encode()
    assert split_file(body) == [body]
    with pytest.raises(Rejected) as caught:
        split_file(file(entry(*[detail()] * 100)).encode(), max_bytes=3_000)
    assert caught.value.reason is RejectCode.TOO_LARGE
