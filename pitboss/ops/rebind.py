"""The ledger bound to the log of another cluster: a mirror, or a log that was played back."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import msgspec
from psycopg.types.json import Jsonb

from ledger_sink.resolve.resolver import CONSUMER as RESOLVE
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import CONSUMER as LEDGER
from pitboss.ops.rebind_letters import RawReport, move_rows, prepare_raw
from pitboss.ops.recovery_session import raw_topics, survey_ledger, wait_until_alone
from pitboss.settings import Runtime
from replay.log.blocks import Bounds, LogSource
from replay.recovery import record
from replay.recovery.mapping import KnownRecords, MappedLog, MappedRun, MirrorScan, PartitionMapping
from replay.recovery.padding import continue_behind
from replay.recovery.survey import (
    READERS,
    SQL,
    Obstacle,
    RecoveryRefused,
    Survey,
    check_alone,
)
from runtime.kafka.group_admin import GroupAdmin
from runtime.postgres.roles import Role
from schemas import codec
from schemas.errors import UsageError
from schemas.events import Attempt, WalletTransaction
from schemas.topics import TRANSACTIONS
from streams.normalise.handler import NAME as NORMALISE

KIND: Final = "REBIND"


class BoundPartition(msgspec.Struct, frozen=True):
    """Where one partition's reader stood, and where it continues."""

    consumer: str
    topic: str
    partition: int
    booked: int
    """In the earlier log."""
    mirrored: int
    """Behind the same record in the mirror."""
    position: int
    """Where it continues: further on where those offsets are named by rows already."""
    unbooked: int
    """Offsets of the mirror behind it."""


class OpeningReport(msgspec.Struct, frozen=True):
    """What a new log begins with, where no mirror of the old one was left."""

    wallets: int
    """Balances that it states, one event each; none of them in a dry run."""
    checkpoint: int | None
    """Number of the checkpoint that names the seals which prove them; None in a dry run."""
    digest: str | None
    """Its SHA-256, which each event names."""
    unsealed: int
    """Offsets that were booked and not sealed yet."""


class RebindReport(msgspec.Struct, frozen=True):
    """Result of a binding."""

    dry_run: bool
    from_cluster: str
    to_cluster: str
    partitions: list[BoundPartition]
    seams: dict[str, int]
    """By partition of the log: from which offset on rows name offsets of the new log."""
    runs: int
    took_s: float
    opening: OpeningReport | None = None
    raw: RawReport | None = None
    """None of a release that did not look."""


async def rebind(
    runtime: Runtime,
    source: LogSource,
    actor: str,
    *,
    dry_run: bool = False,
    wait_s: float = 30.0,
    begin: Callable[[str], None] = lambda _: None,
) -> RebindReport:
    """Bind the ledger to the log of the broker, whose offsets may be others.

    The records that are booked are found by event and attempt, in their order. Nothing is bound
    before everything is found, and then in one transaction. Raises RecoveryRefused where this is
    not a mirror of the ledger's log, lacks booked records, or the normaliser's offsets are missing;
    SendFailed, Unavailable.
    """
    began_s = time.monotonic()
    admin = wait_until_alone(runtime, wait_s, begin, (NORMALISE,))
    async with survey_for_rebind(runtime, source, admin, dry_run=dry_run) as (database, survey):
        check_rebind(survey)
        _check_raw(runtime, source, admin)
        begin("finding the booked records in the mirror")
        mappings = {name: await _map(database, source, survey, name) for name in (LEDGER, RESOLVE)}
        row = None if dry_run else await record.begin(database, KIND, survey, actor)
        begin("appending what is not booked behind the offsets that rows name")
        bound = place_readers(runtime, source, mappings, dry_run=dry_run)
        raw = await prepare_raw(runtime, source, database, actor, begin, dry_run=dry_run)
        report = make_report(survey, mappings, bound, began_s, raw, dry_run=dry_run)
        if row is not None:
            await bind(runtime, admin, database, row.id, mappings, report)
        return report


def survey_for_rebind(
    runtime: Runtime, source: LogSource, admin: GroupAdmin, *, dry_run: bool
) -> AbstractAsyncContextManager[tuple[LedgerDatabase, Survey]]:
    """Provide the ledger's database, as its migrator, and the survey of it."""
    return survey_ledger(
        runtime,
        runtime.namespace,
        source,
        admin,
        application="pitboss.rebind",
        role=Role.MIGRATOR,
        migrates=not dry_run,
    )


