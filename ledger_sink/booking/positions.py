"""Taking partitions over: the claim that fences whoever had them, and the proof that the log is the
right one.

Positions live in the ledger's database, next to what they stand for; Kafka's committed offsets only
show the lag.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from aiokafka import TopicPartition

from ledger_sink.booking.publisher import Publisher
from ledger_sink.store.database import LedgerDatabase, LockTimeout
from ledger_sink.store.ledger import CONSUMER
from ledger_sink.store.log_check import StoredPosition, cluster_id, verify_log
from ledger_sink.store.statements import statements
from schemas.errors import Fenced, LogMismatch
from schemas.topics import TRANSACTIONS

logger = logging.getLogger(__name__)

_SQL = statements("positions")


class PartitionClaim(NamedTuple):
    """A partition that is ours from now on."""

    next_offset: int
    published_offset: int
    epoch: int
    last_timestamp_ms: int | None
    last_checksum: int | None


async def claim_positions(
    database: LedgerDatabase,
    parts: Collection[int],
    *,
    consumer: str = CONSUMER,
    topic: str = TRANSACTIONS,
) -> dict[int, PartitionClaim]:
    """Count up each partition's epoch, so that whoever held it before can commit nothing more.
    Raises Unavailable.

    A session that has kept a position locked for long is ended, so that the next try succeeds.
    """
    try:
        async with database.transaction() as connection:
            await connection.execute(_SQL["claim_soon"])
            columns = {"consumer": consumer, "topic": topic, "parts": sorted(parts)}
            rows = await (await connection.execute(_SQL["claim"], columns)).fetchall()
    except LockTimeout:
        async with database.transaction() as connection:
            await connection.execute(_SQL["as_login"])
            ended = await (await connection.execute(_SQL["end_holders"])).fetchall()
        logger.warning(
            "%d sessions held positions of ours for more than 10 s and were ended", len(ended)
        )
        raise
    return {part: PartitionClaim(*claim) for part, *claim in rows}


async def check_installation(database: LedgerDatabase, cluster_id: str, partitions: int) -> None:
    """Bind a new database to its broker and partition count, refuse any other.

    Raises LogMismatch, Unavailable.
    """
    await database.query(_SQL["install"], {"cluster_id": cluster_id, "partitions": partitions})
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
    """Ties a database to its broker: the cluster, the partition count, each position to the log's
    own records.
    """

    database: LedgerDatabase
    bootstrap_servers: str
    group: str
    topic: str
    partition_count: Callable[[], Awaitable[int]]
    """Of the log of transactions, whichever topic is guarded."""

    async def check_installation(self) -> None:
        """Bind a new database, refuse one of another broker. Raises LogMismatch, Unavailable."""
        cluster = await cluster_id(self.bootstrap_servers)
        await check_installation(self.database, cluster, await self.partition_count())

    async def claim(self, parts: Collection[int], consumer: str) -> dict[int, PartitionClaim]:
        """Take partitions over, after proving that they are the ones the positions belong to.

        Raises LogMismatch, Fenced, Unavailable.
        """
        await self.check_installation()
        claims = await claim_positions(self.database, parts, consumer=consumer, topic=self.topic)
        stored = {
            part: StoredPosition(c.next_offset, c.last_timestamp_ms, c.last_checksum)
            for part, c in claims.items()
        }
        try:
            await self.verify(stored)
        except LogMismatch:
            await self._check_still_claimed(claims, consumer)
            raise
        return claims

    async def verify(self, stored: Mapping[int, StoredPosition]) -> None:
        """Compare positions with the log. Raises LogMismatch, Unavailable."""
        await verify_log(self.bootstrap_servers, self.group, self.topic, stored)

    async def _check_still_claimed(
        self, claims: Mapping[int, PartitionClaim], consumer: str
    ) -> None:
        """What was claimed from us since has moved on: it says nothing of the log.

        Raises Fenced.
        """
        columns = {"consumer": consumer, "topic": self.topic, "parts": sorted(claims)}
        for part, epoch in await self.database.query(_SQL["epochs"], columns):
            if epoch != claims[part].epoch:
                message = f"{self.topic}-{part}: claimed by another worker (epoch {epoch}, ours {claims[part].epoch})"
                raise Fenced(message)


class LedgerPositions:
    """The intake's start positions: claimed, verified against the log, published up to date before
    the first batch.
    """

    def __init__(self, guard: PositionGuard, epochs: dict[int, int], publisher: Publisher) -> None:
        self._guard = guard
        self._epochs = epochs
        self._publisher = publisher

    async def claim(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Where each partition goes on. Raises LogMismatch, Unavailable, SendFailed."""
        claims = await self._guard.claim(
            [partition.partition for partition in partitions], CONSUMER
        )
        for part, claim in claims.items():
            self._epochs[part] = claim.epoch
            await self._publisher.resend(part, claim.published_offset, claim.next_offset)
        await self._publisher.store_cursors()
        return {
            TopicPartition(self._guard.topic, part): claim.next_offset
            for part, claim in claims.items()
        }

    async def release(self, partitions: Collection[TopicPartition]) -> None:
        """Publish what is committed and forget the partitions."""
        await self._publisher.drain()
        for partition in partitions:
            self._epochs.pop(partition.partition, None)
