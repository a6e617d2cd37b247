"""The plumbing against everything at once: records are copied from one topic to another by two worker processes while
one of them is killed, another joins, and the broker is killed and started again.

Afterwards every record is there, the first copies of each key's records stand in their order, and every offset of the
source is committed. Duplicates are allowed, and counted.

Run as a program, this file is the worker: `python test_chaos_trial.py BOOTSTRAP NAME PACE_MS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import cast

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from pitboss.embedded.stack import Stack
from runtime.kafka.app import AppSettings, PitbossApp, add_agent, create_app
from runtime.kafka.batches import RecordBatch
from runtime.kafka.intake.intake import IntakeSettings
from runtime.kafka.partitioner import partition_for
from runtime.kafka.process import run_worker
from runtime.kafka.producer import BatchProducer, OutRecord, ProducerSettings
from runtime.kafka.watchdog import WatchdogSettings
from runtime.security import BrokerAddress
from tests.support.stack_faults import kill_server, restart_server

SOURCE, TARGET, GROUP = "chaos.in", "chaos.out", "chaos.copy"
PARTITIONS = 8
KEYS = 500
FEED_S = 14.0
"""How long the records take to come: the faults fall into this time at any size."""

PACE_MS, COMMIT_MS = 150, 100
"""A batch is in work for longer than commits are apart: whatever was committed too early is lost by the next kill."""

DEADLINE_S = 120.0

READING = ("first", "third")
"""Workers whose intake reads records as they come, as the normaliser's does; the other one is handed the records."""


def copies_of(_: str, records: Sequence[ConsumerRecord[bytes, bytes]]) -> list[OutRecord]:
    return [(r.key, r.value, r.headers, None) for r in records]


def create_copier(broker: BrokerAddress, name: str, pace_ms: int) -> PitbossApp:
    app = create_app(AppSettings(name, broker))
    producer = app.supervise(BatchProducer(ProducerSettings(broker, name)))

    async def copy(batch: RecordBatch) -> None:
        await asyncio.sleep(pace_ms / 1000)
        read = chain.from_iterable(cast("Sequence[list[OutRecord]]", batch.readings))
        await producer.send_keyed(TARGET, [*copies_of(SOURCE, batch.records), *read])

    add_agent(
        app,
        IntakeSettings(
            broker,
            GROUP,
            commit_interval_ms=COMMIT_MS,
            session_timeout_ms=6_000,
            drain_timeout_ms=5_000,
        ),
        copy,
        name="copy",
        topics=[SOURCE],
        reader=copies_of if name in READING else None,
        watchdog=WatchdogSettings(broker, stall_ms=20_000, interval_ms=1_000),
    )
    return app


@dataclass
class Workers:
    """Worker processes, each started again when it ends of itself: the part of a supervisor."""

    broker: BrokerAddress
    folder: Path
    pace_ms: int = PACE_MS
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    restarted: dict[str, list[int]] = field(default_factory=dict)
    """By worker, what it ended with."""

    def start(self, name: str) -> None:
        command = [
            sys.executable,
            __file__,
            msgspec.json.encode(self.broker).decode(),
            name,
            str(self.pace_ms),
        ]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=Path(__file__).parents[2]
            )

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    def look(self) -> None:
        for name, process in list(self.running.items()):
            if process.poll() is not None:
                self.restarted.setdefault(name, []).append(process.returncode)
                self.start(name)

    def stop(self) -> dict[str, int]:
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        codes = {}
        for name, process in self.running.items():
            try:
                codes[name] = process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = process.wait(10)
        return codes

    def logs(self) -> str:
        return "\n".join(
            f"--- {path.name}\n{path.read_text()[-3_000:]}"
            for path in sorted(self.folder.glob("*.log"))
        )


async def create_topics(broker: BrokerAddress) -> None:
    admin = AIOKafkaAdminClient(**broker.aiokafka_options())
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in (SOURCE, TARGET)])
    finally:
        await admin.close()


async def delete_topics(broker: BrokerAddress) -> None:
    admin = AIOKafkaAdminClient(**broker.aiokafka_options())
    await admin.start()
    try:
        await admin.delete_topics([SOURCE, TARGET])
    finally:
        await admin.close()


