"""Where a restored database, the log and the consumer groups are, and what is in the way.

Nothing is changed here, and the judgement is pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import ClassVar, Final

import msgspec

from ledger_sink.booking.settings import GROUP as LEDGER_GROUP
from ledger_sink.resolve.resolver import CONSUMER as RESOLVE
from ledger_sink.resolve.settings import GROUP as RESOLVE_GROUP
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import CONSUMER as LEDGER
from ledger_sink.store.log_check import checksum
from replay.log.blocks import LogSource
from runtime.kafka.group_admin import GroupAdmin
from runtime.postgres.statements import statements_of
from schemas.errors import UsageError
from schemas.topics import TRANSACTIONS, UNRESOLVED, qualified_name

SQL: Final = statements_of("replay.recovery", "recovery")

READERS: Final[Mapping[str, tuple[str, str]]] = {
    LEDGER: (TRANSACTIONS, LEDGER_GROUP),
    RESOLVE: (UNRESOLVED, RESOLVE_GROUP),
}
"""By consumer of the ledger's database: the topic that it reads and its group."""


class Obstacle(StrEnum):
    """Why a database cannot be recovered from this log."""

    NEVER_BOUND = "NEVER_BOUND"
    OTHER_CLUSTER = "OTHER_CLUSTER"
    OTHER_PARTITIONS = "OTHER_PARTITIONS"
    OTHER_TOPIC = "OTHER_TOPIC"
    OTHER_RECORD = "OTHER_RECORD"
    LOG_BEGINS_LATER = "LOG_BEGINS_LATER"
    LOG_ENDS_EARLIER = "LOG_ENDS_EARLIER"
    WORKERS_ALIVE = "WORKERS_ALIVE"
    OTHER_RECOVERY = "OTHER_RECOVERY"
    SAME_CLUSTER = "SAME_CLUSTER"
    RAW_OFFSETS_MISSING = "RAW_OFFSETS_MISSING"
    NOT_EMPTY = "NOT_EMPTY"
    NOT_AS_SEALED = "NOT_AS_SEALED"


class RecoveryRefused(UsageError):
    """A database cannot be recovered from this log, or not now; the message says what to do."""

    code: ClassVar[str] = "RECOVERY_REFUSED"

    def __init__(self, obstacle: Obstacle, message: str) -> None:
        super().__init__(f"{obstacle}: {message}")
        self.obstacle = obstacle


class PartitionSurvey(msgspec.Struct, frozen=True):
    """One partition that a consumer of the ledger reads: where everything is."""

    consumer: str
    topic: str
    partition: int
    booked: int
    """Behind the last record that the database knows."""
    begin: int
    end: int
    """What the log holds."""
    committed: int | None
    """What the group had committed to the broker."""
    last_booked: tuple[int, int] | None = None
    """Time and checksum of the record before `booked`, as the database knows it."""
    last_found: tuple[int, int] | None = None
    """The same as the log holds it; None where it holds no record there."""

    @property
    def place(self) -> str:
        """Topic, partition and the offset at which the database continues."""
        return f"{self.topic}-{self.partition}@{self.booked}"


class Survey(msgspec.Struct, frozen=True):
    """Everything that is compared before a recovery."""

    installation: tuple[str, int] | None
    """Cluster id and number of partitions that the database belongs to; None before its first
    worker."""
    cluster_id: str
    log_topic: str
    topic_ids: dict[str, str]
    partitions: list[PartitionSurvey]
    sessions: int
    """Connections of ledger workers to the database."""

    def of(self, consumer: str) -> list[PartitionSurvey]:
        """Return the partitions of one consumer."""
        return [one for one in self.partitions if one.consumer == consumer]

    def lacks(self) -> int:
        """Return how many offsets of the log the ledger has not booked."""
        return sum(max(0, one.end - one.booked) for one in self.of(LEDGER))

    def starts(self) -> dict[str, int]:
        """Return the positions by "consumer topic-partition"."""
        return {
            f"{one.consumer} {one.topic}-{one.partition}": one.booked for one in self.partitions
        }


