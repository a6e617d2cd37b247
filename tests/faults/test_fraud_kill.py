"""A fraud worker killed with SIGKILL, anywhere, as often as one likes: the same alerts, none lost, none twice.

"Twice" is by id: an alert that was sent just before a kill is sent again, under its id and with the same content.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import psycopg
import pytest

from fraud_agents.detectors.catalogue import SIGNAL_DETECTORS
from lab.fraud.scoring import run_detectors
from lab.fraud.traffic import Traffic
from pitboss.settings import worker_environment
from replay.audit.rerun import name_record
from replay.log.broker import BrokerLog
from schemas.events import FraudAlert
from tests.support import fraud_log, labelled_log
from tests.support.fix_stack import SEED
from tests.support.fraud_log import T0, append, bet, burst, read_alerts, settings_of
from tests.support.labelled_log import append_sent, findings, interleave, small_traffic

pytestmark = [pytest.mark.integration, pytest.mark.faults]

EXIT_WITHIN_S = 120
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


async def replayed(runtime) -> dict[str, FraudAlert]:
    """The alerts of the topics as they are, by the code of the audit, which nothing interrupts."""

    def rerun() -> dict[str, FraudAlert]:
        with BrokerLog(runtime.broker) as broker:
            return labelled_log.rerun(broker, runtime.prefix)

    return await asyncio.to_thread(rerun)


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
    expected = await replayed(log)
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
    """Six kills at arbitrary points of a log with cases of every detector, snapshots after every batch."""
    rng, traffic = random.Random(SEED), small_traffic()
    total = await append_sent(log, interleave(traffic, 40_000, SEED))
    output, kills = tmp_path / "worker.log", 0
    for share in sorted(rng.uniform(0.02, 0.8) for _ in range(6)):
        with running(saving_worker(log), output) as process:

            async def is_saved(share: float = share) -> bool:
                assert process.poll() is None
                return saved(log) >= share * total

            await fraud_log.wait_until(is_saved, f"snapshots of {share:.0%} of the log")
            process.send_signal(signal.SIGKILL)
            process.wait(EXIT_WITHIN_S)
        kills += saved(log) < total
    assert kills == 6, f"seed {SEED}: the worker was at the end before it was killed"
    await finish(log, saving_worker(log), output)
    await check_alerts(log, traffic)


def saved(runtime) -> int:
    """Records of the log before the snapshots."""
    return sum(fraud_log.snapshots(runtime).values())


async def finish(runtime, worker, output: Path) -> None:
    """Let a worker read everything and write what it has to say of idle partitions, and end it."""
    with running(worker, output) as process:
        await labelled_log.wait_until_quiet(runtime, timeout_s=600)
        process.send_signal(signal.SIGTERM)
        assert process.wait(EXIT_WITHIN_S) == 0


async def check_alerts(runtime, traffic: Traffic) -> dict[str, FraudAlert]:
    """Compare the alerts id for id with those of the replay, and their findings with a run without Kafka.

    The replay reads the signals that the worker wrote: one that a kill had lost would be missing in both.
    """
    published = by_id(await read_alerts(runtime))
    assert published == await replayed(runtime)
    raised = await asyncio.to_thread(run_detectors, traffic)
    assert findings(published.values()) == findings(one.alert for one in raised)
    rules = {alert.rule_id for alert in published.values()}
    assert len(rules) >= DETECTORS_MIN
    assert rules >= SIGNAL_DETECTORS.keys()
    assert {alert.rule_id for alert in published.values() if alert.key.startswith("default:")} == {
        "D01"
    }
    return published


EVENTS = 1_000_000
DETECTORS_MIN = 12


@pytest.mark.prove
@pytest.mark.timeout(1_800)
async def test_a_million_events_and_two_kills(log, tmp_path):
    """The production worker with its own snapshots: the alerts are those of a run that nothing disturbed."""
    count = int(os.environ.get("PITBOSS_TEST_FRAUD_EVENTS", EVENTS))
    traffic = small_traffic()
    total = await append_sent(log, interleave(traffic, count, SEED))
    assert total > count
    output, kills = tmp_path / "worker.log", 0
    for share in (0.3, 0.65):
        with running(production_worker(log), output) as process:

            async def is_there(share: float = share) -> bool:
                return sum((await fraud_log.committed_offsets(log)).values()) >= share * total

            await fraud_log.wait_until(is_there, f"{share:.0%} of the log", timeout_s=600)
            process.send_signal(signal.SIGKILL)
            process.wait(EXIT_WITHIN_S)
        kills += sum((await fraud_log.committed_offsets(log)).values()) < total
    assert kills == 2, "the worker was at the end before it was killed"
    await finish(log, production_worker(log), output)
    await check_alerts(log, traffic)
