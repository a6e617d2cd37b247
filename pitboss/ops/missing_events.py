"""Events that the log lacks because an adapter rejected or lost them: their raw records once more.

A record is appended as a redriven dead letter is, with who and why: facts are booked under their
own identity, so that a retry of the provider finds them, and a decision is refused as expired,
since its provider has had an error or no answer. What of the record is booked stays as it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from ledger_sink.queries.people import count_outcomes
from ledger_sink.store.database import LedgerDatabase
from pitboss.ops.dead_letters import open_redriver
from pitboss.settings import Runtime
from replay.raw.comparison import RawPlace, StoredRecord
from runtime.dead_letters.letters import CaseState, DeadLetterCase, Letter
from runtime.dead_letters.redrive import Redriver, RedriveResult, RedriveStatus
from runtime.postgres.roles import Role
from schemas.events import DeadLetter, Header, Position, WalletTransaction

CODE: Final = "MISSING"
"""In the place of a reject code, where a record has no dead letter."""
_STAGE: Final = "raw replay"
_POLL_S: Final = 0.2


class AppendedRecords(msgspec.Struct, frozen=True):
    """What became of the records behind missing events."""

    appended: list[RedriveResult]
    not_appended: list[RedriveResult]
    """Refused, or dropped by a person before."""
    events: int
    """Of the appended records, those that the log lacked."""
    outcomes: dict[str, int]
    """How the ledger decided them."""
    undecided: int
    """Those that it had not decided when the wait was over."""


def records_of(missing: Collection[WalletTransaction]) -> list[RawPlace]:
    """Return the raw records to append: of an event that several hold, only the first."""
    places: dict[RawPlace, None] = {}
    seen: set[str] = set()
    for event in missing:
        attempt = event.attempt
        if event.event_id not in seen:
            places[attempt.topic, attempt.partition, attempt.offset] = None
        seen.add(event.event_id)
    return [*places]


async def append_missing(
    runtime: Runtime,
    missing: Sequence[WalletTransaction],
    originals: Mapping[RawPlace, StoredRecord],
    actor: str,
    reason: str,
    *,
    wait_s: float,
) -> AppendedRecords:
    """Append the records of missing events again, and wait until the ledger has decided them.

    A record that was redriven before the adapter could read it is redriven once more; one that a
    person has dropped stays dropped. Raises Unavailable, SendFailed, and UsageError where the
    namespace was never provisioned.
    """
    places = records_of(missing)
    sources = {Position(*place): originals[place] for place in places}
    async with open_redriver(runtime, actor, reason, lambda letter: letter.source in sources) as (
        snapshot,
        redriver,
    ):
        known = {case.source: case for case in snapshot.cases}
        cases = [known.get(place) or _case(record) for place, record in sources.items()]
        results = await _redrive(redriver, cases)
    done = {one.source for one in results if one.status is RedriveStatus.DONE}
    wanted = {
        event.event_id
        for event in missing
        if Position(event.attempt.topic, event.attempt.partition, event.attempt.offset) in done
    }
    outcomes = await _wait_until_decided(runtime, wanted, wait_s)
    return AppendedRecords(
        appended=[one for one in results if one.source in done],
        not_appended=[one for one in results if one.source not in done],
        events=len(wanted),
        outcomes=outcomes,
        undecided=len(wanted) - sum(outcomes.values()),
    )


async def _redrive(redriver: Redriver, cases: Sequence[DeadLetterCase]) -> list[RedriveResult]:
    again = [case for case in cases if case.state is CaseState.REDRIVEN]
    others = [case for case in cases if case.state is not CaseState.REDRIVEN]
    return await redriver.redrive(others) + await redriver.redrive(again, force=True)


def _case(record: StoredRecord) -> DeadLetterCase:
    """Return the case of a record of which the adapter lost events without a dead letter."""
    source = Position(record.topic, record.partition, record.offset)
    letter = DeadLetter(
        source=source,
        record_index=None,
        key=record.key,
        value=record.value,
        headers=[Header(name, value) for name, value in record.headers],
        source_timestamp=record.timestamp,
        code=CODE,
        detail="the log lacks events of this record",
        stage=_STAGE,
        code_version="",
        player_id=None,
    )
    return DeadLetterCase(source, (Letter(source, letter),))


async def _wait_until_decided(
    runtime: Runtime, event_ids: Collection[str], wait_s: float
) -> dict[str, int]:
    """Return the outcomes of events, once all are decided or the time is over."""
    database = LedgerDatabase(runtime.database_url, "pitboss.raw_replay", role=Role.READER)
    deadline_s = time.monotonic() + wait_s
    try:
        while True:
            outcomes = await count_outcomes(database, sorted(event_ids)) if event_ids else {}
            if sum(outcomes.values()) == len(event_ids) or time.monotonic() >= deadline_s:
                return outcomes
            await asyncio.sleep(_POLL_S)
    finally:
        await database.close()
