"""The ledger after its database was restored to an earlier moment: booked again to the log's end.

A dry run does all of it in a copy of the database, which is dropped again.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from ledger_sink.resolve.resolver import CONSUMER as RESOLVE
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import CONSUMER as LEDGER
from pitboss.embedded.databases import copy_database, drop_database
from pitboss.ops.dead_letter_reading import read_letters
from pitboss.ops.dead_letters import read_before_rebind
from pitboss.ops.recovery_session import raw_topics, survey_ledger, wait_until_alone
from pitboss.settings import Runtime, runtime_of
from replay.log.blocks import LogSource
from replay.recovery import record
from replay.recovery.held import (
    HeldCounts,
    HoldRules,
    RejectedThen,
    park_again,
    restored_ms,
)
from replay.recovery.order import OrderedLog, first_time_ms
from replay.recovery.outcomes import OutcomeCheck, OutcomeComparison
from replay.recovery.parked import ParkedCounts, ParkedStretch
from replay.recovery.rebook import Rebooking, ShowRecords
from replay.recovery.record import RecoveryRow
from replay.recovery.survey import READERS, SQL, Survey, check_recovery
from runtime.dead_letters.park_store import ParkStore
from runtime.kafka.group_admin import GroupAdmin
from schemas.events import DeadLetter
from schemas.topics import OUTCOMES, qualified_name
from streams.normalise.handler import NAME as NORMALISE
from streams.providers.registry import policies

KIND: Final = "RECOVER"


class RecoveryOptions(msgspec.Struct, frozen=True):
    """How a recovery is done."""

    actor: str
    dry_run: bool = False
    accept_differences: bool = False
    wait_s: float = 30.0
    """How long to wait for the sessions of stopped workers to end."""
    limit: int = 1_000
    """How many differences are listed."""
    holds: HoldRules | None = None
    """Where records of a player may wait behind a dead letter: what the normaliser is set to."""


class RecoverySpeed(msgspec.Struct, frozen=True):
    """How long booking the log again took: of this run, without the checks and the comparison."""

    took_s: float
    events_per_s: float | None
    """None where nothing was booked."""
    cpu_s: float
    """Of this process; the database's is its own."""
    cpu_s_per_million: float | None


class RecoveryReport(msgspec.Struct, frozen=True):
    """Result of a recovery."""

    dry_run: bool
    finished: bool
    """Whether workers may start."""
    offsets: int
    """Of the log that the database lacked when the recovery began."""
    events: int
    """Booked by this run."""
    unreadable: int
    stuck: list[str]
    """Partitions that wait at a record, as the live ledger would."""
    parked: ParkedCounts
    held: HeldCounts | None
    """Raw records behind dead letters; None where no record may wait."""
    outcomes: OutcomeComparison
    topic_ids: dict[str, str]
    took_s: float
    rebooking: RecoverySpeed
    lost: int
    """Answers that were given to what the log does not hold: what is lost, as far as is known."""


async def recover_to_log(
    runtime: Runtime,
    source: LogSource,
    options: RecoveryOptions,
    *,
    progress: ShowRecords = lambda _, __: None,
    begin: Callable[[str], None] = lambda _: None,
) -> RecoveryReport:
    """Book what a restored database lacks, and compare the answers with those that were given.

    Killed at any moment it can be run again: it goes on where it ended, and no worker starts before
    it is finished. With differences it is finished only if they are accepted. `begin` is told each
    step. Raises RecoveryRefused where this log cannot be the one, or a worker runs; Unavailable.
    """
    began_s = time.monotonic()
    groups = () if options.holds is None else (NORMALISE,)
    admin = wait_until_alone(runtime, options.wait_s, begin, groups)
    with _workplace(runtime, dry_run=options.dry_run) as place:
        async with survey_ledger(
            place, runtime.namespace, source, admin, application="pitboss.recover"
        ) as (database, survey):
            unfinished = await record.find_unfinished(database, KIND)
            check_recovery(survey, None if unfinished is None else unfinished.topic_id)
            row = await record.begin(database, KIND, survey, options.actor)
            recovery = _Recovery(runtime, database, source, survey, row, options)
            held = await recovery.restore_held(place, admin, begin)
            report = await recovery.run(progress, begin, began_s, held)
            if report.finished and not options.dry_run:
                await recovery.reset_groups(admin)
                await record.finish(database, row.id, msgspec.to_builtins(report))
            return report


class _Clock:
    """Time and CPU since it was made."""

    def __init__(self) -> None:
        self._began_s, self._cpu_s = time.monotonic(), time.process_time()

    def speed(self, events: int) -> RecoverySpeed:
        took_s, cpu_s = time.monotonic() - self._began_s, time.process_time() - self._cpu_s
        return RecoverySpeed(
            took_s=round(took_s, 3),
            events_per_s=round(events / took_s, 1) if events else None,
            cpu_s=round(cpu_s, 3),
            cpu_s_per_million=round(cpu_s / events * 1_000_000, 1) if events else None,
        )


