"""The intake on the real broker: what Kafka's client does with positions, groups and transactions is not imagined."""

from __future__ import annotations

import asyncio
import re
import struct
from collections import Counter

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.record.util import calc_crc32c

from runtime.dead_letters.sink import KafkaDeadLetterSink
from runtime.kafka.batches import RecordBatch
from runtime.kafka.broker_queries import fetch_held_partitions
from runtime.kafka.control import Control
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.kafka.records import readable_headers
from runtime.security import BrokerAddress
from schemas import codec
from schemas.errors import OffsetHole, Rejected
from schemas.events import DeadLetter
from tests.support.intake_cluster import (
    Worker,
    assert_joined,
    cluster,
    looks,
    numbers,
    running,
    until,
)

__all__ = ["cluster", "looks"]

pytestmark = pytest.mark.integration


async def test_everything_of_a_pattern_is_read_once_in_order_and_committed(cluster):
    await cluster.create("a.raw", "b.raw", "a.raw.dlt")
    for name in ("a.raw", "b.raw", "a.raw.dlt"):
        await cluster.fill(name, 3_000)
    pattern = rf"^{re.escape(cluster.runtime.prefix)}[a-z]\.raw$"
    worker = Worker(cluster, pattern=pattern, settings={"batch_records_max": 300})
    async with running(worker):
        await until(lambda: len(worker.records) >= 6_000)
        # A topic that comes later is read, too, and from its beginning.
        await cluster.create("c.raw")
        await cluster.fill("c.raw", 500)
        await until(lambda: len({r.value for r in worker.records if "c.raw" in r.topic}) == 500)
    per_topic = Counter(record.topic.rpartition(".")[0][-1] for record in worker.records)
    assert per_topic["a"] == per_topic["b"] == 3_000
    assert max(len(batch.records) for batch in worker.batches) <= 300
    reached: dict[TopicPartition, int] = {}
    for batch in worker.batches:
        reached[batch.tp] = batch.next_offset
    assert await cluster.committed_offsets() == reached, (
        "what is done is committed at the latest when the worker stops"
    )
    assert not any(tp.topic.endswith(".dlt") for tp in reached)


@pytest.mark.parametrize("count", [1, 2])
async def test_a_topic_that_is_made_while_static_members_restart_is_read(cluster, count):
    """Their assignment was that of before, at every start again, and a new provider was never read (issue 12)."""
    await cluster.create("a.raw", partitions=2)
    pattern = rf"^{re.escape(cluster.runtime.prefix)}[a-z]\.raw$"

    def workers() -> list[Worker]:
        return [
            Worker(
                cluster,
                pattern=pattern,
                settings={"group_instance_id": f"w-{number}"},
                watchdog={"interval_ms": 300},
            )
            for number in range(count)
        ]

    before = workers()
    async with running(*before):
        await until(lambda: sum(len(worker.intake.status()) for worker in before) == 2)
    await cluster.create("b.raw", partitions=2)
    await cluster.fill("b.raw", 100)
    after = workers()
    async with running(*after):
        # The group may divide the partitions once more after the last record was handled.
        await until(lambda: {v for worker in after for v in worker.values} == numbers(100))
        await until(lambda: sum(len(worker.intake.status()) for worker in after) == 4)
        await until(lambda: len({tp for worker in after for tp in worker.intake.status()}) == 4)


async def test_a_successor_goes_on_where_the_last_one_stopped(cluster):
    await cluster.create("in")
    topic = cluster.runtime.topic("in")
    await cluster.fill("in", 1_000)
    first = Worker(cluster, topics=[topic])
    async with running(first):
        await until(lambda: len(first.records) == 1_000)
        held = await fetch_held_partitions(cluster.admin, cluster.group)
        assert held == {*first.intake.status()}, "what the client tells the group, others can read"
    await cluster.fill("in", 500, first=1_000)
    second = Worker(cluster, topics=[topic])
    async with running(second):
        await until(lambda: len(second.records) >= 500)
        await asyncio.sleep(0.1)
    assert set(second.values) == numbers(1_500) - numbers(1_000)
    assert len(second.records) == 500
    assert_joined(first.batches + second.batches)


