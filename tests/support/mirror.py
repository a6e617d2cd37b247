"""A mirror of an installation's topics: their records, to be copied into a new broker under other offsets."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pitboss.embedded.stack import Stack
from pitboss.settings import Runtime
from replay.archive.restore import PartitionSender
from replay.log.blocks import LogBlock
from replay.log.broker import BrokerLog
from replay.recovery.padding import pad
from tests.support.stack_faults import kill_server, restart_server


@dataclass
class Mirror:
    """Blocks of records by topic and partition."""

    blocks: dict[tuple[str, int], list[LogBlock]]

    @classmethod
    def take(cls, runtime: Runtime, topics: Collection[str]) -> Mirror:
        """Read the topics whole."""
        found = {}
        with BrokerLog(runtime.broker) as source:
            for name in map(runtime.topic, topics):
                for partition, (begin, end) in source.bounds(name).items():
                    found[name, partition] = [*source.read(name, partition, begin, end)]
        return cls(found)

    def until(self, topic: str, ends: Mapping[int, int]) -> Mirror:
        """Return a mirror that has stopped earlier: one topic up to an offset of each partition."""
        cut = dict(self.blocks)
        for partition, end in ends.items():
            cut[topic, partition] = [
                block.keep([n for n, offset in enumerate(block.offsets) if offset < end])
                for block in self.blocks[topic, partition]
            ]
        return Mirror(cut)

    def since(self, topic: str, partition: int, begin: int) -> Mirror:
        """Return a mirror that began later: without the first records of a partition."""
        later = dict(self.blocks)
        later[topic, partition] = [
            block.keep([n for n, offset in enumerate(block.offsets) if offset >= begin])
            for block in self.blocks[topic, partition]
        ]
        return Mirror(later)

    def copy_to(self, runtime: Runtime, padding: Mapping[tuple[str, int], int]) -> None:
        """Append everything in its order, behind so many offsets without a record."""
        for (topic, partition), blocks in self.blocks.items():
            if count := padding.get((topic, partition), 0):
                pad(runtime.broker, topic, partition, count)
            sender = PartitionSender(runtime.broker, topic, partition)
            sender.send_all(iter(blocks), is_exact=False)


async def lose_broker(stack: Stack) -> None:
    """Kill the broker, remove what it had, and start an empty one."""
    await asyncio.to_thread(kill_server, stack.kafka)
    shutil.rmtree(stack.kafka.folder / "data")
    await asyncio.to_thread(restart_server, stack, stack.kafka)
