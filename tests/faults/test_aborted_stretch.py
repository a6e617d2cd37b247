"""Offsets that hold nothing, as `ledger rebind` and mirrors that write in transactions leave them."""

from __future__ import annotations

import pytest

from replay.recovery.padding import pad
from runtime.kafka.partitioner import partition_for
from schemas.topics import TRANSACTIONS
from tests.faults.ledger_scene import PARTITIONS, new_scene
from tests.support.ledger_events import deposit

pytestmark = [pytest.mark.integration, pytest.mark.faults, pytest.mark.timeout(900)]

ABORTED = 5_000
HELD = partition_for(b"p-1", PARTITIONS)
"""The only partition with records."""


async def test_a_ledger_passes_long_aborted_stretches(runtime, tmp_path):
    scene = await new_scene(runtime, tmp_path)
    log = runtime.topic(TRANSACTIONS)
    for partition in range(PARTITIONS):
        pad(runtime.broker, log, partition, ABORTED)
    await scene.append([deposit("first", 100, player="p-1")])
    with scene.worker("ledger-1") as ledger:
        await scene.published(processes=[ledger])
        pad(runtime.broker, log, HELD, 10)
        await scene.append([deposit("second", 100, player="p-1")])
        await scene.published(processes=[ledger])
    ends = scene.rows(
        "SELECT part, next_offset FROM stream_position WHERE consumer = 'ledger' ORDER BY part"
    )
    assert [number for number, end in ends if end == ABORTED + 1] == [
        number for number in range(PARTITIONS) if number != HELD
    ], "a partition without a record is passed as well, and nothing waits for it"
    assert scene.rows("SELECT cash_minor FROM wallet") == [(200,)]
    await scene.proven()
