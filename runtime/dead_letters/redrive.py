"""Redriving and dropping: a note of who and why, then the append, then a note of where it went.

What is appended is what was received: value, key and headers, on the partition that it came from,
with our headers that say what it is. A crash between the append and the second note leaves a note
that is not done, and the case open; redriving it again appends it again, which the identity of its
events makes a repeat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import msgspec
from msgspec.structs import replace

from runtime.dead_letters.actions import ActionStore
from runtime.dead_letters.before_rebind import is_of_before, original_source
from runtime.dead_letters.headers import (
    DROP_MARK,
    HeaderList,
    append_again_headers,
    drop_headers,
    format_position,
    redrive_headers,
)
from runtime.dead_letters.letters import CaseState, DeadLetterCase
from schemas import codec
from schemas.causes import REDRIVE
from schemas.errors import Rejected
from schemas.events import Cause, Position, WalletTransaction
from schemas.topics import provider_of

CASES_AT_ONCE: Final = 200
"""Cases that are recorded, appended and completed together."""

APPEND_BYTES_MAX: Final = 1_048_588
"""Of a batch, by Kafka's own default: a record that its connector could append must go through once
more."""

_RECORD_BYTES, _HEADER_BYTES = 100, 10
"""The most that a batch of one record, and a header, add to their content."""


class RedriveStatus(StrEnum):
    """Result of an action on a case."""

    DONE = "DONE"
    PLANNED = "PLANNED"
    """It would be done; this was a dry run."""
    SKIPPED = "SKIPPED"
    """There was nothing to be done."""
    REFUSED = "REFUSED"
    """It cannot be done."""


class RedriveResult(msgspec.Struct, frozen=True):
    """Result for one case; `waiting` counts the player's records that are released behind it."""

    source: Position
    codes: tuple[str, ...]
    status: RedriveStatus
    detail: str
    appended_at: Position | None = None
    waiting: int = 0


class OutgoingRecord(msgspec.Struct, frozen=True):
    """A record to append to the partition of its source."""

    key: bytes | None
    value: bytes | None
    headers: HeaderList


AppendRecord = Callable[[Position, OutgoingRecord], Awaitable[Position]]
"""Appends to the partition of a source and returns the new position, once it is durable. Raises
SendFailed."""

ReadSource = Callable[[Position], Awaitable[OutgoingRecord | None]]
"""Reads the source record itself; None where its topic does not hold it any more."""

_Ready = tuple[DeadLetterCase, OutgoingRecord | None]
"""A case to act on, with what to append for it."""


