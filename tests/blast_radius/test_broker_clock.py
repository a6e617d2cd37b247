"""A broker's clock that is wrong deletes nothing that was not read, and is noticed."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from click.testing import CliRunner

from pitboss.cli.main import cli
from pitboss.ops.topic_admin import create_topics
from pitboss.settings import worker_environment
from runtime.kafka.clock_watch import AHEAD_MAX_MS, BEHIND_MAX_MS, WINDOW_MS, ClockWatch
from schemas.topics import catalogue, raw_topic

DAY_MS = 86_400_000


def test_no_clock_deletes_a_raw_record():
    raw = next(one for one in catalogue(["hub88"]) if one.name == raw_topic("hub88"))
    assert raw.retention_ms == -1


def test_an_append_time_ahead_of_this_clock_is_told_once_a_minute():
    watch = ClockWatch()
    assert watch.observe(10_000_000, 10_000_000 + AHEAD_MAX_MS) is None
    told = [watch.observe(10_000_000 + n * 1_000, 10_000_000 + 90 * DAY_MS) for n in range(120)]
    sentences = [one for one in told if one]
    assert len(sentences) == 2
    assert "2,160 h ahead" in sentences[0]


def test_append_times_behind_this_clock_are_told_if_no_record_is_recent():
    watch = ClockWatch()
    told = [
        watch.observe(now_ms, now_ms - BEHIND_MAX_MS - 60_000)
        for now_ms in range(0, 3 * WINDOW_MS, 1_000)
    ]
    assert len([one for one in told if one]) == 2
    assert "pitboss topics lag" in next(one for one in told if one)
    lagging = ClockWatch()
    for now_ms in range(0, 3 * WINDOW_MS, 1_000):  # old records, and now and then a recent one
        age_ms = 0 if now_ms % (WINDOW_MS // 2) == 0 else DAY_MS
        assert lagging.observe(now_ms, now_ms - age_ms) is None


@pytest.fixture
async def scene(runtime):
    await create_topics(
        runtime.broker, runtime.namespace, ["hub88"], partitions=1, raw_partitions=1
    )
    topic = runtime.topic(raw_topic("hub88"))
    async with AIOKafkaProducer(**runtime.broker.aiokafka_options()) as producer:
        for n in range(6):
            await producer.send_and_wait(topic, b"%d" % n, partition=0)
    return runtime, TopicPartition(topic, 0)


async def commit(runtime, tp, group, offset):
    client = AIOKafkaConsumer(
        **runtime.broker.aiokafka_options(),
        group_id=runtime.group(group),
        enable_auto_commit=False,
    )
    async with client as consumer:
        consumer.assign([tp])
        await consumer.commit({tp: offset})


async def trim(runtime, *options):
    done = await asyncio.to_thread(
        CliRunner().invoke,
        cli,
        ["topics", "trim", "--json", *options],
        env=worker_environment(runtime),
    )
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


async def first_offset(runtime, tp):
    async with AIOKafkaConsumer(**runtime.broker.aiokafka_options()) as consumer:
        return (await consumer.beginning_offsets([tp]))[tp]


@pytest.mark.integration
async def test_only_what_the_normaliser_has_read_is_trimmed(scene):
    runtime, tp = scene
    await commit(runtime, tp, "normalise", 0)
    assert await trim(runtime, "--older-than", "0s") == []
    await commit(runtime, tp, "normalise", 4)
    assert await trim(runtime, "--older-than", "1d") == []
    planned = await trim(runtime, "--older-than", "0s", "--dry-run")
    assert [(one["partition"], one["records"]) for one in planned] == [(0, 4)]
    assert await first_offset(runtime, tp) == 0
    assert await trim(runtime, "--older-than", "0s") == planned
    assert await first_offset(runtime, tp) == 4
    assert await trim(runtime, "--older-than", "0s") == []