class Feeder:
    """Appends records at a steady pace, up to a number that the trial raises."""

    def __init__(self, broker: BrokerAddress, count: int) -> None:
        self.broker, self.count = broker, count
        self.allowed = 0
        self.fed = 0

    async def run(self) -> None:
        chunk = max(self.count // 280, 1)
        async with BatchProducer(ProducerSettings(self.broker, "feeder")) as producer:
            while self.fed < self.count:
                numbers = range(self.fed, min(self.fed + chunk, self.allowed))
                begin = time.monotonic()
                if numbers:
                    records = [
                        (b"key-%d" % (n % KEYS), b"%09d" % n + b"." * 200, (), None)
                        for n in numbers
                    ]
                    await producer.send_keyed(SOURCE, records)
                    self.fed = numbers.stop
                await asyncio.sleep(
                    max(0.0, begin + FEED_S * chunk / self.count - time.monotonic())
                )


class Group:
    """What the broker knows of the workers' group."""

    def __init__(self, admin: AIOKafkaAdminClient) -> None:
        self._admin = admin

    async def committed_offsets(self) -> dict[TopicPartition, int]:
        offsets = await self._admin.list_consumer_group_offsets(GROUP)
        return {tp: offset.offset for tp, offset in offsets.items()}

    async def members(self) -> int:
        (answer,) = await self._admin.describe_consumer_groups([GROUP])
        _, _, state, _, _, members, *_ = answer.groups[0]
        return len(members) if state == "Stable" else 0


async def until(workers: Workers, condition: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        workers.look()
        with contextlib.suppress(KafkaError):
            if await condition():
                return
        assert time.monotonic() < deadline, f"still not {what}\n{workers.logs()}"
        await asyncio.sleep(0.05)


async def torment(stack: Stack, group: Group, workers: Workers, feeder: Feeder) -> float:
    """Let the faults happen while records flow; returns how long it took to catch up after the last one."""

    async def has_copied(share: float) -> bool:
        return sum((await group.committed_offsets()).values()) >= share * feeder.count

    async def is_pair() -> bool:
        return await group.members() == 2

    workers.start("first")
    workers.start("second")
    await until(workers, is_pair, "two workers in the group")
    feeder.allowed = feeder.count // 3
    await until(workers, lambda: has_copied(1 / 6), "a sixth copied")
    workers.kill("first")
    workers.start("third")
    feeder.allowed = feeder.count * 2 // 3
    await until(workers, is_pair, "the dead worker out of the group and the third in")
    await until(workers, lambda: has_copied(1 / 2), "half copied")
    feeder.allowed = feeder.count
    await until(workers, lambda: has_copied(3 / 5), "three fifths copied")
    kill_server(stack.kafka)
    await asyncio.sleep(0.5)  # long enough for all of them to notice
    await asyncio.to_thread(restart_server, stack, stack.kafka)
    begin = time.monotonic()
    await until(workers, lambda: has_copied(1), "everything copied")
    return time.monotonic() - begin


async def read(
    broker: BrokerAddress, topic: str
) -> tuple[dict[TopicPartition, int], list[tuple[bytes, int]]]:
    """The ends of a topic's partitions, and its records as (key, number) in the order of each partition."""
    consumer = AIOKafkaConsumer(**broker.aiokafka_options(), auto_offset_reset="earliest")
    await consumer.start()
    try:
        tps = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        found: list[tuple[bytes, int]] = []
        async with asyncio.timeout(DEADLINE_S):
            for tp in tps:
                while await consumer.position(tp) < ends[tp]:
                    for records in (await consumer.getmany(tp, timeout_ms=200)).values():
                        for record in records:
                            assert record.partition == partition_for(record.key, PARTITIONS)
                            found.append((record.key, int(record.value[:9])))
        return ends, found
    finally:
        await consumer.stop()


def assert_copied(count: int, copies: list[tuple[bytes, int]]) -> int:
    """Nothing is missing or out of order; returns how many copies were made twice."""
    missing = set(range(count)) - {number for _, number in copies}
    assert not missing, f"{len(missing)} of {count} records are lost, such as {sorted(missing)[:5]}"
    firsts: dict[bytes, list[int]] = defaultdict(list)
    seen: set[int] = set()
    for key, number in copies:
        assert key == b"key-%d" % (number % KEYS)
        if number not in seen:
            seen.add(number)
            firsts[key].append(number)
    for key, numbers in firsts.items():
        assert numbers == sorted(numbers), f"records of {key!r} were reordered"
    return len(copies) - count


@pytest.mark.faults
@pytest.mark.integration
@pytest.mark.prove
@pytest.mark.parametrize(
    ("servers", "count"),
    [("private_stack", 60_000), ("private_stack", 500_000), ("secured_stack", 60_000)],
)
async def test_nothing_is_lost_when_workers_and_the_broker_are_killed(
    request: pytest.FixtureRequest, tmp_path, servers, count, capsys
):
    stack: Stack = request.getfixturevalue(servers)
    broker = stack.runtime("").broker
    await create_topics(broker)
    workers, feeder = Workers(broker, tmp_path), Feeder(broker, count)
    feeding = asyncio.create_task(feeder.run())
    admin = AIOKafkaAdminClient(**broker.aiokafka_options())
    await admin.start()
    try:
        caught_up_s = await torment(stack, Group(admin), workers, feeder)
        await feeding
        committed = await Group(admin).committed_offsets()
    finally:
        feeding.cancel()
        codes = workers.stop()
        await admin.close()
    steady = {name: code for name, code in codes.items() if name not in workers.restarted}
    assert not any(steady.values()), f"a drained worker ends with 0: {codes}\n{workers.logs()}"
    source_ends, _ = await read(broker, SOURCE)
    assert committed == source_ends, "every offset is committed"
    _, copies = await read(broker, TARGET)
    await delete_topics(broker)
    doubled = assert_copied(count, copies)
    with capsys.disabled():
        print(
            f"\nchaos: {count:,} of {count:,} records copied, {doubled:,} twice ({doubled / count:.1%}), all offsets "
            f"committed {caught_up_s:.1f} s after the broker was back, restarts: {workers.restarted or 'none'}"
        )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    worker_broker, worker_name, worker_pace_ms = sys.argv[1:]
    address = msgspec.json.decode(worker_broker, type=BrokerAddress)
    code = run_worker(lambda: create_copier(address, worker_name, int(worker_pace_ms)))
    logging.getLogger("chaos").info("ends with %d", code)
    sys.stdout.flush()
    os._exit(code) if code else sys.exit(0)
