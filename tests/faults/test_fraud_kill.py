"""A fraud worker killed with SIGKILL, anywhere, as often as one likes: the same alerts, none lost, none twice.

"Twice" is by id: an alert that was sent just before a kill is sent again, under its id and with the same content.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import psycopg
import pytest

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.partition import PartitionDetectors
from pitboss.settings import worker_environment
from replay.audit.rerun import name_record
from runtime.kafka.producer import BatchProducer, OutRecord, ProducerSettings
from schemas import codec
from schemas.events import FraudAlert, WalletTransaction
from schemas.topics import TRANSACTIONS
from tests.support import fraud_log
from tests.support.fix_stack import SEED
from tests.support.fraud_log import PARTITIONS, T0, append, bet, burst, read_alerts, settings_of

pytestmark = [pytest.mark.integration, pytest.mark.faults]

EXIT_WITHIN_S = 60
LIFELINE = [sys.executable, "-m", "pitboss.workers.lifeline"]


@pytest.fixture
async def log(runtime):
    await fraud_log.make_topics(runtime)
    return runtime


def production_worker(runtime) -> tuple[list[str], dict[str, str]]:
    return [*LIFELINE, "pitboss.workers", "fraud"], worker_environment(runtime, "fraud-0")


def saving_worker(runtime) -> tuple[list[str], dict[str, str]]:
    settings = asdict(settings_of(runtime, snapshot_records=1, group_instance_id="fraud-0"))
    del settings["rules"]
    return [*LIFELINE, "tests.faults.fraud_worker", json.dumps(settings)], dict(os.environ)


@contextmanager
def running(worker, log_file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process; killed at the end if the test has not done so, and shown if it ended by itself."""
    command, environment = worker
    with log_file.open("ab") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=output, stderr=output
        )
        try:
            yield process
        finally:
            ended = process.poll()
            if ended is None:
                process.kill()
            process.communicate(timeout=EXIT_WITHIN_S)
    assert ended in (None, 0, -signal.SIGKILL), log_file.read_text()[-4_000:]


async def straight(runtime) -> list[FraudAlert]:
    """What the detectors say of the log as it is, read once and without any interruption."""
    decode = codec.decoder(WalletTransaction)
    watches = [PartitionDetectors(DEFAULT_RULES, part) for part in range(PARTITIONS)]
    alerts = []
    for record in await fraud_log.read_all(runtime, TRANSACTIONS):
        alerts += watches[record.partition].observe(decode(record.value), record.offset)
    return alerts


def by_id(alerts: list[FraudAlert]) -> dict[str, FraudAlert]:
    """One of each id; every copy must be equal to it in all its fields."""
    found: dict[str, FraudAlert] = {}
    for alert in alerts:
        assert found.setdefault(name_record(alert), alert) == alert
    return found


