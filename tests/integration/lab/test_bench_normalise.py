"""The bench against real servers: small runs, whose figures mean nothing and whose rules must hold all the same."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from itertools import chain, islice
from typing import Any

import msgspec
import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from msgspec.structs import replace

from lab.bench.broker import BrokerView
from lab.bench.normalise import EVENTS_MIN
from lab.bench.observation import MeasuredSubject, load, measure, observe
from lab.bench.processes import BenchFailed
from lab.bench.raw_records import hub88_records
from pitboss.cli.bench import _our_worker, _plain_faust
from pitboss.cli.bench_environment import PARTITIONS, bench_namespace
from pitboss.embedded.processes import poll
from pitboss.settings import Runtime
from runtime.kafka.producer import BatchProducer, OutRecord, ProducerSettings
from runtime.security import BrokerAddress
from schemas import codec
from schemas.events import WalletTransaction
from tests.support.sandbox_keys import shared_keys

pytestmark = pytest.mark.integration

EVENTS = 3_000
KEYS = shared_keys()


@cache
def first_records() -> list[OutRecord]:
    return next(hub88_records(KEYS, each_signed=False))


@pytest.fixture
def runtimes(stack, namespace) -> Iterator[list[Runtime]]:
    both = [stack.runtime(f"{namespace}{suffix}") for suffix in ("", "_peer")]
    with (
        bench_namespace(both[0], both[0].namespace),
        bench_namespace(both[1], both[1].namespace),
    ):
        yield both


async def load_records(subject: MeasuredSubject, runtime: Runtime, events: int) -> None:
    producer = BatchProducer(ProducerSettings(runtime.broker, "test"))
    await producer.start()
    try:
        await load(
            producer,
            subject.source,
            chain([first_records()], hub88_records(KEYS, each_signed=False)),
            events,
            seen,
        )
    finally:
        await producer.stop()


def seen(out: int, total: int) -> None:
    assert out <= total


async def append_record(topic: str, value: bytes, runtime: Runtime) -> None:
    producer = BatchProducer(ProducerSettings(runtime.broker, "test"))
    await producer.start()
    await producer.send(topic, b"key", value)
    await producer.stop()


async def events_on(
    subject: MeasuredSubject, runtime: Runtime
) -> list[tuple[int, bytes, WalletTransaction]]:
    decode = codec.decoder(WalletTransaction)
    partitions = [TopicPartition(subject.sink, number) for number in range(PARTITIONS)]
    consumer = AIOKafkaConsumer(**runtime.broker.aiokafka_options(), enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        missing = sum((await consumer.end_offsets(partitions)).values())
        found: list[tuple[int, Any]] = []
        while len(found) < missing:
            batches = await consumer.getmany(timeout_ms=500)
            found += [
                (tp.partition, record) for tp, records in batches.items() for record in records
            ]
    finally:
        await consumer.stop()
    return [(partition, record.key, decode(record.value)) for partition, record in found]


def outputs_of(found: list[tuple[int, bytes, WalletTransaction]]) -> set[tuple[int, bytes, bytes]]:
    """Everything but what must differ between two copies of one raw record: its topic and when the broker got it."""
    encode = msgspec.json.encode
    return {
        (
            partition,
            key,
            encode(replace(event, attempt=replace(event.attempt, topic=""), appended_at=0)),
        )
        for partition, key, event in found
    }


@pytest.mark.prove
async def test_both_sides_do_the_same_work(runtimes, tmp_path):
    ours = _our_worker("ours", runtimes[0], tmp_path / "ours.log", None)
    peer = _plain_faust(runtimes[1], tmp_path)
    results = []
    async with BrokerView(runtimes[0].broker) as broker:
        for subject, runtime in zip((ours, peer), runtimes, strict=True):
            await load_records(subject, runtime, EVENTS)
            looks: list[tuple[int, int]] = []

            def look(out: int, total: int, into: list[tuple[int, int]] = looks) -> None:
                into.append((out, total))

            await observe(broker, subject, look)
            assert looks[-1] == (EVENTS, EVENTS)
            results.append(await events_on(subject, runtime))
    assert len(outputs_of(results[0])) == EVENTS
    assert outputs_of(results[0]) == outputs_of(results[1])


@pytest.mark.prove
async def test_a_run_can_be_repeated_and_broken_off(runtimes, tmp_path):
    ours = _our_worker("ours", runtimes[0], tmp_path / "ours.log", None)
    await load_records(ours, runtimes[0], EVENTS_MIN)
    async with BrokerView(runtimes[0].broker) as broker:
        for run in (1, 2):
            rate = await measure(broker, ours, seen)
            assert await broker.end_offset_sum(ours.sink) == run * EVENTS_MIN
            assert EVENTS_MIN / 10 < rate.events < EVENTS_MIN
            assert rate.cpu_s > 0
        samples = await observe(broker, ours, seen, at_most=1)
        assert [sample.events > 0 for sample in samples] == [*[False] * (len(samples) - 1), True]


@pytest.mark.prove
async def test_a_record_that_is_rejected_spoils_the_run(runtimes, tmp_path, monkeypatch):
    monkeypatch.setattr("lab.bench.observation.STALL_S", 15.0)
    ours = _our_worker("ours", runtimes[0], tmp_path / "ours.log", None)
    await load_records(ours, runtimes[0], 100)
    await append_record(ours.source, b"not JSON", runtimes[0])
    async with BrokerView(runtimes[0].broker) as broker:
        with pytest.raises(BenchFailed, match="stopped at 100 of 101"):
            await observe(broker, ours, seen)


async def test_an_output_too_many_spoils_the_run(runtimes, tmp_path):
    ours = _our_worker("ours", runtimes[0], tmp_path / "ours.log", None)
    await load_records(ours, runtimes[0], 100)
    doubled: list[asyncio.Future[None]] = []

    async def double() -> None:
        await append_record(ours.sink, b"once more", runtimes[0])

    def look(out: int, total: int) -> None:
        if not doubled and out == total:
            doubled.append(asyncio.ensure_future(double()))

    class PatientView(BrokerView):
        """Looks again only once the record too many is there."""

        async def end_offset_sum(self, topic: str) -> int:
            await asyncio.gather(*doubled)
            return await super().end_offset_sum(topic)

    async with PatientView(runtimes[0].broker) as broker:
        with pytest.raises(BenchFailed, match="put out 101 records for 100"):
            await observe(broker, ours, look)


async def test_a_broker_says_how_it_is_set_and_what_it_does_not_have(runtimes):
    async with BrokerView(runtimes[0].broker) as broker:
        assert (await broker.settings())["offsets.topic.replication.factor"] == "1"
        with pytest.raises(BenchFailed, match=r"the topic nobody\.made\.it does not exist"):
            await broker.end_offset_sum("nobody.made.it")


@pytest.mark.prove
def test_the_command_prints_one_object_and_leaves_nothing_behind(stack, tmp_path):
    def everything() -> tuple[set[str], set[str]]:
        with psycopg.connect(stack.database_url) as connection:
            databases = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
        return {name for name in databases if name.startswith("pitboss_bench_")}, asyncio.run(
            _topics(stack.kafka)
        )

    before = everything()
    command = "from pitboss.cli.bench import bench; bench()"
    options = [
        "normalise",
        "--pairs",
        "1",
        "--events",
        "20000",
        "--json",
        "--yes-use-these-servers",
    ]
    servers = {
        "PITBOSS_KAFKA": stack.kafka.servers,
        "PITBOSS_DATABASE": stack.database_url,
        "PITBOSS_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", command, *options],
        env={**os.environ, **servers},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["bench"] == "normalise"
    assert report["events"] == 20_000
    assert len(report["pairs"]) == 1
    assert report["ratio_plain_faust"] > 0
    assert report["mapping_us_per_event"] > 1
    assert report["with_signature_per_s"] > 0
    assert report["servers"]["origin"] == "named in the environment"
    assert "pair 1 of 1, plain Faust" in done.stderr
    # Another test's benchmark may run beside this one, and ends.
    assert poll(
        lambda: not (everything()[0] - before[0] or everything()[1] - before[1]), timeout_s=120
    )
    assert not list(islice(tmp_path.glob("bench_*"), 1))


async def _topics(broker: BrokerAddress) -> set[str]:
    admin = AIOKafkaAdminClient(**broker.aiokafka_options())
    await admin.start()
    try:
        return {name for name in await admin.list_topics() if name.startswith("bench_")}
    finally:
        await admin.close()
