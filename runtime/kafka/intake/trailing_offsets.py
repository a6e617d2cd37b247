"""Passing over what lies behind the last record of a partition: markers, and records of a
transaction that was aborted.

Left alone it would never be committed: to others of the group it is lag, and once the log's
retention has removed it, the position before it is none that the log holds.
"""

from __future__ import annotations

from contextlib import suppress

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import IllegalStateError

from runtime.kafka.intake.assignment import Assignment


async def check_trailing_offsets(client: AIOKafkaConsumer, now: Assignment) -> None:
    """Note how far idle partitions were read, and read once more what is not believed at first
    sight.

    Only whoever fetches may call this, when all that was fetched has been cut: at any other moment
    a position may have moved past records that nobody has.
    """
    if not now.is_open:
        return
    with suppress(IllegalStateError):  # revoked under our hands
        for tp in now.idle_partitions():
            again = now.note_position(tp, await client.position(tp))
            if again is not None:
                client.seek(tp, again)
