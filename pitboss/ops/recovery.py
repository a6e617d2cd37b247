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
from ledger_sink.store.migrate import migrate
from pitboss.embedded.databases import copy_database, drop_database
from pitboss.settings import Runtime, runtime_of
from replay.log.blocks import LogSource
from replay.recovery import record
from replay.recovery.order import OrderedLog, first_time_ms
from replay.recovery.outcomes import OutcomeCheck, OutcomeComparison
from replay.recovery.parked import ParkedCounts, ParkedStretch
from replay.recovery.rebook import Rebooking, ShowRecords
from replay.recovery.record import RecoveryRow
from replay.recovery.survey import (
    READERS,
    SQL,
    Survey,
    check_alone,
    check_recovery,
    groups_of,
    make_survey,
)
from runtime.kafka.group_admin import GroupAdmin
from schemas.topics import OUTCOMES, qualified_name
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
    outcomes: OutcomeComparison
    topic_ids: dict[str, str]
    took_s: float


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
    admin = GroupAdmin(runtime.broker)
    members = admin.wait_until_empty(groups_of(runtime.namespace), options.wait_s, begin)
    check_alone(members, 0)
    with _workplace(runtime, dry_run=options.dry_run) as place:
        database = LedgerDatabase(place.database_url, "pitboss.recover", silence_max_s=None)
        try:
            migrate(place.database_url)
            survey = await make_survey(database, source, admin, runtime.namespace)
            unfinished = await record.find_unfinished(database, KIND)
            check_recovery(survey, None if unfinished is None else unfinished.topic_id)
            row = await record.begin(database, KIND, survey, options.actor)
            recovery = _Recovery(runtime, database, source, survey, row, options)
            report = await recovery.run(progress, begin, began_s)
            if report.finished and not options.dry_run:
                await recovery.reset_groups(admin)
                await record.finish(database, row.id, msgspec.to_builtins(report))
            return report
        finally:
            await database.close()


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

    async def run(
        self, progress: ShowRecords, begin: Callable[[str], None], began_s: float
    ) -> RecoveryReport:
        log, ends = self._topic(LEDGER), self._ends(LEDGER)
        starts = self._row.starts_of(LEDGER, log)
        parked = ParkedStretch(self._database, self._topic(RESOLVE))
        begin("reading the events without a player")
        await parked.load(self._source, self._positions(RESOLVE), self._ends(RESOLVE))
        begin("booking the log again")
        booking = Rebooking(self._database, policies(), self._source, log)
        booked = await booking.run(ends, progress=progress, observe=parked.observe)
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
            outcomes=outcomes,
            topic_ids=self._survey.topic_ids,
            took_s=round(time.monotonic() - began_s, 3),
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