def make_report(
    survey: Survey,
    mappings: Mapping[str, Sequence[PartitionMapping]],
    bound: list[BoundPartition],
    began_s: float,
    raw: RawReport,
    *,
    dry_run: bool,
    opening: OpeningReport | None = None,
) -> RebindReport:
    """Return what a binding does; `opening` is what its log begins with."""
    assert survey.installation is not None
    return RebindReport(
        dry_run=dry_run,
        from_cluster=survey.installation[0],
        to_cluster=survey.cluster_id,
        partitions=bound,
        seams={str(one.partition): one.position for one in bound if one.consumer == LEDGER},
        runs=sum(len(mapping.runs) for mapping in mappings[LEDGER]),
        took_s=round(time.monotonic() - began_s, 3),
        opening=opening,
        raw=raw,
    )


def check_rebind(survey: Survey) -> None:
    """Check that the ledger belongs to another cluster, and has the partitions of this log.

    Raises RecoveryRefused.
    """
    check_alone({}, survey.sessions)
    if survey.installation is None:
        raise RecoveryRefused(
            Obstacle.NEVER_BOUND, "this database has booked nothing: start the workers"
        )
    cluster, count = survey.installation
    if cluster == survey.cluster_id:
        raise RecoveryRefused(
            Obstacle.SAME_CLUSTER, f"the database belongs to this cluster ({cluster}) already"
        )
    if len(survey.of(LEDGER)) != count:
        raise RecoveryRefused(
            Obstacle.OTHER_PARTITIONS,
            f"the database was booked from {count} partitions, {survey.log_topic} has"
            f" {len(survey.of(LEDGER))}: make the topic with the partitions that it had",
        )


def _check_raw(runtime: Runtime, source: LogSource, admin: GroupAdmin) -> None:
    group = runtime.group(NORMALISE)
    for topic in raw_topics(runtime):
        committed = admin.committed_offsets(group, topic)
        check_raw_offsets(group, topic, source.bounds(topic), committed)


def check_raw_offsets(
    group: str, topic: str, bounds: Mapping[int, Bounds], committed: Collection[int]
) -> None:
    """Check that the normaliser goes on where it was: `committed` are partitions with an offset.

    From the beginning it would make attempts of records that were answered, under other places: a
    bet that was refused could be accepted then. Raises RecoveryRefused.
    """
    held = [number for number, (begin, end) in bounds.items() if begin < end]
    if missing := [number for number in held if number not in committed]:
        places = ", ".join(f"{topic}-{number}" for number in missing)
        raise RecoveryRefused(
            Obstacle.RAW_OFFSETS_MISSING,
            f"the group {group} has no offsets of {places} on this cluster:"
            " have the mirror translate them (MirrorMaker 2: sync.group.offsets.enabled), or"
            " set them with Kafka's tools to where the records were normalised up to",
        )


async def _map(
    database: LedgerDatabase, source: LogSource, survey: Survey, consumer: str
) -> list[PartitionMapping]:
    found = []
    for one in survey.of(consumer):
        known: KnownRecords | None = None
        columns = {"part": one.partition}
        if consumer == RESOLVE:
            known = await _read_parked(database, one.partition)
            expected = sorted(offset for some in known.values() for offset in some)
        else:
            rows = await database.query(SQL["booked_offsets"], columns)
            expected = [offset for (offset,) in rows]
        scan = MirrorScan(database, source, one.topic, known)
        bounds = one.begin, one.end
        found.append(await scan.map_partition(one.partition, one.booked, bounds, expected))
    return found


async def _read_parked(database: LedgerDatabase, partition: int) -> KnownRecords:
    decode = codec.decoder(WalletTransaction)
    known: dict[tuple[int, str, Attempt], list[int]] = {}
    for offset, body in await database.query(SQL["parked_bodies"], {"part": partition}):
        event: WalletTransaction = decode(bytes(body))
        known.setdefault((partition, event.event_id, event.attempt), []).append(offset)
    return known


