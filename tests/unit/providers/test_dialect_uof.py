from __future__ import annotations

from typing import Any

import pytest

from schemas.errors import RejectCode, Rejected
from streams.normalise.mapping.events import settlement_id
from streams.providers.dialect import Draft, MarketDraft
from streams.providers.uof import Uof
from tests.support.dialect_records import raw_record

AT = 1_790_000_000_123
HEAD = f'product="1" event_id="sr:match:700001" timestamp="{AT}"'


def read(body: str | bytes) -> Any:
    return Uof().reader(None)(raw_record("uof", body), {})


def code(body: str | bytes) -> RejectCode:
    with pytest.raises(Rejected) as caught:
        read(body)
    return caught.value.reason


def settlement(*markets: str, more: str = 'certainty="2"') -> str:
    return f"<bet_settlement {HEAD} {more}><outcomes>{''.join(markets)}</outcomes></bet_settlement>"


HALVES = (
    '<market id="16" specifiers="hcp=-0.75"><outcome id="1714" result="1" void_factor="0.5"/>'
    '<outcome id="1715" result="0" void_factor="0.5"/></market>'
)


def test_each_outcome_is_an_item() -> None:
    won, lost = read(settlement(HALVES))
    assert won == MarketDraft(
        "bet_settlement",
        "sr:match:700001",
        "16",
        "hcp=-0.75",
        "1714",
        "SETTLED",
        "1",
        "0.5",
        None,
        "2",
        None,
        None,
        AT,
        "NOT_CHECKED",
    )
    assert (lost.outcome_id, lost.result, lost.void_factor) == ("1715", "0", "0.5")


def test_live_and_confirmed_say_the_same_twice() -> None:
    [live], [confirmed] = (
        read(
            settlement(
                '<market id="1"><outcome id="1" result="1"/></market>', more=f'certainty="{n}"'
            )
        )
        for n in "12"
    )
    assert (live.result, live.certainty, confirmed.certainty) == ("1", "1", "2")


def test_what_the_samples_do_and_the_schema_forbids() -> None:
    body = "\ufeff" + settlement('<market id="1"><outcome id="1" result="1"/></market>', more="")
    [item] = read(body.encode())
    assert item.certainty is None
    [cancel] = read(
        f'<bet_cancel {HEAD}><market id="16" extended_specifers="x=1" void_reason="3"/></bet_cancel>'
    )
    assert (cancel.specifiers, cancel.action) == ("", "CANCELLED")


@pytest.mark.parametrize(
    "spelt", ["setnr=4|pointnr=45", "pointnr=45|setnr=4", "|setnr=4||pointnr=45"]
)
def test_a_market_has_one_spelling(spelt: str) -> None:
    [item] = read(
        settlement(f'<market id="204" specifiers="{spelt}"><outcome id="4" result="0"/></market>')
    )
    assert item.specifiers == "pointnr=45|setnr=4"


def test_ids_are_numbers_or_urns_and_heats_and_doubts_are_kept() -> None:
    dead, open_ = read(
        settlement(
            '<market id="534"><outcome id="sr:player:1" result="1" dead_heat_factor="0.3333"/>'
            '<outcome id="2" result="-1"/></market>'
        )
    )
    assert (dead.outcome_id, dead.dead_heat_factor, open_.result) == ("sr:player:1", "0.3333", "-1")


@pytest.mark.parametrize(
    ("operation", "action"),
    [
        ("bet_cancel", "CANCELLED"),
        ("rollback_bet_settlement", "SETTLEMENT_ROLLED_BACK"),
        ("rollback_bet_cancel", "CANCELLATION_ROLLED_BACK"),
    ],
)
def test_cancels_and_rollbacks_mean_whole_markets(operation: str, action: str) -> None:
    markets = '<market id="1"/><market id="16" specifiers="hcp=1"/>'
    items = read(f'<{operation} {HEAD} start_time="5" end_time="9">{markets}</{operation}>')
    assert [(item.market_id, item.specifiers, item.outcome_id, item.action) for item in items] == [
        ("1", "", None, action),
        ("16", "hcp=1", None, action),
    ]
    assert {(item.from_at, item.until_at, item.provider_at) for item in items} == {(5, 9, AT)}


def test_the_reason_of_a_void_and_the_match_in_its_place_are_kept() -> None:
    body = (
        f'<bet_cancel {HEAD} superceded_by="sr:match:9002"><market id="1" void_reason=" 12"/>'
        '<market id="2"/><market id="3" void_reason="rain"/></bet_cancel>'
    )
    named, unnamed, wrong = read(body)
    assert (named.void_reason, named.superseded_by) == ("12", "sr:match:9002")
    assert (unnamed.void_reason, unnamed.superseded_by) == (None, "sr:match:9002")
    assert isinstance(wrong, Rejected)
    assert "void_reason" in wrong.detail
    plain = read(f'<bet_cancel {HEAD}><market id="1"/></bet_cancel>')[0]
    assert settlement_id(plain) == settlement_id(named)
    assert (plain.void_reason, plain.superseded_by) == (None, None)


@pytest.mark.parametrize(
    "body",
    [
        f"<odds_change {HEAD}><odds><market id='1'/></odds></odds_change>",
        f"<bet_stop {HEAD} groups='all'/>",
        f"<fixture_change {HEAD} change_type='3'/>",
        f"<alive product='1' timestamp='{AT}' subscribed='1'/>",
        f"<snapshot_complete product='1' timestamp='{AT}' request_id='9'/>",
        f"<bet_settlement {HEAD}><outcomes/></bet_settlement>",
        f"<bet_cancel {HEAD}/>",
    ],
)
def test_what_settles_nothing_is_noted_and_not_lost(body: str) -> None:
    [item] = read(body)
    assert isinstance(item, Draft)
    assert ([leg.kind for leg in item.legs], item.player_id, item.provider_at) == (
        ["INFORMATIONAL"],
        None,
        AT,
    )
    assert str(AT) in item.provider_tx_id