@dataclass(frozen=True)
class Redriver:
    """Redrives and drops on behalf of one actor, for one reason.

    `waiting` counts the records behind each dead letter that holds others up.
    """

    actions: ActionStore
    append: AppendRecord
    read_source: ReadSource
    actor: str
    reason: str
    waiting: Mapping[Position, int] = field(default_factory=dict)

    async def redrive(
        self, cases: Sequence[DeadLetterCase], *, force: bool = False, dry_run: bool = False
    ) -> list[RedriveResult]:
        """Append the bytes of each open case once more; of others only by force.

        Raises Unavailable and SendFailed.
        """
        results: list[RedriveResult] = []
        ready: list[_Ready] = []
        for case in cases:
            skip_reason = None if force else _skip_reason(case)
            if skip_reason is not None:
                results.append(self._result(case, RedriveStatus.SKIPPED, skip_reason))
                continue
            outgoing = await self._outgoing(case)
            if isinstance(outgoing, str):
                results.append(self._result(case, RedriveStatus.REFUSED, outgoing))
            else:
                ready.append((case, outgoing))
        return results + await self._carry_out("REDRIVE", ready, force=force, dry_run=dry_run)

    async def drop(
        self, cases: Sequence[DeadLetterCase], *, dry_run: bool = False
    ) -> list[RedriveResult]:
        """Give up open cases. A mark is appended to the log only where others wait behind one.

        One that was dropped before others began to wait behind it is dropped again. Raises as
        `redrive` does.
        """
        results: list[RedriveResult] = []
        ready: list[_Ready] = []
        for case in cases:
            holds_up = case.source in self.waiting
            skip_reason = _skip_reason(case)
            if skip_reason is not None and not (holds_up and _was_dropped_without_mark(case)):
                results.append(self._result(case, RedriveStatus.SKIPPED, skip_reason))
            elif holds_up:
                headers = drop_headers(case.source, self.actor, self.reason)
                ready.append((case, OutgoingRecord(case.letter.key, DROP_MARK, headers)))
            else:
                ready.append((case, None))
        return results + await self._carry_out("DROP", ready, force=False, dry_run=dry_run)

    async def _carry_out(
        self, action: str, ready: Sequence[_Ready], *, force: bool, dry_run: bool
    ) -> list[RedriveResult]:
        if dry_run:
            return [self._result(case, RedriveStatus.PLANNED, "") for case, _ in ready]
        results: list[RedriveResult] = []
        for first in range(0, len(ready), CASES_AT_ONCE):
            results += await self._note_and_append(
                action, ready[first : first + CASES_AT_ONCE], force=force
            )
        return results

    async def _note_and_append(
        self, action: str, ready: Sequence[_Ready], *, force: bool
    ) -> list[RedriveResult]:
        cases = [case for case, _ in ready]
        numbers = await self.actions.begin(cases, action, self.actor, self.reason, is_forced=force)
        appended: dict[int, Position | None] = {}
        by_partition: dict[tuple[str, int], list[tuple[int, _Ready]]] = {}
        for number, one in zip(numbers, ready, strict=True):
            source = one[0].source
            by_partition.setdefault((source.topic, source.partition), []).append((number, one))
        try:
            await asyncio.gather(
                *[self._append_in_order(members, appended) for members in by_partition.values()]
            )
        finally:
            await self.actions.complete(list(appended.items()))
        return [
            self._result(case, RedriveStatus.DONE, "", appended[number])
            for number, case in zip(numbers, cases, strict=True)
        ]

    async def _append_in_order(
        self, members: Sequence[tuple[int, _Ready]], appended: dict[int, Position | None]
    ) -> None:
        for number, (case, outgoing) in members:
            appended[number] = (
                None if outgoing is None else await self.append(case.source, outgoing)
            )

    async def _outgoing(self, case: DeadLetterCase) -> OutgoingRecord | str:
        """Return what to append, or why nothing can be appended."""
        letter = case.letter
        original = OutgoingRecord(
            letter.key, letter.value, [(one.name, one.value) for one in letter.headers]
        )
        if (
            original.value is None
        ):  # too large for an envelope, or without a value from the beginning
            if is_of_before(case.source):
                return (
                    f"its bytes were left at {format_position(original_source(case.source))}, which"
                    " is another record since the rebind: have its provider send it again, or drop"
                    " it"
                )
            found = await self.read_source(case.source)
            if found is None:
                return f"its bytes were left at {format_position(case.source)}, which is gone"
            original = found
        if not original.value:
            return "it has no value: there is nothing to redrive"
        is_before, source = is_of_before(case.source), original_source(case.source)
        make_headers = append_again_headers if is_before else redrive_headers
        headers = make_headers(original.headers, source, self.actor, self.reason)
        outgoing: OutgoingRecord | str = OutgoingRecord(original.key, original.value, headers)
        if not _is_raw(source.topic):
            outgoing = self._event(case, original.key, original.value, headers)
        # Checked here: an error while the others are appended would leave them without their second
        # note.
        if not isinstance(outgoing, str) and (size := _size(outgoing)) > APPEND_BYTES_MAX:
            return (
                f"a redrive of it has {size:,} bytes, and no batch holds more than "
                f"{APPEND_BYTES_MAX:,}"
            )
        return outgoing

    def _event(
        self, case: DeadLetterCase, key: bytes | None, value: bytes, headers: HeaderList
    ) -> OutgoingRecord | str:
        """Return a record of our own topics, if this release can read it, or why it cannot.

        A decision gets a cause that says that it comes late.
        """
        try:
            event = codec.decoder(WalletTransaction)(value)
        except Rejected as error:
            return f"this release cannot read it either: {error.detail}"
        if event.decision_required:
            place = format_position(original_source(case.source))
            cause = Cause(REDRIVE, place, self.actor, self.reason)
            value = codec.encoder(WalletTransaction)(replace(event, cause=cause))
        return OutgoingRecord(key, value, headers)

    def _result(
        self, case: DeadLetterCase, status: RedriveStatus, detail: str, at: Position | None = None
    ) -> RedriveResult:
        waiting = self.waiting.get(case.source, 0)
        return RedriveResult(case.source, case.codes, status, detail, at, waiting)


def _skip_reason(case: DeadLetterCase) -> str | None:
    """Return why nothing is to be done about a case that is not open."""
    last = case.last_done
    if case.state is CaseState.OPEN or last is None:
        return None
    to = "" if last.appended_at is None else f" as {format_position(last.appended_at)}"
    return f"{case.state.value.lower()} by {last.actor} before{to}: {last.reason}"


def _was_dropped_without_mark(case: DeadLetterCase) -> bool:
    """Return whether a case was dropped and the log holds no mark of it.

    A letter is durable a moment before a hold waits for it, so it can be dropped in that moment.
    """
    last = case.last_done
    return last is not None and case.state is CaseState.DROPPED and last.appended_at is None


def _size(outgoing: OutgoingRecord) -> int:
    headers = sum(
        len(name.encode()) + len(value or b"") + _HEADER_BYTES for name, value in outgoing.headers
    )
    return _RECORD_BYTES + len(outgoing.key or b"") + len(outgoing.value or b"") + headers


def _is_raw(topic: str) -> bool:
    try:
        provider_of(topic)
    except ValueError:
        return False
    return True