@pytest.mark.parametrize("worker", [production_worker, saving_worker])
async def test_killed_in_the_middle_of_a_burst(log, worker, tmp_path):
    """Half of a burst is watched, the worker is killed, the other half comes: one alert, as if nothing had been."""
    quiet = [bet(f"quiet-{n % 9}", T0 + n * 100, f"q{n}") for n in range(300)]
    fast = burst("fast", T0, 600)
    await append(log, sorted(quiet + fast[:100], key=lambda event: event.occurred_at))
    output = tmp_path / "worker.log"
    with running(worker(log), output) as process:
        await fraud_log.wait_until_processed(log)
        process.send_signal(signal.SIGKILL)
        process.wait(EXIT_WITHIN_S)
    assert await read_alerts(log) == []
    await append(log, fast[100:])
    with running(worker(log), output) as process:
        await fraud_log.wait_until_processed(log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(EXIT_WITHIN_S) == 0
    expected = by_id(await straight(log))
    assert [alert.observed for alert in expected.values()] == [120, 500]
    assert by_id(await read_alerts(log)) == expected

    # And a real worker that runs through the same log uninterrupted raises the very same alerts.
    with psycopg.connect(log.database_url) as connection:
        connection.execute("DELETE FROM fraud.snapshot")
    before = len(await read_alerts(log))
    with running(worker(log), output):

        async def again() -> bool:
            return len(await read_alerts(log)) >= before + 2

        await fraud_log.wait_until(again, "the alert of an uninterrupted run")
    assert by_id(await read_alerts(log)) == expected


@pytest.mark.prove
async def test_killed_over_and_over_while_catching_up(log, tmp_path):
    """A long log with bursts everywhere, six kills at arbitrary points of it, snapshots after every batch."""
    rng = random.Random(SEED)
    events = [bet(f"quiet-{rng.randrange(300)}", T0 + n * 10, f"q{n}") for n in range(40_000)]
    for n in range(24):
        # Up to 600 a burst, so some reach the threshold and some do not; stragglers and copies among them.
        own = burst(f"fast-{n}", T0 + rng.randrange(330_000), rng.choice([480, 560, 600]))
        events += own + rng.sample(own, 20)
    events.sort(key=lambda event: (event.occurred_at + rng.randrange(20_000), event.event_id))
    await append(log, events)
    expected = by_id(await straight(log))
    assert 4 <= sum(alert.severity == "hold" for alert in expected.values()) < 24

    output, total, kills = tmp_path / "worker.log", len(events), 0
    with psycopg.connect(log.database_url, autocommit=True) as connection:

        def saved() -> int:
            if connection.execute("SELECT to_regclass('fraud.snapshot')").fetchone() == (None,):
                return 0
            [[offsets]] = connection.execute(
                "SELECT coalesce(sum(next_offset), 0) FROM fraud.snapshot"
            ).fetchall()
            return int(offsets)

        for share in sorted(rng.uniform(0.02, 0.8) for _ in range(6)):
            with running(saving_worker(log), output) as process:
                deadline = time.monotonic() + 60
                while saved() < share * total:
                    assert time.monotonic() < deadline, f"{saved()} of {total} after 60 s"
                    assert process.poll() is None
                process.send_signal(signal.SIGKILL)
                process.wait(EXIT_WITHIN_S)
            kills += saved() < total
        assert kills == 6, f"seed {SEED}: the worker was at the end before it was killed"

    # The group's offsets would not do: a kill between a last snapshot and its commit leaves them behind until more comes.
    goal = await fraud_log.ends(log)
    with running(saving_worker(log), output) as process:

        async def at_the_end() -> bool:
            return fraud_log.snapshots(log) == goal

        await fraud_log.wait_until(at_the_end, f"snapshots at {goal}")
        process.send_signal(signal.SIGTERM)
        assert process.wait(EXIT_WITHIN_S) == 0
    assert by_id(await read_alerts(log)) == expected


EVENTS = 1_000_000
CHUNK = 20_000


def long_log(rng: random.Random, count: int) -> Iterator[WalletTransaction]:
    """Bets of many players, among them bursts over and under the threshold, and copies; in order of time."""
    bursts: dict[str, int] = {}
    at_ms = T0
    for number in range(count):
        at_ms += rng.randrange(4)
        if rng.random() < 0.00004:
            bursts[f"fast-{number}"] = rng.choice([100, 130, 480, 520, 600])
        player = f"quiet-{rng.randrange(20_000)}"
        if bursts and rng.random() < 0.4:
            player = rng.choice(sorted(bursts))
            bursts[player] -= 1
            if not bursts[player]:
                del bursts[player]
        # One in a hundred is sent again later, under the same id.
        tx = f"t{number - rng.randrange(1, 500)}" if rng.random() < 0.01 else f"t{number}"
        yield bet(player, at_ms, tx)


async def append_and_watch(runtime, count: int) -> dict[str, FraudAlert]:
    """Append the log in chunks; return what the detectors say of it, read once and undisturbed."""
    watches = [PartitionDetectors(DEFAULT_RULES, part) for part in range(PARTITIONS)]
    offsets, alerts = [0] * PARTITIONS, []
    encode, topic = codec.encoder(WalletTransaction), runtime.topic(TRANSACTIONS)
    async with BatchProducer(ProducerSettings(runtime.broker, "pitboss.test")) as producer:
        for chunk in batched(long_log(random.Random(SEED), count), CHUNK):
            records: list[list[OutRecord]] = [[] for _ in range(PARTITIONS)]
            for event in chunk:
                part = fraud_log.partition_of(event.player_id or "")
                alerts += watches[part].observe(event, offsets[part])
                offsets[part] += 1
                records[part].append(((event.player_id or "").encode(), encode(event), (), None))
            for part, own in enumerate(records):
                await producer.send_batch(topic, part, own)
    assert await fraud_log.ends(runtime) == dict(enumerate(offsets))
    return by_id(alerts)


def batched(events: Iterator[WalletTransaction], size: int) -> Iterator[list[WalletTransaction]]:
    while chunk := list(islice(events, size)):
        yield chunk


@pytest.mark.prove
@pytest.mark.timeout(1_800)
async def test_a_million_events_and_two_kills(log, tmp_path):
    """The production worker with its own snapshots: the alerts are those of a run that nothing disturbed."""
    count = int(os.environ.get("PITBOSS_TEST_FRAUD_EVENTS", EVENTS))
    expected = await append_and_watch(log, count)
    assert len(expected) >= count // 50_000
    output, kills = tmp_path / "worker.log", 0
    for share in (0.3, 0.65):
        with running(production_worker(log), output) as process:

            async def is_there(share: float = share) -> bool:
                return sum((await fraud_log.committed_offsets(log)).values()) >= share * count

            await fraud_log.wait_until(is_there, f"{share:.0%} of the log", timeout_s=600)
            process.send_signal(signal.SIGKILL)
            process.wait(EXIT_WITHIN_S)
        kills += sum((await fraud_log.committed_offsets(log)).values()) < count
    assert kills == 2, "the worker was at the end before it was killed"
    with running(production_worker(log), output) as process:
        goal = await fraud_log.ends(log)

        async def is_through() -> bool:
            return await fraud_log.committed_offsets(log) == goal

        await fraud_log.wait_until(is_through, f"the group at {goal}", timeout_s=600)
        process.send_signal(signal.SIGTERM)
        assert process.wait(EXIT_WITHIN_S) == 0
    assert by_id(await read_alerts(log)) == expected
