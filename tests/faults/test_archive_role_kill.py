"""SIGKILL to the real archive worker at ten points, on a real broker and database, while records come.

Afterwards nothing is missing or double, and the files are, byte for byte, those of a run that nobody disturbed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from pitboss.cli.main import cli
from pitboss.ops.topic_admin import create_topics
from pitboss.settings import Runtime, worker_environment
from pitboss.workers.supervisor import WorkerProcess
from replay.archive.manifest import spans_of
from replay.archive.store import LocalStore
from replay.log.broker import BrokerLog
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas.topics import raw_topic
from tests.support.fix_stack import SEED

pytestmark = [
    pytest.mark.integration,
    pytest.mark.faults,
    pytest.mark.prove,
    pytest.mark.timeout(1_200),
]

KILLS = 10
PROVIDERS = ("hub88", "house")
TOPICS = tuple(map(raw_topic, PROVIDERS))
PARTITIONS = 8
"""Of each topic: every span ends in sixteen files, one after the other."""
SPAN_MS = 4_000
RECORDS_PER_TURN, TURN_S = 8, 0.02
DEADLINE_S = 240.0
PLANNED = "SELECT count(*), count(*) FILTER (WHERE sha256 IS NULL) FROM archive_file"

Look = Callable[[], tuple[int, int]]
"""Returns how many files are planned, and how many of these are not complete."""


@asynccontextmanager
async def records_coming(runtime: Runtime) -> AsyncIterator[list[int]]:
    """Append records to all partitions until the block ends; yields their number, which rises."""
    rng, is_over, appended = random.Random(f"{SEED} records"), asyncio.Event(), [0]

    async def append() -> None:
        async with BatchProducer(ProducerSettings(runtime.broker, "pitboss.test")) as producer:
            while not is_over.is_set():
                for topic in TOPICS:
                    partition = rng.randrange(PARTITIONS)
                    records = [
                        (b"p-%d" % rng.randrange(99), rng.randbytes(rng.randrange(400)), (), None)
                        for _ in range(RECORDS_PER_TURN)
                    ]
                    await producer.send_batch(runtime.topic(topic), partition, records)
                    appended[0] += len(records)
                await asyncio.sleep(TURN_S)

    task = asyncio.create_task(append())
    try:
        yield appended
    finally:
        is_over.set()
        await task


def archive_worker(runtime: Runtime, home: Path, folder: Path) -> WorkerProcess:
    variables = {"PITBOSS_ARCHIVE": str(folder), "PITBOSS_ARCHIVE_SPAN_MS": str(SPAN_MS)}
    return WorkerProcess("archive", runtime, home=home, environment=variables)


async def reach(worker: WorkerProcess, is_reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not is_reached():
        assert worker.is_alive, worker.log.read_text()[-2_000:]
        assert time.monotonic() < deadline, worker.log.read_text()[-2_000:]
        await asyncio.sleep(0.001)


async def kill_ten_times(worker: WorkerProcess, look: Look) -> int:
    """Kill the worker within its passes; return how many kills have left a file half-made."""
    rng, half_made = random.Random(SEED), 0
    for _ in range(KILLS):
        planned, _ = look()
        wanted = planned + rng.randrange(1, PARTITIONS * len(TOPICS))
        worker.start()
        await reach(worker, lambda wanted=wanted: look()[0] >= wanted)  # type: ignore[misc]  # of a default in a lambda
        await asyncio.sleep(rng.random() * 0.005)  # anywhere within a file
        worker.kill()
        assert worker.exit_code == -signal.SIGKILL, "it had ended before the kill"
        half_made += look()[1] > 0
    return half_made


async def run_to_the_end(runtime: Runtime, worker: WorkerProcess, look: Look) -> None:
    """Let the worker archive all that is on the broker, and stop it as a supervisor does."""
    with BrokerLog(runtime.broker) as log:
        ends = {
            (topic, partition): end
            for topic in TOPICS
            for partition, (_, end) in log.bounds(runtime.topic(topic)).items()
        }

    def is_archived() -> bool:
        with psycopg.connect(runtime.database_url) as connection:
            rows = connection.execute(
                "SELECT topic, part, max(next_offset) FROM archive_file GROUP BY 1, 2"
            ).fetchall()
        reached = {(topic, part): offset for topic, part, offset in rows}
        return look()[1] == 0 and all(reached.get(key, 0) == end for key, end in ends.items())

    worker.start()
    await reach(worker, is_archived)
    assert worker.stop(), "it did not drain"
    assert worker.exit_code == 0, worker.log.read_text()[-2_000:]


def digests(folder: Path) -> dict[str, str]:
    store = LocalStore(folder)
    return {path: hashlib.sha256(store.get(path)).hexdigest() for path in store.list()}


async def verify(runtime: Runtime, folder: Path) -> dict[str, object]:
    command = ["archive", "verify", "--target", str(folder), "--json"]
    env = worker_environment(runtime)
    done = await asyncio.to_thread(CliRunner().invoke, cli, command, env=env)
    assert done.exit_code == 0, (done.stdout, done.stderr)
    return json.loads(done.stdout)


async def test_ten_kills_of_the_role_leave_the_same_files(runtime, tmp_path):
    await create_topics(runtime.broker, runtime.namespace, PROVIDERS, PARTITIONS, PARTITIONS)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    worker = archive_worker(runtime, tmp_path, killed)
    with psycopg.connect(runtime.database_url, autocommit=True) as connection:

        def look() -> tuple[int, int]:
            [(planned, unfinished)] = connection.execute(PLANNED).fetchall()
            return planned, unfinished

        try:
            async with records_coming(runtime) as appended:
                half_made = await kill_ten_times(worker, look)
            await run_to_the_end(runtime, worker, look)
        finally:
            worker.kill()
        files, _ = look()
        # Another worker finds no positions, so it archives the same log from its beginning.
        connection.execute("TRUNCATE archive_file")
        undisturbed = archive_worker(runtime, tmp_path, whole)
        try:
            await run_to_the_end(runtime, undisturbed, look)
        finally:
            undisturbed.kill()
    print(f"seed {SEED}: {appended[0]:,} records in {files} files, {half_made} half-made by a kill")
    assert half_made, "no kill met a file that was being written: it shows nothing"
    assert digests(killed) == digests(whole)
    report = await verify(runtime, killed)
    assert report["faults"] == []
    assert (report["records"], report["partitions"]) == (appended[0], PARTITIONS * len(TOPICS))
    spans = spans_of(LocalStore(killed).list())
    assert len(spans) == files
    assert sum(span.to_offset - span.from_offset for span in spans) == appended[0]
