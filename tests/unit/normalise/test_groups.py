"""Calls of several transactions: grouped as a whole, rejected as a whole, cancelled as a whole."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.simulator.bundle import Bundle
from schemas import codec
from schemas.errors import RejectCode
from schemas.events import WalletOutcome, WalletTransaction
from schemas.identity import group_id
from streams.normalise.mapping.normaliser import (
    AcceptedTransaction,
    ItemResult,
    Normaliser,
    RejectedItem,
)
from streams.normalise.mapping.operator_marks import CANCEL_HEADER
from streams.providers.answers import Answers
from streams.providers.groups import GROUP_SIZE_MAX
from streams.providers.registry import by_provider
from tests.support.dialect_records import raw_record

DIALECTS = by_provider([Bundle()])
BET = {"type": "bet", "id": "b1", "amount": "5.00", "round": "r-1"}
SECOND = {"type": "bet", "id": "b2", "amount": "2.00", "round": "r-1"}
WIN = {"type": "win", "id": "w1", "amount": "2.50", "round": "r-1"}


def normalise(*items: dict[str, Any], **headers: bytes) -> list[ItemResult]:
    body = json.dumps({"player": "p-1", "items": items}).encode()
    record = raw_record("bundle", body, headers)
    return Normaliser(DIALECTS, {}).normalise(record)


def transactions(results: list[ItemResult]) -> list[WalletTransaction]:
    read = []
    for result in results:
        assert isinstance(result, AcceptedTransaction), result
        assert codec.decoder(WalletTransaction)(result.value) == result.transaction
        read.append(result.transaction)
    return read


def test_the_first_of_a_call_holds_all_others():
    first, second, third = transactions(normalise(BET, SECOND, WIN))
    ids = [one.event_id for one in (first, second, third)]
    assert {one.group.id for one in (first, second, third) if one.group} == {group_id(ids)}
    assert [(one.group.index, one.group.size) for one in (first, second, third) if one.group] == [
        (0, 3),
        (1, 3),
        (2, 3),
    ]
    assert first.group is not None
    assert [member.event_id for member in first.group.members] == ids[1:]
    for member, own in zip(first.group.members, (second, third), strict=True):
        assert own.group is not None
        assert own.group.members == []
        assert (member.record_index, member.fingerprint) == (
            own.attempt.record_index,
            own.fingerprint,
        )
        assert (member.legs, member.reference) == (own.legs, own.reference)


def test_the_same_call_in_another_order_is_the_same_group():
    [one, *_], [other, *_] = (transactions(normalise(*items)) for items in ((BET, WIN), (WIN, BET)))
    assert one.group is not None
    assert other.group is not None
    assert one.group.id == other.group.id


def test_a_call_of_one_is_decided_alone_and_its_win_is_the_same():
    [alone] = transactions(normalise(WIN))
    beside = transactions(normalise(BET, WIN))[1]
    assert alone.group is None
    assert (alone.reference, beside.reference) != (None, None)
    assert (alone.event_id, alone.fingerprint) == (beside.event_id, beside.fingerprint)


@pytest.mark.parametrize(
    ("items", "code"),
    [
        ([BET, {**WIN, "amount": "0.001"}], RejectCode.AMOUNT_SCALE),
        ([BET, {**SECOND, "id": "b1"}], RejectCode.BAD_FIELD),
        ([{**BET, "id": f"b{n}"} for n in range(GROUP_SIZE_MAX + 1)], RejectCode.TOO_LARGE),
    ],
    ids=["an item that cannot be read", "one transaction twice", "too many"],
)
def test_an_unusable_item_leaves_nothing_of_its_call(items, code):
    results = normalise(*items)
    assert {result.code for result in results if isinstance(result, RejectedItem)} == {code}
    rejected = [one for one in results if isinstance(one, RejectedItem)]
    assert [one.record_index for one in rejected] == list(range(len(items)))
    assert {one.player_id for one in rejected} == {"p-1"}


def test_a_cancel_of_a_call_with_a_decision_takes_its_win_back_too():
    attempt = b"provider.bundle.raw.v1-3@0"
    cancels = transactions(normalise(BET, WIN, **{CANCEL_HEADER: attempt}))
    assert [one.legs[0].kind for one in cancels] == ["CANCEL", "CANCEL"]
    assert [one.group for one in cancels] == [None, None]
    assert [one.reference.tx_id for one in cancels if one.reference] == ["b1", "w1"]
    alone = transactions(normalise(WIN, {**WIN, "id": "w2"}, **{CANCEL_HEADER: attempt}))
    assert [one.legs[0].kind for one in alone] == ["INFORMATIONAL", "INFORMATIONAL"]


def outcome(transaction: WalletTransaction, word: str, minor: int) -> WalletOutcome:
    return WalletOutcome(
        transaction.event_id,
        transaction.brand,
        transaction.provider,
        transaction.operation,
        transaction.provider_tx_id,
        transaction.attempt,
        transaction.player_id,
        word,
        "",
        "",
        "EUR",
        2,
        minor,
        7,
        1,
    )


def test_an_answer_waits_for_the_outcome_of_every_item():
    body = json.dumps({"player": "p-1", "items": [BET, SECOND, WIN]}).encode()
    record = raw_record("bundle", body)
    made = transactions(Normaliser(DIALECTS, {}).normalise(record))
    pending = Answers(DIALECTS).begin(record)
    assert pending.awaited == [0, 1, 2]
    for number, index in enumerate((2, 0, 0, 1)):
        with pytest.raises(ValueError, match="have not come"):
            pending.reply()
        assert not pending.is_complete
        assert pending.add(outcome(made[index], "POSTED", 100 * index)), number
    assert pending.is_complete
    assert json.loads(pending.reply().body) == {"done": True, "balance": "2.00"}


def test_an_answer_takes_no_outcome_of_another_record_and_waits_for_nothing_that_never_comes():
    body = json.dumps({"player": "p-1", "items": [BET, SECOND]}).encode()
    record = raw_record("bundle", body)
    [first, _] = transactions(Normaliser(DIALECTS, {}).normalise(record))
    pending = Answers(DIALECTS).begin(raw_record("bundle", body, offset=record.offset + 1))
    assert not pending.add(outcome(first, "POSTED", 1))
    assert pending.awaited == [0, 1]
    for unreadable in (
        b"{",
        json.dumps({"player": "p-1", "items": [BET, {**BET, "amount": "0.001"}]}).encode(),
    ):
        at_once = Answers(DIALECTS).begin(raw_record("bundle", unreadable))
        assert at_once.is_complete
        assert json.loads(at_once.reply().body) == {"done": False, "balance": None}
