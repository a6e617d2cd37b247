"""Dead letters of before a rebind, beside those whose sources have the same offsets today."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from runtime.dead_letters.before_rebind import BeforeRebind, is_of_before, topic_today
from runtime.dead_letters.headers import (
    PARKED_BEHIND,
    REDRIVE_OF,
    cause_from_headers,
    format_position,
    parse_position,
)
from runtime.dead_letters.key_holds import Disposition, ParkLimits, PartitionHolds
from runtime.dead_letters.letters import CaseState, Letter, collect_cases
from runtime.dead_letters.park_store import ParkedRecord
from runtime.dead_letters.redrive import OutgoingRecord, RedriveStatus
from schemas.causes import PARKED
from schemas.events import Position
from tests.unit.dead_letters.test_dead_letter_cases import RAW, action, letter, redriver

BOUND_MS = 5_000
EARLIER = BeforeRebind(
    3, BOUND_MS, {f"{RAW}.dlt-0": 100, f"{RAW}.dlt-1": 100}, frozenset({f"{RAW}-0"})
)
OLD = Position(f"{RAW}@before-3", 0, 7)


def placed(one: Letter, place: int) -> Letter:
    return msgspec.structs.replace(one, position=Position(RAW + ".dlt", 0, place))


def test_a_letter_of_today_is_not_done_because_one_of_before_was():
    """Both are of the record at offset 7: the one of before was dropped."""
    dropped = action(7, "DROP")
    today = msgspec.structs.replace(action(7, "REDRIVE", number=2), requested_at=BOUND_MS + 1)
    letters = EARLIER.mark_letters([placed(letter(7), 99), placed(letter(7), 100)])
    done = EARLIER.mark_actions({Position(RAW, 0, 7): [dropped]})
    cases = {case.source: case.state for case in collect_cases(letters, done)}
    assert cases == {Position(RAW, 0, 7): CaseState.OPEN, OLD: CaseState.DROPPED}
    done = EARLIER.mark_actions({Position(RAW, 0, 7): [dropped, today], OLD: [action(7)]})
    cases = {case.source: case.state for case in collect_cases(letters, done)}
    assert cases == {Position(RAW, 0, 7): CaseState.REDRIVEN, OLD: CaseState.REDRIVEN}


def test_letters_of_partitions_with_the_same_offsets_stay_as_they_are():
    same = [placed(letter(7, source=Position(RAW, 1, 7)), 5)]
    assert EARLIER.mark_letters(same) == same
    actions = {Position(RAW, 1, 7): [action(7)]}
    assert EARLIER.mark_actions(actions) == actions


def case_of_before(**more: Any):
    [case] = collect_cases(EARLIER.mark_letters([placed(letter(7, **more), 5)]), {})
    assert case.source == OLD
    return case


async def test_no_other_record_is_redriven_in_the_place_of_one_whose_bytes_are_gone():
    """At its offset lies another player's bet today."""
    other = OutgoingRecord(b"another", b"another's bet", [])
    driver, actions, sent = redriver(held=other)
    [result] = await driver.redrive([case_of_before(value=None)])
    assert result.status is RedriveStatus.REFUSED
    assert f"{RAW}-0@7, which is another record since the rebind" in result.detail
    assert (sent, actions.noted) == ([], [])


async def test_a_letter_of_before_is_redriven_by_its_bytes_and_names_no_place_of_today():
    driver, _, sent = redriver()
    [result] = await driver.redrive([case_of_before()])
    assert result.status is RedriveStatus.DONE
    [(_, outgoing)] = sent
    headers = dict(outgoing.headers)
    assert (outgoing.key, outgoing.value, headers["a"]) == (b"p", b"body", b"b")
    assert REDRIVE_OF not in headers
    record: Any = ParkedRecord(RAW, 0, 2, 0, b"p", b"body", outgoing.headers)
    cause = cause_from_headers(headers, record)
    assert (cause.type, cause.id) == (PARKED, f"{RAW}-0@7")


async def test_dropping_a_letter_of_before_leaves_no_mark_in_the_log():
    """A mark would end the wait behind the record that lies there today."""
    driver, _, sent = redriver(waiting=2)
    [result] = await driver.drop([case_of_before(source=Position(RAW, 0, 7))])
    assert (result.status, sent) == (RedriveStatus.DONE, [])


def test_a_record_that_is_appended_once_more_ends_no_wait_of_today():
    headers = [(PARKED_BEHIND, f"{RAW}-0@7".encode())]
    limits = ParkLimits()
    holds = PartitionHolds(limits)
    rejected: Any = ParkedRecord(RAW, 0, 7, 0, b"p", b"bad", [])
    holds.begin(rejected, "BAD_AMOUNT")
    again: Any = ParkedRecord(RAW, 0, 8, 0, b"p", b"body", headers)
    assert holds.disposition(again)[0] is Disposition.PARK


@pytest.mark.parametrize("topic", [RAW, f"ns.{RAW}"])
def test_a_place_of_before_is_written_and_read_like_any_other(topic):
    place = EARLIER.mark(Position(topic, 3, 9))
    assert parse_position(format_position(place)) == place
    assert is_of_before(place)
    assert (topic_today(place.topic), topic_today(topic)) == (topic, topic)
    assert not is_of_before(Position(topic, 3, 9))