async def make_survey(
    database: LedgerDatabase, source: LogSource, admin: GroupAdmin, namespace: str
) -> Survey:
    """Ask the database, the log and the broker. Raises Unavailable, UsageError, LogGap."""
    installation = await database.query(SQL["installation"])
    positions = {
        (consumer, partition): row
        for consumer, partition, *row in await database.query(
            SQL["positions"], {"consumers": [*READERS]}
        )
    }
    [(sessions,)] = await database.query(SQL["worker_sessions"])
    found = []
    names = {name: qualified_name(topic, namespace) for name, (topic, _) in READERS.items()}
    for consumer, (_, group) in READERS.items():
        topic = names[consumer]
        committed = admin.committed_offsets(qualified_name(group, namespace), topic)
        for partition, (begin, end) in sorted(source.bounds(topic).items()):
            booked, timestamp_ms, crc = positions.get((consumer, partition), (0, None, None))
            last = None if crc is None else (timestamp_ms, crc)
            found.append(
                PartitionSurvey(
                    consumer,
                    topic,
                    partition,
                    booked,
                    begin,
                    end,
                    committed.get(partition),
                    last,
                    _record_before(source, topic, partition, booked, begin, end),
                )
            )
    return Survey(
        installation=installation[0] if installation else None,
        cluster_id=admin.cluster_id(),
        log_topic=names[LEDGER],
        topic_ids=admin.topic_ids(names.values()),
        partitions=found,
        sessions=sessions,
    )


def _record_before(
    source: LogSource, topic: str, partition: int, position: int, begin: int, end: int
) -> tuple[int, int] | None:
    """Return time and checksum of the record just before a position, if the log holds one."""
    if not begin < position <= end:
        return None
    for block in source.read(topic, partition, position - 1, position):
        if block.offsets:
            return block.timestamps_ms[0], checksum(block.keys[0], block.values[0])
    return None


def check_recovery(survey: Survey, topic_id: str | None = None) -> None:
    """Check that the database may be booked up to the end of this log.

    `topic_id` is that of the log when an unfinished recovery began. Raises RecoveryRefused.
    """
    check_alone({}, survey.sessions)
    if survey.installation is None:
        raise RecoveryRefused(
            Obstacle.NEVER_BOUND,
            "this database has booked nothing: there is nothing to recover. A new ledger worker"
            " books the whole log into it once the offsets of its group are deleted; to have the"
            " answers compared, restore a backup first",
        )
    cluster, count = survey.installation
    if cluster != survey.cluster_id:
        raise RecoveryRefused(
            Obstacle.OTHER_CLUSTER,
            f"the database belongs to the cluster {cluster}, the broker is of"
            f" {survey.cluster_id}: bind it to a mirror or a restored log with"
            " `pitboss ledger rebind` first",
        )
    if len(survey.of(LEDGER)) != count:
        raise RecoveryRefused(
            Obstacle.OTHER_PARTITIONS,
            f"the database was booked from {count} partitions, {survey.log_topic} has"
            f" {len(survey.of(LEDGER))}: restore the topic with the partitions that it had",
        )
    if topic_id not in (None, survey.topic_ids.get(survey.log_topic)):
        raise RecoveryRefused(
            Obstacle.OTHER_TOPIC,
            f"{survey.log_topic} was made anew since this recovery began: restore the database"
            " again, and begin again",
        )
    for one in survey.partitions:
        _check_partition(one)


def check_alone(members: Mapping[str, list[str]], sessions: int) -> None:
    """Check that no worker of the ledger runs: members by group, and connections to the database.

    Raises RecoveryRefused.
    """
    if not members and not sessions:
        return
    who = "; ".join(f"{group}: {', '.join(names)}" for group, names in members.items())
    who = who or f"{sessions} connections of ledger workers to the database"
    raise RecoveryRefused(
        Obstacle.WORKERS_ALIVE,
        f"workers run ({who}): stop `pitboss run` of their roles everywhere, and try again; one"
        " that was killed counts for 10 s more",
    )


def _check_partition(one: PartitionSurvey) -> None:
    if one.booked > one.end:
        raise RecoveryRefused(
            Obstacle.LOG_ENDS_EARLIER,
            f"{one.place}: the log ends at {one.end}, before what is booked. Play the missing"
            " records back from the archive or a mirror (`pitboss archive restore --resume`), or"
            " restore the database to a moment before the last record of this log",
        )
    if one.booked < one.begin:
        raise RecoveryRefused(
            Obstacle.LOG_BEGINS_LATER,
            f"{one.place}: the log begins at {one.begin}, behind it. Name the archive that holds"
            f" the {one.begin - one.booked} offsets between in PITBOSS_ARCHIVE, or restore a later"
            " backup of the database",
        )
    if None not in (one.last_booked, one.last_found) and one.last_booked != one.last_found:
        raise RecoveryRefused(
            Obstacle.OTHER_RECORD,
            f"{one.place}: the record before it is not the one that the ledger has booked: this is"
            " another log. Point PITBOSS_KAFKA and PITBOSS_DATABASE at servers that belong"
            " together",
        )


def groups_of(namespace: str) -> Collection[str]:
    """Return the names of the groups whose members must be gone."""
    return [qualified_name(group, namespace) for _, group in READERS.values()]
