"""Which payments of bank statements are the same, in whatever copy or order they come."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.providers.camt import Camt
from tests.support.camt_entries import (
    ACCOUNT,
    BATCHES,
    detail,
    entry,
    facts,
    file,
    ids,
    plain_fact,
)
from tests.support.examples import examples


def test_both_messages_and_every_copy_say_the_same_of_an_entry() -> None:
    first = facts(file(entry(detail())))
    assert (
        facts(file(entry(detail()), message="053", version="02", statement="OTHER", head="M2"))
        == first
    )
    assert facts(file(entry(detail()), more="<CpyDplctInd>DUPL</CpyDplctInd>", head="M3")) == first
    assert facts(file(entry(detail()), version="13")) == first


def test_two_payments_that_share_everything_stay_two() -> None:
    twins = ids(file(entry(detail(), detail())))
    assert len(set(twins)) == 2
    assert ids(file(entry(detail(), detail()), head="M2")) == twins
    separate = ids(file(entry(detail(), ref=None), entry(detail(), ref=None)))
    assert len(set(separate)) == 2
    assert len(set(ids(file(entry(), entry())))) == 2  # a bank that uses one reference for all


def test_the_end_to_end_id_alone_is_no_identity() -> None:
    assert (
        len(set(ids(file(entry(detail("MUELL"), ref="A"), entry(detail("MUELL"), ref="B"))))) == 2
    )
    assert ids(file(entry(detail("X"), ref="A"))) == ids(file(entry(detail("Y"), ref="A")))


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_twins_keep_their_ids_in_any_order(order: tuple[int, ...]) -> None:
    # Alike in all references and amounts, told apart by their text alone: the id must go with the text.
    parts = [detail("X", more=f"<RmtInf><Ustrd>for dep-{n}</Ustrd></RmtInf>") for n in range(3)]
    assert facts(file(entry(*(parts[n] for n in order)))) == facts(file(entry(*parts)))


def test_a_reference_of_the_detail_s_own_is_enough() -> None:
    for name in ("AcctSvcrRef", "UETR", "TxId"):
        refs = f"<{name}>own-1</{name}>"
        alone = file(entry(detail(refs=refs), detail("dep-2", "1"), ref="A"))
        beside = file(
            entry(detail("dep-3", "9"), detail("changed-dep-1", refs=refs), ref="B"), statement="S9"
        )
        assert ids(alone)[0] == ids(beside)[1] == ("CRDT", f"{ACCOUNT}|{name}=own-1|320EUR")


def test_the_entry_s_reference_repeated_in_its_details_tells_them_not_apart() -> None:
    same = "<AcctSvcrRef>ACSR1</AcctSvcrRef>"
    parts = [detail("dep-1", refs=same), detail("dep-2", refs=same)]
    assert facts(file(entry(*parts))) == facts(file(entry(*parts[::-1])))
    assert not any("#" in tx_id for _, tx_id in ids(file(entry(*parts))))


def test_without_references_statement_and_content_say_who() -> None:
    first = ids(file(entry(detail(), ref=None)))
    assert ids(file(entry(detail(), ref=None), head="M2")) == first
    others = [
        file(entry(detail(), ref=None), statement="S2"),
        file(entry(detail("dep-2"), ref=None)),
        file(entry(detail(), ref=None, amount="11")),
        file(entry(detail(), ref=None, when="<BookgDt><Dt>2026-11-21</Dt></BookgDt>")),
        file(entry(detail(more="<RmtInf><Ustrd>again</Ustrd></RmtInf>"), ref=None)),
        file(entry(detail(), ref=None), more="<NtfctnPgntn><PgNb>2</PgNb></NtfctnPgntn>"),
    ]
    assert len({tuple(ids(body)) for body in others} | {tuple(first)}) == len(others) + 1
    assert (
        ids(file(entry(detail(), ref=None), more="<NtfctnPgntn><PgNb>1</PgNb></NtfctnPgntn>"))
        == first
    )


def test_a_bank_that_uses_references_again_is_known_by_its_statements() -> None:
    again = Camt(unique_references=False)
    bodies = [file(entry(detail()), statement=name) for name in ("S1", "S2")]
    assert ids(bodies[0]) == ids(bodies[1])
    assert ids(bodies[0], again) != ids(bodies[1], again)


def test_no_two_references_meet_in_one_id() -> None:
    one_way, other = (
        ids(file(entry(detail("B|", refs="<InstrId>A</InstrId>"), detail("z", "1")))),
        ids(file(entry(detail("B", refs="<InstrId>A</InstrId>"), detail("z", "1")))),
    )
    assert one_way[0] != other[0]
    assert "%7C" in one_way[0][1]


@examples(200)
@given(batches=BATCHES, data=st.data())
def test_no_payment_is_lost_or_doubled_in_whichever_order_a_copy_lists_them(
    batches: Any, data: st.DataObject
) -> None:
    """Few values, so that nearly everything has its like somewhere."""

    def print_file(order: list[int], shuffled: bool) -> str:
        entries = []
        for n in order:
            payments = data.draw(st.permutations(batches[n])) if shuffled else batches[n]
            parts = [detail(e2e, amount, more, refs=refs) for e2e, amount, more, refs in payments]
            entries.append(entry(*parts, ref=f"R{n % 2}" if n else None))
        return file(*entries, head=str(shuffled))

    straight = list(range(len(batches)))
    first = print_file(straight, shuffled=False)
    known = facts(first)
    assert len({(operation, tx_id) for operation, tx_id, *_ in known}) == sum(map(len, batches))
    again = facts(print_file(data.draw(st.permutations(straight)), shuffled=True))
    # 1 and 1.00 are one amount; which of two equal payments printed which way does not matter.
    assert [fact[:2] for fact in again] == [fact[:2] for fact in known]
    assert sorted(plain_fact(fact) for fact in again) == sorted(plain_fact(fact) for fact in known)


@given(st.lists(st.sampled_from("ABCDEF"), unique=True, min_size=2), st.data())
def test_entries_with_references_may_be_cut_into_any_files(
    refs: list[str], data: st.DataObject
) -> None:
    entries = [entry(detail(), detail(), detail("dep-2", "1"), ref=ref) for ref in refs]
    cut = data.draw(st.integers(1, len(entries) - 1))
    parts = facts(file(*entries[cut:], statement="T", head="2")) + facts(file(*entries[:cut]))
    assert sorted(parts) == facts(file(*entries))