async def test_a_worker_that_joins_takes_over_without_loss(cluster):
    await cluster.create("in")
    topic = cluster.runtime.topic("in")
    workers = [
        Worker(cluster, topics=[topic], settings={"batch_records_max": 20}) for _ in range(3)
    ]
    enough, count = asyncio.Event(), 0

    async def keep_filling() -> None:
        nonlocal count
        while not enough.is_set():
            await cluster.fill("in", 100, first=count)
            count += 100
            await asyncio.sleep(0.02)

    filling = asyncio.create_task(keep_filling())
    async with running(workers[0]):
        await until(lambda: workers[0].records)
        async with running(workers[1]):
            await until(lambda: workers[1].records)
            async with running(workers[2]):
                await until(lambda: workers[2].records)
                enough.set()
                await filling
                everything = numbers(count)
                await until(lambda: {v for w in workers for v in w.values} == everything)
    values = Counter(v for worker in workers for v in worker.values)
    assert set(values) == everything
    # A rebalance waits for the work in progress and commits it, so an orderly change does nothing twice.
    assert sum(values.values()) == count
    assert sum((await cluster.committed_offsets()).values()) == count


async def test_positions_that_are_claimed_win_over_committed_ones(cluster):
    await cluster.create("in", partitions=2)
    topic = cluster.runtime.topic("in")
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
    for number in (0, 1):
        await cluster.producer.send_batch(
            topic, number, [(b"k", b"%d" % i, (), None) for i in range(100)]
        )
    async with running(worker := Worker(cluster, topics=[topic])):
        await until(lambda: len(worker.records) == 200)

    class Positions:
        def __init__(self) -> None:
            self.released: list[set[TopicPartition]] = []

        async def claim(self, partitions):
            return {first: 90}

        async def release(self, partitions):
            self.released.append(set(partitions))

    positions = Positions()
    async with running(worker := Worker(cluster, topics=[topic], positions=positions)):
        await until(lambda: len(worker.records) >= 10)
        await cluster.producer.send_batch(topic, 1, [(b"k", b"new", (), None)])
        await until(lambda: b"new" in worker.values)
    assert [(r.partition, r.offset) for r in worker.records if r.partition == 0] == [
        (0, i) for i in range(90, 100)
    ]
    assert [r.value for r in worker.records if r.partition == 1] == [b"new"]
    assert positions.released == [{first, second}]


async def test_markers_and_aborted_records_lie_inside_batches_and_are_no_lag(cluster, looks):
    await cluster.create("in", partitions=1)
    topic = cluster.runtime.topic("in")
    transactional = AIOKafkaProducer(
        **cluster.runtime.broker.aiokafka_options(),
        transactional_id=cluster.runtime.topic("tx"),
    )
    await transactional.start()
    try:
        for number in range(12):
            await transactional.begin_transaction()
            await transactional.send_and_wait(topic, b"%d" % number, b"k")
            await (
                transactional.abort_transaction()
                if number % 3 == 2
                else transactional.commit_transaction()
            )
    finally:
        await transactional.stop()
    watchdog = {"stall_ms": 1_200, "interval_ms": 200}
    async with running(
        worker := Worker(
            cluster, topics=[topic], watchdog=watchdog, settings={"batch_records_max": 3}
        )
    ):
        await until(lambda: len(worker.records) == 8)
        tp = TopicPartition(topic, 0)
        await until(lambda: worker.intake.status()[tp].reached_offset == 24)

        async def is_committed() -> bool:
            return await cluster.committed_offsets() == {tp: 24}

        await until(
            is_committed
        )  # or it would be lag to the others of the group, and missing once it is deleted
        await looks.go_on_for(1_200, worker)
        assert not worker.app.crashed, "an aborted record and a marker at the end are no stall"
        await cluster.producer.send_batch(topic, 0, [(b"k", b"last", (), None)])
        await until(lambda: b"last" in worker.values)
        gaps = worker.intake.gap_offsets
    assert worker.values == [b"%d" % i for i in range(12) if i % 3 != 2] + [b"last"]
    assert_joined(worker.batches[:-1])
    assert (worker.batches[-1].from_offset, worker.batches[-1].next_offset) == (24, 25)
    assert gaps > 0, "what lies behind a marker was asked for twice, and believed"


