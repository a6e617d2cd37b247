"""Partitions that wait at a record: what workers say of them in the offsets that they commit."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from fraud_agents.settings import GROUP as FRAUD
from ledger_sink.booking.settings import GROUP as LEDGER
from ledger_sink.resolve.settings import GROUP as RESOLVE
from pitboss.ops.topic_admin import admin_client, is_of_namespace
from pitboss.settings import Runtime
from schemas.errors import PartitionStuck, Unavailable
from streams.drift.settings import NAME as DRIFT
from streams.normalise.handler import NAME as NORMALISE

_GROUPS: Final = (NORMALISE, LEDGER, RESOLVE, FRAUD, DRIFT)
_NOTE: Final = re.compile(r"\d+ (.*)", re.DOTALL)
"""What a worker commits with the offset of a partition that waits."""
_SIGN: Final = re.compile(rf"\d+ {PartitionStuck.code}: (.*)", re.DOTALL)


@dataclass(frozen=True)
class StuckPartition:
    """A partition that a group does not go on with, and why; the other partitions go on."""

    group: str
    topic: str
    partition: int
    reason: str

    def __str__(self) -> str:
        """Return it for a line on a screen."""
        return f"{self.group} is stuck in {self.topic}-{self.partition}: {self.reason}"


async def find_stuck(runtime: Runtime) -> list[StuckPartition]:
    """Return the partitions of the installation that wait at a record. Raises Unavailable."""
    found: list[StuckPartition] = []
    try:
        async with admin_client(runtime.broker) as admin:
            for group in _GROUPS:
                found += await _signs(admin, runtime, runtime.group(group))
    except KafkaError as error:  # as long as the broker has not loaded what groups have committed
        raise Unavailable(f"the broker does not say what its groups wait for: {error!r}") from error
    return sorted(found, key=lambda one: (one.group, one.topic, one.partition))


async def _signs(admin: AIOKafkaAdminClient, runtime: Runtime, group: str) -> list[StuckPartition]:
    commits = await admin.list_consumer_group_offsets(group)
    return [
        StuckPartition(group, tp.topic, tp.partition, match[1])
        for tp, commit in commits.items()
        if is_of_namespace(tp.topic, runtime.namespace)
        and (match := _SIGN.fullmatch(commit.metadata.removesuffix("\0")))
    ]


async def find_waiting(runtime: Runtime) -> dict[tuple[str, str, int], str]:
    """Return why partitions wait, by group, topic and partition, as their workers say it.

    Where a worker has ended since, it is what it said last. Raises Unavailable.
    """
    found: dict[tuple[str, str, int], str] = {}
    try:
        async with admin_client(runtime.broker) as admin:
            for group in map(runtime.group, _GROUPS):
                for tp, commit in (await admin.list_consumer_group_offsets(group)).items():
                    match = _NOTE.fullmatch(commit.metadata.removesuffix("\0"))
                    if match and is_of_namespace(tp.topic, runtime.namespace):
                        found[group, tp.topic, tp.partition] = match[1]
    except KafkaError as error:
        raise Unavailable(f"the broker does not say what its groups wait for: {error!r}") from error
    return found


def list_stuck(runtime: Runtime) -> list[StuckPartition]:
    """Do as `find_stuck` outside of an event loop."""
    return asyncio.run(find_stuck(runtime))
