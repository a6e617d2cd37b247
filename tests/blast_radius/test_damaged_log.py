"""Records that are damaged in the broker's own files: their partition waits, the others are read, and a skip leads on."""

from __future__ import annotations

import time

import msgspec
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from pitboss.embedded.stack import Stack
from pitboss.ops.skips import build_order
from runtime.kafka.control import Control
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas.events import Position
from tests.blast_radius.steady_bets import ANSWER_MAX_S
from tests.support.intake_cluster import Cluster, Worker, running, until

pytestmark = [pytest.mark.integration, pytest.mark.prove, pytest.mark.timeout(900)]


def damage(stack: Stack, topic: str, value: bytes) -> None:
    """Change one byte of a record's value in the file in which the broker keeps it."""
    [segment] = stack.settings.home.rglob(f"{topic}-0/*.log")
    with segment.open("r+b") as file:
        file.seek(segment.read_bytes().index(value))
        file.write(b"?")


async def append(cluster: Cluster, partition: int, values: list[bytes]) -> None:
    records = [(b"k", value, (), None) for value in values]
    await cluster.producer.send_batch(cluster.runtime.topic("in"), partition, records)


async def seconds_until_read(cluster: Cluster, worker: Worker, number: int) -> float:
    began_s, value = time.monotonic(), b"other %d" % number
    await append(cluster, 1, [value])
    await until(lambda: value in worker.values)
    return time.monotonic() - began_s


async def test_damaged_records_stop_their_partition_until_they_are_skipped(private_stack: Stack):
    runtime = private_stack.runtime("damaged")
    admin = AIOKafkaAdminClient(**runtime.broker.aiokafka_options())
    await admin.start()
    async with BatchProducer(ProducerSettings(runtime.broker, "fill")) as producer:
        cluster = Cluster(runtime, admin, producer)
        await cluster.create("in", partitions=2)
        await cluster.create("control", partitions=1)
        topic, control = runtime.topic("in"), runtime.topic("control")
        for start in (0, 5, 10):  # three batches of records
            await append(cluster, 0, [b"record %d" % n for n in range(start, start + 5)])
        damage(private_stack, topic, b"record 7")
        worker = Worker(cluster, topics=[topic])
        worker.app.supervise(Control(runtime.broker, control, "work", [worker.intake]))
        stuck = TopicPartition(topic, 0)
        async with running(worker):
            waits_s = [await seconds_until_read(cluster, worker, number) for number in range(20)]
            await until(lambda: worker.intake.status()[stuck].waiting)
            waits_s += [
                await seconds_until_read(cluster, worker, number) for number in range(20, 60)
            ]
            assert max(waits_s[1:]) <= ANSWER_MAX_S, waits_s
            waiting = worker.intake.status()[stuck].waiting
            assert waiting is not None
            assert waiting.startswith(f"PARTITION_STUCK: {topic}-0@5 cannot be read"), waiting
            assert not worker.app.crashed
            order = build_order(Position(topic, 0, 5), "ann", "a broken disk")
            await producer.send(control, order.component.encode(), msgspec.json.encode(order))
            await until(lambda: b"record 14" in worker.values)
            assert worker.intake.status()[stuck].waiting is None
    await admin.close()
    read = [record.offset for record in worker.records if record.partition == 0]
    assert read == [*range(5), *range(10, 15)]