def test_a_bad_outcome_or_market_does_not_spoil_the_others() -> None:
    items = read(
        settlement(
            '<market><outcome id="1" result="1"/></market>',
            '<market id="1"><outcome result="1"/><outcome id="2" result="2"/><outcome id="3"/><outcome id="4" result="1"/>'
            '<outcome id="5" result="1" void_factor="2"/><outcome id="6" result="1" dead_heat_factor="1,5"/></market>',
            '<market id="2"/>',
        )
    )
    assert [item.reason if isinstance(item, Rejected) else item.outcome_id for item in items] == [
        RejectCode.MISSING_FIELD,
        RejectCode.MISSING_FIELD,
        RejectCode.BAD_FIELD,
        RejectCode.MISSING_FIELD,
        "4",
        RejectCode.BAD_FIELD,
        RejectCode.BAD_FIELD,
        RejectCode.MISSING_FIELD,
    ]


def test_what_cannot_be_used() -> None:
    assert code("<fixture/>") is RejectCode.MISSING_FIELD
    assert code(f"<cashout {HEAD}/>") is RejectCode.UNKNOWN_OPERATION
    assert code("<alive timestamp='soon'/>") is RejectCode.BAD_TIME
    assert (
        code(f"<bet_cancel timestamp='{AT}'><market id='1'/></bet_cancel>")
        is RejectCode.MISSING_FIELD
    )
    assert (
        code("<!DOCTYPE a [<!ENTITY b 'c'>]><alive timestamp='1'>&b;</alive>")
        is RejectCode.MALFORMED
    )
    assert code("") is RejectCode.MALFORMED


def test_an_outcome_with_two_results_is_believed_in_neither():
    market = '<market id="1"><outcome id="1" result="1"/><outcome id="2" result="0"/><outcome id="1" result="{}"/></market>'
    same = read(settlement(market.format(1)))
    assert same[0] == same[2]
    assert [type(item) for item in same] == [MarketDraft] * 3
    other = read(settlement(market.format(0)))
    assert [type(item) for item in other] == [Rejected, MarketDraft, Rejected]
    assert "two results" in other[0].detail


NAMED = ["bet_cancel", "rollback_bet_settlement", "rollback_bet_cancel"]


@pytest.mark.parametrize("operation", NAMED)
def test_a_market_with_outcomes_means_these_and_no_others(operation: str) -> None:
    markets = (
        '<market id="40" specifiers="type=live"><outcome id="sr:player:1"/><outcome id="od:player:2"/></market>'
        '<market id="40" specifiers="type=live"><outcome id="sr:player:3"/></market><market id="41"/>'
    )
    items = read(f"<{operation} {HEAD}>{markets}</{operation}>")
    assert [(item.market_id, item.outcome_id) for item in items] == [
        ("40", "sr:player:1"),
        ("40", "od:player:2"),
        ("40", "sr:player:3"),
        ("41", None),
    ]
    assert len({settlement_id(item) for item in items}) == 4
    assert {item.result for item in items} == {None}


@pytest.mark.parametrize("operation", NAMED)
def test_an_outcome_without_an_id_is_not_the_whole_market(operation: str) -> None:
    [bad, good] = read(
        f'<{operation} {HEAD}><market id="1"><outcome/><outcome id="2"/></market></{operation}>'
    )
    assert (bad.reason, good.outcome_id) == (RejectCode.MISSING_FIELD, "2")


def test_a_whole_market_keeps_its_identity() -> None:
    [item] = read(f'<bet_cancel {HEAD}><market id="1" specifiers="a=1"/></bet_cancel>')
    assert settlement_id(item) == f"15:sr:match:700001|1:1|3:a=1|0:|13:{AT}"


@pytest.mark.parametrize(
    ("text", "read_as"),
    [
        ("0.5", "0.5"),
        ("0.3333333333333333", "0.3333333333333333"),
        (".5", "0.5"),
        ("1.", "1"),
        ("5E-1", "0.5"),
        ("5.0e-01", "0.50"),
        ("+0.5", "0.5"),
        (" 0.5 ", "0.5"),
        ("1.0E0", "1.0"),
        ("00.5", "0.5"),
        ("-0", "0"),
        ("1e-3", "0.001"),
    ],
)
def test_a_factor_may_be_any_double_from_0_to_1(text: str, read_as: str) -> None:
    [item] = read(
        settlement(f'<market id="1"><outcome id="1" result="1" void_factor="{text}"/></market>')
    )
    assert item.void_factor == read_as


@pytest.mark.parametrize(
    "text",
    ["", ".", "e1", "1.1", "-0.5", "2E0", "INF", "NaN", "0x1", "1_0", "\u0660.5", "1e-999999999"],
)
def test_another_factor_is_refused(text: str) -> None:
    [item] = read(
        settlement(f'<market id="1"><outcome id="1" result="1" void_factor="{text}"/></market>')
    )
    assert item.reason is RejectCode.BAD_FIELD


@pytest.mark.parametrize(
    ("text", "read_as"), [("+1", "1"), (" 0 ", "0"), ("01", "1"), ("-1", "-1")]
)
def test_a_result_may_be_spelt_as_any_whole_number(text: str, read_as: str) -> None:
    [item] = read(settlement(f'<market id="1"><outcome id="1" result="{text}"/></market>'))
    assert item.result == read_as
