"""How dead letters are gathered, chosen and prepared for a redrive: without servers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count
from typing import Any

import msgspec
import pytest

from runtime.dead_letters.letters import (
    Action,
    CaseFilter,
    CaseState,
    DeadLetterCase,
    Letter,
    collect_cases,
    group_cases,
)
from runtime.dead_letters.redrive import OutgoingRecord, Redriver, RedriveStatus
from schemas import codec
from schemas.causes import REDRIVE
from schemas.errors import SendFailed
from schemas.events import DeadLetter, Header, Position, WalletTransaction
from tests.support.ledger_events import bet, win

RAW = "provider.hub88.raw.v1"
_places = count()


def letter(
    offset: int, code: str = "BAD_AMOUNT", *, item: int | None = None, **more: Any
) -> Letter:
    fields: dict[str, Any] = {
        "source": Position(RAW, 0, offset),
        "record_index": item,
        "key": b"p",
        "value": b"body",
        "headers": [Header("a", b"b")],
        "source_timestamp": 1_000 + offset,
        "code": code,
        "detail": "no",
        "stage": "normalise",
        "code_version": "1",
        "player_id": None,
    }
    return Letter(Position(RAW + ".dlt", 0, next(_places)), DeadLetter(**(fields | more)))


def action(offset: int, what: str = "REDRIVE", *, number: int = 1, is_done: bool = True) -> Action:
    return Action(
        number, Position(RAW, 0, offset), what, "X", "ann", "why", False, 0, is_done, None
    )


class Actions:
    """A record of what was noted, in the order in which it was."""

    def __init__(self) -> None:
        self.noted: list[Any] = []

    async def begin(
        self,
        cases: Sequence[DeadLetterCase],
        what: str,
        actor: str,
        reason: str,
        *,
        is_forced: bool,
    ) -> list[int]:
        self.noted += [("begin", what, case.source.offset) for case in cases]
        return list(range(len(cases)))

    async def complete(self, done: Sequence[tuple[int, Position | None]]) -> None:
        self.noted += [
            ("complete", number, position and position.offset) for number, position in done
        ]


def redriver(
    *, held: OutgoingRecord | None = None, fails_at: int | None = None, waiting: int = 0
) -> tuple[Redriver, Any, Any]:
    actions, sent = Actions(), []

    async def append(source: Position, outgoing: OutgoingRecord) -> Position:
        if source.offset == fails_at:
            raise SendFailed("no")
        sent.append((source.offset, outgoing))
        actions.noted.append(("append", source.offset))
        return Position(source.topic, source.partition, 100 + len(sent))

    async def read_source(_: Position) -> OutgoingRecord | None:
        return held

    behind = {Position(RAW, 0, 1): waiting} if waiting else {}
    return Redriver(actions, append, read_source, "ann", "why", behind), actions, sent  # type: ignore[arg-type]


def cases(*letters: Letter, actions: Sequence[Action] = ()) -> list[DeadLetterCase]:
    by_source: dict[Position, list[Action]] = {}
    for one in actions:
        by_source.setdefault(one.source, []).append(one)
    return collect_cases(letters, by_source)


def test_a_batch_with_two_bad_items_is_one_case_and_a_copy_is_none():
    first, second = letter(5, item=2), letter(5, "BAD_TIME", item=0)
    copy = msgspec.structs.replace(first, position=Position("x", 0, 99))
    [case] = cases(first, second, copy)
    assert [one.letter.record_index for one in case.letters] == [0, 2]
    assert case.codes == ("BAD_TIME", "BAD_AMOUNT")
    assert case.letters[1].position.offset == 99
    assert [(group.code, group.count) for group in group_cases([case])] == [
        ("BAD_AMOUNT", 1),
        ("BAD_TIME", 1),
    ]


def test_the_bytes_of_a_case_are_those_of_the_letter_that_holds_them():
    # The first one is from a release that read the record otherwise, before a crash.
    [case] = cases(
        letter(5, item=0, value=None, headers=[]), letter(5, item=1), letter(5, item=2, value=None)
    )
    assert (case.letter.value, len(case.letter.headers)) == (b"body", 1)
    doer, _, sent = redriver()
    asyncio.run(doer.redrive([case]))
    assert [(outgoing.value, dict(outgoing.headers)["a"]) for _, outgoing in sent] == [
        (b"body", b"b")
    ]


def test_a_case_of_many_items_is_found_by_any_code_and_begins_with_the_letter_of_the_record():
    first = letter(5, "BAD_TIME", item=3, value=None)
    [case] = cases(first, letter(5, "BAD_AMOUNT", item=1, value=None), letter(5, "BAD_AMOUNT"))
    assert [one.letter.record_index for one in case.letters] == [None, 1, 3]
    assert case.codes == ("BAD_AMOUNT", "BAD_TIME")
    assert all(CaseFilter(codes=frozenset({code})).matches(case) for code in case.codes)
    assert [(group.code, group.count) for group in group_cases([case])] == [
        ("BAD_AMOUNT", 1),
        ("BAD_TIME", 1),
    ]


def test_the_state_is_what_the_last_finished_action_made_of_it():
    assert cases(letter(1))[0].state is CaseState.OPEN
    assert cases(letter(1), actions=[action(1, is_done=False)])[0].state is CaseState.OPEN
    redriven = [action(1), action(1, "DROP", number=2, is_done=False)]
    assert cases(letter(1), actions=redriven)[0].state is CaseState.REDRIVEN
    assert (
        cases(letter(1), actions=[*redriven, action(1, "DROP", number=3)])[0].state
        is CaseState.DROPPED
    )


def test_groups_tell_states_times_and_the_newest_open_one():
    groups = group_cases(
        cases(
            letter(1),
            letter(7),
            letter(3),
            letter(9, "BAD_TIME"),
            letter(8),
            actions=[action(8), action(3, "DROP")],
        )
    )
    assert [(g.code, g.count, g.open, g.redriven, g.dropped) for g in groups] == [
        ("BAD_AMOUNT", 4, 2, 1, 1),
        ("BAD_TIME", 1, 1, 0, 0),
    ]
    assert (groups[0].first_at, groups[0].last_at, groups[0].sample) == (1_001, 1_008, f"{RAW}-0@7")


def test_the_newest_of_one_millisecond_is_the_last_of_the_log():
    [group] = group_cases(cases(letter(1, source_timestamp=5), letter(2, source_timestamp=5)))
    assert group.sample == f"{RAW}-0@2"


@pytest.mark.parametrize(
    ("choice", "offsets"),
    [
        (CaseFilter(), [1, 2, 3]),
        (CaseFilter(codes=frozenset({"BAD_TIME"})), [2]),
        (CaseFilter(topics=frozenset({"other"})), []),
        (CaseFilter(topics=frozenset({RAW}), states=frozenset({CaseState.OPEN})), [1, 2]),
        (CaseFilter(sources=frozenset({Position(RAW, 0, 3)})), [3]),
        (CaseFilter(player="p"), [1, 2]),
        (CaseFilter(player="q"), [3]),
    ],
)
def test_what_is_chosen(choice, offsets):
    found = cases(
        letter(1),
        letter(2, "BAD_TIME"),
        letter(3, key=b"round", player_id="q"),
        actions=[action(3)],
    )
    assert [case.source.offset for case in found if choice.matches(case)] == offsets


def test_a_redrive_is_noted_before_and_after_and_appends_what_was_received():
    doer, actions, sent = redriver()
    results = asyncio.run(doer.redrive(cases(letter(2), letter(1))))
    assert [(one.status, one.appended_at and one.appended_at.offset) for one in results] == [
        (RedriveStatus.DONE, 101),
        (RedriveStatus.DONE, 102),
    ]
    assert [offset for offset, _ in sent] == [1, 2]
    assert (sent[0][1].key, sent[0][1].value) == (b"p", b"body")
    assert dict(sent[0][1].headers)["redrive-of"] == f"{RAW}-0@1".encode()
    assert [note[0] for note in actions.noted] == [
        "begin",
        "begin",
        "append",
        "append",
        "complete",
        "complete",
    ]


def test_a_dry_run_notes_and_appends_nothing():
    doer, actions, sent = redriver()
    results = asyncio.run(doer.redrive(cases(letter(1)), dry_run=True))
    results += asyncio.run(doer.drop(cases(letter(1)), dry_run=True))
    assert [one.status for one in results] == [RedriveStatus.PLANNED] * 2
    assert actions.noted == sent == []


def test_what_was_appended_before_a_failure_is_noted():
    doer, actions, sent = redriver(fails_at=2)
    with pytest.raises(SendFailed):
        asyncio.run(doer.redrive(cases(letter(1), letter(2), letter(3))))
    assert [offset for offset, _ in sent] == [1]
    assert [note for note in actions.noted if note[0] == "complete"] == [("complete", 0, 101)]


def test_bytes_that_did_not_fit_into_an_envelope_are_fetched_from_the_source():
    doer, _, sent = redriver(held=OutgoingRecord(b"p", b"long", [("kept", b"yes")]))
    asyncio.run(doer.redrive(cases(letter(1, value=None, key=None, headers=[]))))
    assert (sent[0][1].value, dict(sent[0][1].headers)["kept"]) == (b"long", b"yes")


@pytest.mark.parametrize(
    ("held", "why"), [(None, "which is gone"), (OutgoingRecord(b"p", None, []), "it has no value")]
)
def test_bytes_that_are_nowhere_cannot_be_redriven(held, why):
    doer, actions, sent = redriver(held=held)
    [result] = asyncio.run(doer.redrive(cases(letter(1, value=None))))
    assert result.status is RedriveStatus.REFUSED
    assert why in result.detail
    assert actions.noted == sent == []


def test_what_no_batch_can_hold_is_refused_before_anything_is_noted():
    doer, actions, sent = redriver(held=OutgoingRecord(b"k" * 1_040_000, b"x" * 9_000, []))
    [refused, done] = sorted(
        asyncio.run(doer.redrive(cases(letter(1, value=None), letter(2)))),
        key=lambda one: one.source.offset,
    )
    assert (refused.status, done.status) == (RedriveStatus.REFUSED, RedriveStatus.DONE)
    assert "no batch holds more than 1,048,588" in refused.detail
    assert [offset for offset, _ in sent] == [2]
    assert [note[:2] for note in actions.noted] == [
        ("begin", "REDRIVE"),
        ("append", 2),
        ("complete", 0),
    ]


def test_only_force_redrives_what_was_redriven_or_dropped():
    doer, _, sent = redriver()
    found = cases(letter(1), letter(2), actions=[action(1), action(2, "DROP")])
    results = asyncio.run(doer.redrive(found))
    assert [(one.status, one.detail) for one in results] == [
        (RedriveStatus.SKIPPED, "redriven by ann before: why"),
        (RedriveStatus.SKIPPED, "dropped by ann before: why"),
    ]
    assert sent == []
    assert [one.status for one in asyncio.run(doer.redrive(found, force=True))] == [
        RedriveStatus.DONE
    ] * 2
    assert [one.status for one in asyncio.run(doer.drop(found))] == [RedriveStatus.SKIPPED] * 2


def test_only_a_drop_that_others_wait_for_is_told_to_the_log():
    doer, actions, sent = redriver(waiting=3)
    results = asyncio.run(doer.drop(cases(letter(1), letter(2))))
    assert [one.waiting for one in results] == [3, 0]
    assert [(offset, outgoing.value) for offset, outgoing in sent] == [(1, b"dropped")]
    assert ("complete", 1, None) in actions.noted


def test_a_drop_that_came_before_anybody_waited_is_told_to_the_log_once_somebody_does():
    """The letter is durable a moment before the hold moves to it."""
    doer, _, sent = redriver(waiting=3)
    silent = action(1, "DROP")
    marked = msgspec.structs.replace(silent, appended_at=Position(RAW, 0, 9))
    for before, status in ((silent, RedriveStatus.DONE), (marked, RedriveStatus.SKIPPED)):
        [result] = asyncio.run(doer.drop(cases(letter(1), actions=[before])))
        assert result.status is status
    assert [(offset, outgoing.value) for offset, outgoing in sent] == [(1, b"dropped")]


def test_an_event_of_the_log_that_can_be_read_by_now_says_that_its_decision_comes_late():
    encode, decode = codec.encoder(WalletTransaction), codec.decoder(WalletTransaction)
    log = "wallet.transactions.v1"
    decided, fact = bet("b", 150), win("w", 400, "b")
    letters = [
        letter(n, "BAD_CONTRACT", source=Position(log, 0, n), value=value)
        for n, value in enumerate([encode(decided), encode(fact), b"rubbish"])
    ]
    doer, _, sent = redriver()
    results = asyncio.run(doer.redrive(cases(*letters)))
    assert {one.source.offset: one.status for one in results} == {
        0: RedriveStatus.DONE,
        1: RedriveStatus.DONE,
        2: RedriveStatus.REFUSED,
    }
    late = decode(sent[0][1].value)
    assert late.cause is not None
    assert (late.cause.type, late.cause.actor, late.event_id) == (REDRIVE, "ann", decided.event_id)
    assert sent[1][1].value == encode(fact)
