"""Claiming partitions: the epoch that fences their last owner, and the check of the log.

Positions are in the ledger's database, next to the rows that they cover; Kafka's committed offsets
only show the lag.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from aiokafka import TopicPartition

from ledger_sink.booking.publisher import Publisher
from ledger_sink.store.database import LedgerDatabase, LockTimeout
from ledger_sink.store.groups import CONSUMER
from ledger_sink.store.log_check import StoredPosition, cluster_id, verify_log
from ledger_sink.store.statements import statements
from runtime.security import BrokerAddress
from schemas.errors import Fenced, LogMismatch
from schemas.topics import TRANSACTIONS

logger = logging.getLogger(__name__)

_SQL = statements("positions")


class PartitionClaim(NamedTuple):
    """A partition that this worker owns from now on."""

    next_offset: int
    published_offset: int
    epoch: int
    last_timestamp_ms: int | None
    last_checksum: int | None


async def claim_positions(
    database: LedgerDatabase,
    partitions: Collection[int],
    *,
    consumer: str = CONSUMER,
    topic: str = TRANSACTIONS,
) -> dict[int, PartitionClaim]:
    """Increment each partition's epoch, so that its previous owner can commit nothing more.

    The ledger's other partitions get their rows as well: an event that may refer to any partition
    locks them all, and one that is claimed for the first time meanwhile would not be locked.
    A session that has kept a position locked for long is ended, so that the next try succeeds.
    Raises Unavailable.
    """
    try:
        async with database.transaction() as connection:
            await connection.execute(_SQL["claim_soon"])
            columns = {"consumer": consumer, "topic": topic, "parts": sorted(partitions)}
            if consumer == CONSUMER:
                await connection.execute(_SQL["lay_out"], columns)
            rows = await (await connection.execute(_SQL["claim"], columns)).fetchall()
    except LockTimeout:
        async with database.transaction() as connection:
            await connection.execute(_SQL["as_login"])
            ended = await (await connection.execute(_SQL["end_holders"])).fetchall()
        logger.warning(
            "%d sessions held positions of ours for more than 10 s and were ended", len(ended)
        )
        raise
    return {partition: PartitionClaim(*claim) for partition, *claim in rows}


async def check_installation(database: LedgerDatabase, cluster_id: str, partitions: int) -> None:
    """Bind a new database to its broker and partition count, and refuse any other.

    Raises LogMismatch, Unavailable.
    """
    columns = {"cluster_id": cluster_id, "partitions": partitions}
    await database.query(_SQL["install"], columns)
    [row] = await database.query(_SQL["installation"])
    if row != (cluster_id, partitions):
        message = (
            f"the ledger's database belongs to cluster and partition count {row}, the broker to"
            f" {(cluster_id, partitions)}."
            " Point PITBOSS_KAFKA and PITBOSS_DATABASE at servers that belong together"
        )
        raise LogMismatch(message)


@dataclass(frozen=True)
class PositionGuard:
    """Ties a database to its broker: cluster, partition count, and the records at positions."""

    database: LedgerDatabase
    broker: BrokerAddress
    group: str
    topic: str
    partition_count: Callable[[], Awaitable[int]]
    """Partition count of the log of transactions, also for a guard of another topic."""

    async def check_installation(self) -> None:
        """Bind a new database; refuse one of another broker, or in the middle of a recovery.

        Raises LogMismatch, Unavailable.
        """
        cluster = await cluster_id(self.broker)
        await check_installation(self.database, cluster, await self.partition_count())
        for kind, started_at in await self.database.query(_SQL["unfinished_recovery"]):
            way_on = "rebind" if kind == "REBIND" else "recover --to-log"
            message = (
                f"a recovery of this database began at {started_at:%Y-%m-%d %H:%M:%S %Z} and is not"
                f" finished: `pitboss ledger {way_on}` goes on with it"
            )
            raise LogMismatch(message)

    async def claim(self, partitions: Collection[int], consumer: str) -> dict[int, PartitionClaim]:
        """Claim partitions and prove that they are those that the positions belong to.

        Raises LogMismatch, Fenced, Unavailable.
        """
        await self.check_installation()
        claims = await claim_positions(
            self.database, partitions, consumer=consumer, topic=self.topic
        )
        stored = {
            partition: StoredPosition(
                claim.next_offset, claim.last_timestamp_ms, claim.last_checksum
            )
            for partition, claim in claims.items()
        }
        try:
            await self.verify(stored)
        except LogMismatch:
            await self._check_still_claimed(claims, consumer)
            raise
        return claims

    async def verify(self, stored: Mapping[int, StoredPosition]) -> None:
        """Compare positions with the log. Raises LogMismatch, Unavailable."""
        await verify_log(self.broker, self.group, self.topic, stored)

    async def _check_still_claimed(
        self, claims: Mapping[int, PartitionClaim], consumer: str
    ) -> None:
        """Raise Fenced if a partition was claimed by another worker since.

        Its position has moved on then, and the mismatch proves nothing about the log.
        """
        columns = {"consumer": consumer, "topic": self.topic, "parts": sorted(claims)}
        for partition, epoch in await self.database.query(_SQL["epochs"], columns):
            ours = claims[partition].epoch
            if epoch != ours:
                where = f"{self.topic}-{partition}"
                message = f"{where}: claimed by another worker (epoch {epoch}, ours {ours})"
                raise Fenced(message)


class LedgerPositions:
    """The intake's start positions: claimed, compared with the log, and published up to date."""

    def __init__(self, guard: PositionGuard, epochs: dict[int, int], publisher: Publisher) -> None:
        self._guard = guard
        self._epochs = epochs
        self._publisher = publisher

    async def claim(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return where each partition continues. Raises LogMismatch, Unavailable, SendFailed."""
        numbers = [tp.partition for tp in partitions]
        claims = await self._guard.claim(numbers, CONSUMER)
        for partition, claim in claims.items():
            self._epochs[partition] = claim.epoch
            await self._publisher.resend(partition, claim.published_offset, claim.next_offset)
        await self._publisher.store_cursors()
        topic = self._guard.topic
        return {TopicPartition(topic, number): c.next_offset for number, c in claims.items()}

    async def release(self, partitions: Collection[TopicPartition]) -> None:
        """Publish what is committed and drop the partitions' epochs."""
        await self._publisher.drain()
        for partition in partitions:
            self._epochs.pop(partition.partition, None)