async def test_a_long_aborted_stretch_at_the_start_holds_nothing_up(cluster):
    """As `pitboss ledger rebind` writes it, so that new offsets are behind the old ones."""
    await cluster.create("in", partitions=1)
    topic = cluster.runtime.topic("in")
    transactional = AIOKafkaProducer(
        **cluster.runtime.broker.aiokafka_options(), transactional_id=cluster.runtime.topic("tx")
    )
    await transactional.start()
    try:
        await transactional.begin_transaction()
        for number in range(6_000):
            await transactional.send(topic, b"%d" % number, b"k", partition=0)
        await transactional.flush()
        await transactional.abort_transaction()
    finally:
        await transactional.stop()
    await cluster.producer.send_batch(topic, 0, [(b"k", b"first", (), None)])

    class FromStart:
        async def claim(self, partitions):
            return dict.fromkeys(partitions, 0)

        async def release(self, partitions):
            del partitions

    async with running(worker := Worker(cluster, topics=[topic], positions=FromStart())):
        await until(lambda: worker.values == [b"first"])
        await cluster.producer.send_batch(topic, 0, [(b"k", b"second", (), None)])
        await until(lambda: worker.values == [b"first", b"second"])
        assert worker.intake.status()[TopicPartition(topic, 0)].reached_offset == 6_003
    assert_joined(worker.batches)


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
async def test_a_compressed_record_of_a_connector_is_read(cluster, compression):
    await cluster.create("in", partitions=1)
    topic = cluster.runtime.topic("in")
    settings = ProducerSettings(cluster.runtime.broker, "connector", compression=compression)
    async with BatchProducer(settings) as producer:
        await producer.send_batch(topic, 0, [(b"k", b"%d" % i, (), None) for i in range(100)])
    async with running(worker := Worker(cluster, topics=[topic])):
        await until(lambda: len(worker.records) == 100)
    assert worker.values == [b"%d" % i for i in range(100)]


async def test_records_deleted_before_they_were_read_end_the_worker_by_name(cluster):
    await cluster.create("in", partitions=1)
    topic = cluster.runtime.topic("in")
    await cluster.producer.send_batch(topic, 0, [(b"k", b"v", (), None)] * 10)
    async with running(worker := Worker(cluster, topics=[topic])):
        await until(lambda: len(worker.records) == 10)
    await cluster.producer.send_batch(topic, 0, [(b"k", b"v", (), None)] * 10)
    await cluster.admin.delete_records(
        {TopicPartition(topic, 0): RecordsToDelete(before_offset=15)}
    )
    async with running(worker := Worker(cluster, topics=[topic])):
        await until(lambda: worker.app.crashed)
    assert isinstance(worker.app.crash_reason, OffsetHole)
    assert worker.app.crash_reason.exit_code == 73
    assert worker.records == []
    assert await cluster.committed_offsets() == {TopicPartition(topic, 0): 10}, (
        "positions are never reset"
    )


async def append_with_header_name(broker: BrokerAddress, topic: str, name: bytes) -> int:
    """Append a record whose header's name is any bytes, which no client of Python's writes; its offset."""
    producer = AIOKafkaProducer(**broker.aiokafka_options())
    await producer.start()
    try:
        batch = producer.create_batch()
        batch.append(key=b"k", value=b"v", timestamp=None, headers=[("N" * len(name), b"x")])
        written = bytearray(batch._build())
        start = written.index(b"N" * len(name))
        written[start : start + len(name)] = name
        struct.pack_into(">I", written, 17, calc_crc32c(bytes(written[21:])))
        batch._buffer = written
        sent = await (await producer.send_batch(batch, topic, partition=0))
        return sent.offset
    finally:
        await producer.stop()