class _Recovery:
    """One run, from the checks to the report."""

    def __init__(
        self,
        runtime: Runtime,
        database: LedgerDatabase,
        source: LogSource,
        survey: Survey,
        row: RecoveryRow,
        options: RecoveryOptions,
    ) -> None:
        self._runtime = runtime
        self._database = database
        self._source = source
        self._survey = survey
        self._row = row
        self._options = options

    async def restore_held(
        self, place: Runtime, admin: GroupAdmin, begin: Callable[[str], None]
    ) -> HeldCounts | None:
        """Park the raw records again that wait behind dead letters; None where none may."""
        rules, runtime = self._options.holds, self._runtime
        if rules is None:
            return None
        begin("parking records behind dead letters again")
        log, group = self._topic(LEDGER), runtime.group(NORMALISE)
        since_ms = restored_ms(self._source, log, self._row.starts_of(LEDGER, log))
        ends = {topic: admin.committed_offsets(group, topic) for topic in raw_topics(runtime)}
        found = (await read_letters(runtime, _without_bytes)).letters
        earlier = await read_before_rebind(runtime)
        own = [one for one in found if one.letter.stage == NORMALISE]
        before = [one for one in own if earlier is not None and earlier.is_of_before(one)]
        places = {one.position for one in before}
        read = RejectedThen(one.letter for one in own if one.position not in places)
        store = ParkStore(place.database_url, "pitboss.recover")
        try:
            counts = await park_again(store, read, rules, self._source, ends, since_ms)
            counts.unplaced = len(
                {
                    one.letter.source
                    for one in before
                    if one.letter.source_timestamp >= (since_ms or 0)
                }
            )
            return counts
        finally:
            await store.close()

    async def run(
        self,
        progress: ShowRecords,
        begin: Callable[[str], None],
        began_s: float,
        held: HeldCounts | None,
    ) -> RecoveryReport:
        """Book what is missing and compare the answers."""
        log, ends = self._topic(LEDGER), self._ends(LEDGER)
        starts = self._row.starts_of(LEDGER, log)
        parked = ParkedStretch(self._database, self._topic(RESOLVE))
        begin("reading the events without a player")
        await parked.load(self._source, self._positions(RESOLVE), self._ends(RESOLVE))
        begin("booking the log again")
        booking = Rebooking(self._database, policies(), self._source, log)
        clock = _Clock()
        booked = await booking.run(ends, progress=progress, observe=parked.observe)
        rebooking = clock.speed(booked.events)
        for one in OrderedLog(self._source, log, starts, booked.starts):  # by an earlier run
            if one.event is not None:
                parked.observe(one.event)
        counts = await parked.store()
        begin("comparing the answers")
        check = OutcomeCheck(self._database, log, self._options.limit)
        await check.load(starts, booked.ends)
        topic = qualified_name(OUTCOMES, self._runtime.namespace)
        outcomes = await check.compare(
            self._source, topic, first_time_ms(self._source, log, starts, ends)
        )
        return RecoveryReport(
            dry_run=self._options.dry_run,
            finished=not outcomes.differing or self._options.accept_differences,
            offsets=sum(end - starts.get(number, 0) for number, end in ends.items()),
            events=booked.events,
            unreadable=booked.unreadable,
            stuck=list(booked.stuck.values()),
            parked=counts,
            held=held,
            outcomes=outcomes,
            topic_ids=self._survey.topic_ids,
            took_s=round(time.monotonic() - began_s, 3),
            rebooking=rebooking,
            lost=outcomes.not_in_log,
        )

    async def reset_groups(self, admin: GroupAdmin) -> None:
        """Set what the groups have committed to the database's positions."""
        for consumer, (_, group) in READERS.items():
            topic = self._topic(consumer)
            rows = await self._database.query(SQL["positions"], {"consumers": [consumer]})
            offsets = {number: offset for _, number, offset, *_ in rows}
            admin.set_offsets(qualified_name(group, self._runtime.namespace), topic, offsets)

    def _topic(self, consumer: str) -> str:
        return qualified_name(READERS[consumer][0], self._runtime.namespace)

    def _positions(self, consumer: str) -> dict[int, int]:
        return {one.partition: one.booked for one in self._survey.of(consumer)}

    def _ends(self, consumer: str) -> dict[int, int]:
        return {one.partition: one.end for one in self._survey.of(consumer)}


def _without_bytes(_: DeadLetter) -> bool:
    return False


@contextmanager
def _workplace(runtime: Runtime, *, dry_run: bool) -> Iterator[Runtime]:
    """Give the installation's database, or for a dry run a copy that is dropped afterwards."""
    if not dry_run:
        yield runtime
        return
    copy = runtime_of(runtime.broker, runtime.database_url, f"recover_{secrets.token_hex(6)}")
    copy_database(runtime, copy)
    try:
        yield copy
    finally:
        drop_database(copy)
