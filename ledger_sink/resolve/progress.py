"""Offsets of the raw topics, their normalisation and the log, from which barriers are made."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from mode import Service

from ledger_sink.resolve.barriers import Bounds, EndOffsets
from runtime.connection_faults import unreachable_broker
from runtime.kafka.broker_queries import list_partitions
from runtime.kafka.clients import stop_client
from runtime.security import BrokerAddress
from schemas.errors import Unavailable
from schemas.topics import TRANSACTIONS, UNRESOLVED, qualified_name, raw_pattern

_ANSWER_TIMEOUT_S = 10.0


class KafkaPipelineProgress(Service):
    """The broker's answers, by clients of its own that join no group."""

    if TYPE_CHECKING:  # mode's own signature returns only a service

        async def __aenter__(self) -> Self: ...

    def __init__(
        self,
        broker: BrokerAddress,
        namespace: str,
        normalise_group: str,
        providers: Collection[str] | None = None,
    ) -> None:
        """Prepare; only raw topics of `providers` count (None: all): no other is normalised."""
        super().__init__()
        self._broker = broker
        self._raw = re.compile(raw_pattern(namespace, providers))
        self._log = qualified_name(TRANSACTIONS, namespace)
        self._unresolved = qualified_name(UNRESOLVED, namespace)
        self._group = qualified_name(normalise_group, namespace)

    async def on_start(self) -> None:
        """Connect. Raises Unavailable if no broker answers."""
        self._consumer = AIOKafkaConsumer(
            **self._broker.aiokafka_options(),
            enable_auto_commit=False,
            metadata_max_age_ms=5_000,
        )
        self._admin = AIOKafkaAdminClient(**self._broker.aiokafka_options())
        try:
            await self._consumer.start()
            await self._admin.start()
        except KafkaError as error:
            raise await asyncio.to_thread(unreachable_broker, self._broker, error) from error

    async def on_stop(self) -> None:
        """Close the clients."""
        await stop_client(self._consumer)
        await self._admin.close()

    async def raw_ends(self) -> EndOffsets:
        """Return the end of every raw partition that is read and holds a record.

        Raises Unavailable.
        """
        async with _answer("how far the raw topics reach"):
            topics = await self._consumer.topics()
            return await self.end_offsets([topic for topic in topics if self._raw.fullmatch(topic)])

    async def raw_bounds(self, topics: Collection[str]) -> Bounds:
        """Return first offset and end of every partition of those topics that exist.

        Raises Unavailable.
        """
        async with _answer(f"how far {', '.join(sorted(topics))} reach"):
            found = await list_partitions(self._admin, topics, skip_missing=True)
            ends = await self._consumer.end_offsets(found)
            beginnings = await self._consumer.beginning_offsets(found)
        return {f"{tp.topic}-{tp.partition}": (beginnings[tp], ends[tp]) for tp in found}

    async def normalised_offsets(self) -> EndOffsets:
        """Return what the normaliser has committed. Raises Unavailable."""
        return await self.committed_offsets(self._group)

    async def committed_offsets(self, group: str) -> EndOffsets:
        """Return what a group has committed. Raises Unavailable."""
        async with _answer(f"what {group} has committed"):
            committed = await self._admin.list_consumer_group_offsets(group)
        return {
            f"{tp.topic}-{tp.partition}": meta.offset
            for tp, meta in committed.items()
            if meta.offset >= 0
        }

    async def log_ends(self) -> EndOffsets:
        """Return the end of every partition of the log that holds a record. Raises Unavailable."""
        return await self._ends_of(self._log)

    async def unresolved_ends(self) -> EndOffsets:
        """Return the same of the topic of events that name no player. Raises Unavailable."""
        return await self._ends_of(self._unresolved)

    async def _ends_of(self, topic: str) -> EndOffsets:
        async with _answer(f"how far {topic} reaches"):
            return await self.end_offsets([topic])

    async def end_offsets(self, topics: Sequence[str]) -> EndOffsets:
        """Return the end of every partition of some topics that holds a record."""
        partitions = await list_partitions(self._admin, topics)
        ends = await self._consumer.end_offsets(partitions)
        beginnings = await self._consumer.beginning_offsets(partitions)
        # A partition whose records are all deleted has nothing left to wait for.
        return {
            f"{tp.topic}-{tp.partition}": end for tp, end in ends.items() if end > beginnings[tp]
        }


@asynccontextmanager
async def _answer(what: str) -> AsyncIterator[None]:
    """Bound the time of a question to the broker. Raises Unavailable, naming `what` was asked."""
    try:
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            yield
    except (TimeoutError, KafkaError) as error:
        raise Unavailable(f"the broker does not say {what}: {error!r}") from error
