"""A whole worker process: how it ends, and how it comes back.

Run as a program, this file is the worker: `python test_intake_worker.py BOOTSTRAP TOPIC GROUP INSTANCE BEHAVIOUR`. It
prints one JSON line for each event.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from pitboss.settings import Runtime
from runtime.kafka.app import AppSettings, PitbossApp, add_agent, create_app
from runtime.kafka.batches import RecordBatch
from runtime.kafka.intake.intake import IntakeSettings
from runtime.kafka.process import run_worker
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.kafka.watchdog import WatchdogSettings
from runtime.security import BrokerAddress
from schemas.errors import Fenced
from tests.support.topics import make_topics

PARTITIONS = 4
PATIENCE_S = 120


def say(**event: object) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def create_worker(
    broker: BrokerAddress, topic: str, group: str, instance: str, behaviour: str
) -> PitbossApp:
    app = create_app(AppSettings("worker", broker))

    async def handle(batch: RecordBatch) -> None:
        say(got=len(batch.records), assignment=batch.assignment, partition=batch.partition)
        match behaviour:
            case "fenced":
                raise Fenced("another worker has the partition")
            case "bug":
                raise ValueError("a bug")
            case "slow":
                await asyncio.sleep(1)
            case "hang":
                await asyncio.Event().wait()

    add_agent(
        app,
        IntakeSettings(
            broker,
            group,
            group_instance_id=instance if instance != "-" else None,
            # The start of a successor on a busy machine is well within it.
            session_timeout_ms=60_000 if instance != "-" else 10_000,
            drain_timeout_ms=3_000 if behaviour == "hang" else 30_000,
            commit_interval_ms=60_000,  # only an orderly end commits
        ),
        handle,
        name="work",
        topics=[topic],
        # A second of a busy machine is no stall of the others.
        watchdog=WatchdogSettings(
            broker, stall_ms=2_000 if behaviour == "hang" else 60_000, interval_ms=300
        ),
    )
    return app


if __name__ == "__main__":
    sys.exit(run_worker(lambda: create_worker(BrokerAddress(sys.argv[1]), *sys.argv[2:])))

pytestmark = pytest.mark.integration


class Process:
    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, *arguments],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[3],
            text=True,
        )
        self.events: list[dict] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            while line := await asyncio.to_thread(lines.readline):
                self.events.append(json.loads(line))

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def code(self) -> int:
        code = await asyncio.to_thread(self.process.wait, PATIENCE_S)
        await self._reading
        return code

    async def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return await self.code()

    @property
    def got(self) -> int:
        return sum(event["got"] for event in self.events)


@pytest.fixture
async def start(runtime: Runtime) -> AsyncIterator[Callable[..., Process]]:
    await make_topics(runtime.broker, NewTopic(runtime.topic("in"), PARTITIONS, 1))
    processes: list[Process] = []

    def make(
        behaviour: str = "plain", instance: str = "-", broker: BrokerAddress | None = None
    ) -> Process:
        server = broker or runtime.broker
        processes.append(
            Process(server.servers, runtime.topic("in"), runtime.group("g"), instance, behaviour)
        )
        return processes[-1]

    yield make
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.process.kill()
        await process.code()


async def fill(runtime: Runtime, count: int = 100) -> None:
    async with BatchProducer(ProducerSettings(runtime.broker, "fill")) as producer:
        await producer.send_keyed(
            runtime.topic("in"), [(b"%d" % i, b"v", (), None) for i in range(count)]
        )


async def committed_offsets(runtime: Runtime) -> int:
    admin = AIOKafkaAdminClient(**runtime.broker.aiokafka_options())
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(runtime.group("g"))
        return sum(offset.offset for offset in offsets.values() if offset.offset > 0)
    finally:
        await admin.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_commits_and_ends_with_0(runtime, start, number):
    await fill(runtime)
    worker = start("slow")
    await worker.until(lambda: worker.got == 100)  # and the last of them is not done yet
    assert await worker.end(number) == 0
    assert await committed_offsets(runtime) == worker.got == 100, (
        "the work in hand was finished and committed"
    )


@pytest.mark.parametrize(("behaviour", "code"), [("fenced", 72), ("bug", 1), ("hang", 75)])
async def test_an_error_ends_the_process_with_its_code_and_commits_nothing_of_it(
    runtime, start, behaviour, code
):
    await fill(runtime)
    assert await start(behaviour).code() == code
    assert await committed_offsets(runtime) == 0


async def test_without_a_broker_a_worker_ends_with_unavailable(start):
    assert await start(broker=BrokerAddress("127.0.0.1:1")).code() == 69


async def test_a_static_member_that_was_killed_comes_back_at_once_and_disturbs_no_other(
    runtime, start
):
    first, second = start(instance="worker-1"), start(instance="worker-2")
    async with asyncio.timeout(PATIENCE_S):
        while not (first.got and second.got):
            await fill(runtime)
            await asyncio.sleep(0.2)
    # Whoever came first had all partitions until the other came: only what it handles now shows which assignment it has.
    handled = len(first.events), len(second.events)
    await fill(runtime)
    await first.until(lambda: len(first.events) > handled[0])
    await second.until(lambda: len(second.events) > handled[1])
    before = second.events[-1]["assignment"]
    await first.end(signal.SIGKILL)
    successor = start(instance="worker-1")
    await successor.until(lambda: successor.got)
    seen = len(second.events)
    await fill(runtime)
    await second.until(lambda: len(second.events) > seen)
    # A stranger would have had to wait for the end of the dead one's session, and its coming moves partitions.
    assert second.events[-1]["assignment"] == before, "no rebalance"