async def test_a_header_whose_name_is_not_utf8_is_the_problem_of_its_record_alone(cluster):
    await cluster.create("in", partitions=1)
    topic = cluster.runtime.topic("in")
    await cluster.producer.send_batch(topic, 0, [(b"k", b"before", [("a", b"1")], None)])
    offset = await append_with_header_name(cluster.runtime.broker, topic, b"\xff\xfename")
    await cluster.producer.send_batch(topic, 0, [(b"k", b"behind", [("b", None)], None)])
    async with running(worker := Worker(cluster, topics=[topic])):
        await until(lambda: len(worker.records) == 3)
        before, bad, behind = worker.records
        assert (bad.offset, bad.key, bad.value) == (offset, b"k", b"v")
        for _ in range(2):
            with pytest.raises(Rejected, match="BAD_HEADER: the name of a header is not UTF-8"):
                _ = bad.headers
        assert readable_headers(bad) == ()
        assert ([*before.headers], [*behind.headers]) == ([("a", b"1")], [("b", None)])
        assert before.timestamp <= bad.timestamp <= behind.timestamp


async def test_a_command_pauses_and_resumes_every_worker(cluster, looks):
    await cluster.create("in", partitions=2)
    await cluster.create("control", partitions=1)
    topic, control = cluster.runtime.topic("in"), cluster.runtime.topic("control")
    limits = {"stall_ms": 800, "unheld_stall_ms": 800, "interval_ms": 100}
    workers = [Worker(cluster, topics=[topic], watchdog=limits) for _ in range(2)]
    for worker in workers:
        worker.app.supervise(Control(cluster.runtime.broker, control, "work", [worker.intake]))

    async def command(text: bytes) -> None:
        await cluster.producer.send(control, b"work", text)

    async with running(*workers):
        await until(lambda: all(worker.intake.status() for worker in workers))

        def waiting() -> list[str | None]:
            return [status.waiting for w in workers for status in w.intake.status().values()]

        async def all_obey() -> bool:
            await command(b"nonsense")
            await command(b'{"command":"reload","component":"*"}')  # of an earlier release
            await command(b'{"command":"pause","component":"*"}')
            await asyncio.sleep(0.1)
            return all(waiting())

        await until(all_obey)  # both listen now
        await command(b'{"command":"resume","component":"*"}')
        await until(lambda: not any(waiting()))
        await command(b'{"command":"pause","component":"other"}')
        await command(b'{"command":"pause","component":"work"}')
        await until(lambda: all(waiting()))
        await cluster.fill("in", 100)
        await looks.go_on_for(800, *workers)
        assert not any(worker.records or worker.app.crashed for worker in workers), (
            "a pause is not a stall"
        )
        await command(b'{"command":"resume","component":"*"}')
        await until(lambda: sum(len(worker.records) for worker in workers) == 100)


async def test_an_unusable_record_becomes_a_dead_letter_and_the_partition_goes_on(cluster):
    await cluster.create("in", partitions=2)
    await cluster.create("in.dlt", partitions=1)
    topic = cluster.runtime.topic("in")
    await cluster.fill("in", 200)
    worker = Worker(cluster, topics=[topic])
    sink = KafkaDeadLetterSink(worker.producer, "work", "test")

    async def reject_sevens(batch: RecordBatch) -> None:
        for record in batch.records:
            if (record.value or b"").endswith(b"7"):
                await sink.publish(record, "MALFORMED", "ends in 7")

    worker.on_batch = reject_sevens
    async with running(worker):
        await until(lambda: len(worker.records) == 200)
    reader = Worker(cluster, topics=[f"{topic}.dlt"])
    async with running(reader):
        await until(lambda: len(reader.records) == 20)
    letters = {codec.decoder(DeadLetter)(record.value).value for record in reader.records}
    assert letters == {value for value in numbers(200) if value.endswith(b"7")}
    assert all(dict(record.headers)["code"] == b"MALFORMED" for record in reader.records)
