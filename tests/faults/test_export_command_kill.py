"""SIGKILL to `pitboss replay export` itself, five times, on a real broker: `--resume` ends with the same bytes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pitboss.ops.topic_admin import create_topics
from pitboss.settings import worker_environment
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas.topics import TRANSACTIONS
from tests.support.fix_stack import SEED
from tests.support.memory_log import START_MS, transactions_log

pytestmark = [
    pytest.mark.integration,
    pytest.mark.faults,
    pytest.mark.prove,
    pytest.mark.timeout(900),
]

KILLS = 5
PARTITIONS, RECORDS = 24, 1_500
"""Each partition is one piece of the export."""
RATE = 6_000
"""Records a second: a piece takes a quarter of a second, so that kills land within one."""
PIECES_BETWEEN_MAX = 3
DEADLINE_S = 180.0


async def append_log(runtime) -> int:
    """Append events as a normaliser does, with the append times of the log in memory."""
    await create_topics(runtime.broker, runtime.namespace, ["hub88"], PARTITIONS, 1)
    log = transactions_log(TRANSACTIONS, PARTITIONS, RECORDS)
    count = 0
    async with BatchProducer(ProducerSettings(runtime.broker, "pitboss.test")) as producer:
        for partition, rows in log.records[TRANSACTIONS].items():
            records = [(row.key, row.value, (), max(START_MS, row.timestamp_ms)) for row in rows]
            await producer.send_batch(runtime.topic(TRANSACTIONS), partition, records)
            count += len(records)
    return count


def start_export(runtime, result: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pitboss.cli.main", "replay", "export", TRANSACTIONS]
    return subprocess.Popen(
        [*command, "--out", str(result), "--json", *options],
        env=worker_environment(runtime),
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def export(runtime, result: Path, *options: str) -> dict[str, object]:
    process = start_export(runtime, result, *options)
    output, _ = process.communicate(timeout=DEADLINE_S * 2)
    assert process.returncode == 0
    return json.loads(output)


def journal_lines(result: Path) -> int:
    journal = result.with_name(result.name + ".partial") / "journal.jsonl"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def contents(result: Path) -> dict[str, str]:
    """Digests of the result and of the manifest, which is in the folder or beside the file."""
    files = result.parent.glob(result.name + "*") if result.is_file() else result.rglob("*")
    return {
        str(file.relative_to(result.parent)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.is_file()
    }


@pytest.mark.parametrize("name", ["folder", "file.parquet"])
def test_five_kills_of_the_command_leave_the_same_bytes(runtime, tmp_path, name):
    count = asyncio.run(append_log(runtime))
    whole, result = tmp_path / "whole" / name, tmp_path / "killed" / name
    for file in (whole, result):
        file.parent.mkdir()
    undisturbed = export(runtime, whole, "--rate", "0")
    assert undisturbed["rows"] == count == PARTITIONS * RECORDS
    rng = random.Random(f"{SEED} {name}")
    reached = 0
    for kill in range(KILLS):
        options = ("--rate", str(RATE), *(["--resume"] if kill else []))
        process = start_export(runtime, result, *options)
        wanted = reached + rng.randrange(1, PIECES_BETWEEN_MAX + 1)
        deadline = time.monotonic() + DEADLINE_S
        while journal_lines(result) < wanted and process.poll() is None:
            assert time.monotonic() < deadline, "the export does not go on"
            time.sleep(0.001)
        time.sleep(rng.random() * RECORDS / RATE)  # anywhere within a piece
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it had ended before the kill"
        assert journal_lines(result) >= wanted
        reached = journal_lines(result)
    assert not result.exists()
    resumed = export(runtime, result, "--rate", "0", "--resume")
    assert resumed == undisturbed
    assert contents(result) == contents(whole)
    assert contents(result)