def place_readers(
    runtime: Runtime,
    source: LogSource,
    mappings: Mapping[str, Sequence[PartitionMapping]],
    *,
    dry_run: bool,
) -> list[BoundPartition]:
    """Return where each reader continues, behind every offset that rows name."""
    bound = []
    for consumer, some in mappings.items():
        topic = runtime.topic(READERS[consumer][0])
        for one in some:
            position = one.position
            if position < one.booked:
                position = max(one.booked, one.end)
                if not dry_run:
                    position = continue_behind(
                        runtime.broker, source, topic, one.partition, one.position, one.booked
                    )
            bound.append(
                BoundPartition(
                    consumer,
                    topic,
                    one.partition,
                    one.booked,
                    one.position,
                    position,
                    one.end - one.position,
                )
            )
    return bound


async def bind(
    runtime: Runtime,
    admin: GroupAdmin,
    database: LedgerDatabase,
    number: int,
    mappings: Mapping[str, Sequence[PartitionMapping]],
    report: RebindReport,
) -> None:
    """Set the groups, and write everything in one transaction, the end of the recovery included."""
    for consumer, (topic, group) in READERS.items():
        offsets = {
            one.partition: one.position for one in report.partitions if one.consumer == consumer
        }
        admin.set_offsets(runtime.group(group), runtime.topic(topic), offsets)
    async with database.transaction() as connection:
        await connection.execute(SQL["bind_installation"], {"cluster_id": report.to_cluster})
        for one in report.partitions:
            mapping = mappings[one.consumer][one.partition]
            last = mapping.last if one.position == one.mirrored else None
            columns = {
                "consumer": one.consumer,
                "topic": one.topic,
                "part": one.partition,
                "position": one.position,
                "timestamp_ms": last and last[0],
                "checksum": last and last[1],
            }
            await connection.execute(SQL["bind_position"], columns)
            if one.consumer == LEDGER and one.booked < one.position:
                span = {"from_offset": one.booked, "next_offset": one.position}
                await connection.execute(SQL["bridge_batch"], {"part": one.partition, **span})
        runs = [run for mapping in mappings[LEDGER] for run in mapping.runs]
        await connection.execute(SQL["add_runs"], {"recovery": number, **_columns(runs)})
        await _move_fraud(connection, report, mappings[LEDGER])
        if report.raw is not None:
            await move_rows(connection, report.raw, number)
        finished = {"id": number, "report": Jsonb(msgspec.to_builtins(report))}
        await connection.execute(SQL["finish"], finished)


def _columns(runs: Sequence[MappedRun]) -> dict[str, list[int]]:
    return {
        "parts": [run.partition for run in runs],
        "froms": [run.from_offset for run in runs],
        "nexts": [run.next_offset for run in runs],
        "news": [run.new_offset for run in runs],
    }


async def _move_fraud(
    connection: Any, report: RebindReport, mappings: Sequence[PartitionMapping]
) -> None:
    """Move snapshots and rule changes of the fraud agents to the offsets of the new log."""
    topic = next(one.topic for one in report.partitions if one.consumer == LEDGER)
    exists = await connection.execute("SELECT to_regclass('fraud.snapshot')")
    if await exists.fetchone() == (None,):
        return
    cursor = await connection.execute(SQL["fraud_positions"], {"topic": topic})
    for consumer, partition, offset in await cursor.fetchall():
        if offset:
            columns = {"consumer": consumer, "topic": topic, "part": partition}
            position = mappings[partition].translate(offset)
            await connection.execute(SQL["move_fraud_snapshot"], {**columns, "position": position})
    cursor = await connection.execute(SQL["fraud_markers"], {"topic": topic})
    for consumer, partition, offset in await cursor.fetchall():
        columns = {"consumer": consumer, "topic": topic, "part": partition}
        moved = {"from_offset": offset, "new_offset": mappings[partition].translate(offset)}
        await connection.execute(SQL["move_fraud_marker"], {**columns, **moved})


async def open_mapped(runtime: Runtime, database: LedgerDatabase, source: LogSource) -> LogSource:
    """Return the log in the offsets that the ledger's rows name, also after a binding."""
    seams = dict(await database.query(SQL["seams"]))
    if not seams:
        return source
    runs: dict[int, list[MappedRun]] = {}
    for row in await database.query(SQL["runs"]):
        run = MappedRun(*row)
        runs.setdefault(run.partition, []).append(run)
    return MappedLog(source, runtime.topic(TRANSACTIONS), runs, seams)


def check_no_archive(target: str | None) -> None:
    """Raise UsageError where an archive is set: its files are of the earlier log's offsets."""
    if target:
        raise UsageError(
            "PITBOSS_ARCHIVE holds the earlier log, whose offsets are others: name another folder"
            " for the new cluster, and keep the old one for history"
        )
