"""`pitboss replay record` of a run of real workers gives the golden slices that are kept of it.

`PITBOSS_TEST_RECORD_SLICES=yes` keeps what this run gave.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time

import pytest
from click.testing import CliRunner

from pitboss.cli.main import cli
from pitboss.demo.environment import running_workers
from pitboss.ops.provision import provision
from pitboss.settings import worker_environment
from replay.archive.archived_log import ArchivedLog
from replay.archive.outcomes import outcomes_file, read_outcomes
from replay.archive.record import in_time_order
from replay.archive.store import LocalStore
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.kafka.topic_reader import read_topics
from schemas.topics import (
    OUTCOMES,
    PLAYER_EVENTS,
    TRANSACTIONS,
    UNRESOLVED,
    dead_letter_topic,
    raw_topic,
)
from tests.support.golden_slices import FOLDER, outcomes_now
from tests.support.recorded_slices import KEY, recorded_stories

pytestmark = [pytest.mark.integration, pytest.mark.prove, pytest.mark.timeout(240)]

ROLES = ("normalise", "ledger", "resolve")
DEADLINE_S = 90.0


async def append(runtime, topic: str, messages) -> None:
    async with BatchProducer(ProducerSettings(runtime.broker, "pitboss.test")) as producer:
        for body, headers in messages:
            await producer.send_keyed(runtime.topic(topic), [(KEY, body, headers, None)])


async def count_records(runtime, *topics: str) -> int:
    count = 0
    async for _ in read_topics(runtime.broker, {runtime.topic(topic) for topic in topics}):
        count += 1
    return count


async def settle(runtime, topic: str, messages: int) -> None:
    """Wait until each message is an event or a dead letter, all are answered, and nothing more comes."""
    deadline, before = time.monotonic() + DEADLINE_S, [0]
    while True:
        counts = [
            await count_records(runtime, name)
            for name in (dead_letter_topic(topic), PLAYER_EVENTS, TRANSACTIONS, OUTCOMES)
        ]
        letters, player_events, in_log, answered = counts
        is_read = letters + max(player_events, in_log) == messages
        if is_read and answered == in_log and counts == before:
            return
        assert time.monotonic() < deadline, counts
        before = counts
        await asyncio.sleep(1)


@pytest.mark.parametrize("name", recorded_stories())
def test_a_recorded_run_is_the_golden_slice(runtime, tmp_path, name):
    provider, messages = recorded_stories()[name]
    topic, folder = raw_topic(provider), tmp_path / name
    provision(runtime, partitions=1, raw_partitions=1, providers=[provider])
    with running_workers(runtime, tmp_path / "home", print, roles=ROLES):
        asyncio.run(append(runtime, topic, messages))
        asyncio.run(settle(runtime, topic, len(messages)))
        assert asyncio.run(count_records(runtime, UNRESOLVED)) == 0
    command = ["replay", "record", topic, "--out", str(folder), "--reason", "a golden case"]
    done = CliRunner().invoke(cli, [*command, "--json"], env=worker_environment(runtime))
    assert done.exit_code == 0, (done.output, done.exception)
    assert sum(one["records"] for one in json.loads(done.stdout)) == len(messages)
    found = read_outcomes(outcomes_file(folder))
    assert len({one.outcome for one in found}) > 1
    assert outcomes_now(folder) == found
    if os.environ.get("PITBOSS_TEST_RECORD_SLICES") == "yes":
        shutil.rmtree(FOLDER / name, ignore_errors=True)
        shutil.copytree(folder, FOLDER / name)
        shutil.copy(outcomes_file(folder), outcomes_file(FOLDER / name))
    assert found == read_outcomes(outcomes_file(FOLDER / name))
    kept = in_time_order(ArchivedLog(LocalStore(FOLDER / name)), topic)
    assert [(one.value, [*one.headers]) for one in kept] == messages
