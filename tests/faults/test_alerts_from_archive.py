"""Live and replayed alerts are identical, with two kills, and again when the broker has lost everything.

A million events by default; `PITBOSS_TEST_ALERT_EVENTS` sets another number.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import psycopg
import pytest
from confluent_kafka.admin import AdminClient

from fraud_agents.detectors.catalogue import SIGNAL_DETECTORS
from pitboss.ops.topic_admin import create_topics
from replay.archive.archived_log import ArchivedLog
from replay.archive.archiver import Archiver
from replay.archive.cut import CutRule
from replay.archive.restore import RestoreOptions, plan_restore, restore
from replay.archive.store import LocalStore
from replay.log.broker import BrokerLog
from schemas.events import FraudAlert
from schemas.topics import ALERTS
from tests.faults.test_fraud_kill import (
    DETECTORS_MIN,
    EXIT_WITHIN_S,
    by_id,
    finish,
    production_worker,
    running,
)
from tests.support import fraud_log
from tests.support.archive_books import FileBooks
from tests.support.fix_stack import SEED
from tests.support.fraud_log import PARTITIONS, read_alerts
from tests.support.labelled_log import TOPICS, append_sent, interleave, rerun, small_traffic

pytestmark = [
    pytest.mark.integration,
    pytest.mark.faults,
    pytest.mark.prove,
    pytest.mark.timeout(1_800),
]

EVENTS = int(os.environ.get("PITBOSS_TEST_ALERT_EVENTS", "1000000"))
CATCH_UP_S = 900


async def watch(runtime, output: Path, kills: int) -> dict[str, FraudAlert]:
    """Let the production worker read the log to its end, with SIGKILLs on the way."""
    total, killed = sum((await fraud_log.ends(runtime)).values()), 0

    async def read_so_far() -> int:
        return sum((await fraud_log.committed_offsets(runtime)).values())

    while killed < kills:
        due = total * (killed + 1) // (kills + 1)

        async def is_due(due: int = due) -> bool:
            return await read_so_far() >= due

        with running(production_worker(runtime), output) as process:
            await fraud_log.wait_until(is_due, f"{due} of {total} events", CATCH_UP_S)
            process.send_signal(signal.SIGKILL)
            process.wait(EXIT_WITHIN_S)
        killed += 1
    await finish(runtime, production_worker(runtime), output)
    return by_id(await read_alerts(runtime))


async def test_alerts_are_the_same_live_replayed_and_restored(runtime, tmp_path):
    await fraud_log.make_topics(runtime)
    await append_sent(runtime, interleave(small_traffic(), EVENTS, SEED))
    live = await watch(runtime, tmp_path / "worker.log", kills=2)
    rules = {alert.rule_id for alert in live.values()}
    assert len(rules) >= DETECTORS_MIN
    assert rules >= SIGNAL_DETECTORS.keys()
    topics = {name: runtime.topic(name) for name in TOPICS}
    store = LocalStore(tmp_path / "archive")
    with BrokerLog(runtime.broker) as broker:
        assert await asyncio.to_thread(rerun, broker, runtime.prefix) == live
        later_ms = time.time_ns() // 1_000_000 + 10**9  # every span of time is over
        books = FileBooks(tmp_path / "books")
        archiver = Archiver(broker, store, books, runtime.prefix, CutRule(), lambda: later_ms)
        assert archiver.archive(TOPICS)
        original = broker.all_bounds(topics.values())
    archive = ArchivedLog(store, runtime.prefix)
    assert await asyncio.to_thread(rerun, archive, runtime.prefix) == live

    # The broker loses everything, and the fraud worker its snapshots.
    admin = AdminClient(runtime.broker.librdkafka_options())
    lost = {*topics.values(), runtime.topic(ALERTS)}
    for future in admin.delete_topics([*lost]).values():
        future.result(60)

    async def is_gone() -> bool:
        return lost.isdisjoint(admin.list_topics(timeout=20).topics)

    await fraud_log.wait_until(is_gone, "the topics are deleted")
    await create_topics(runtime.broker, runtime.namespace, ["hub88"], PARTITIONS, PARTITIONS)
    with psycopg.connect(runtime.database_url) as connection:
        connection.execute("DELETE FROM fraud.snapshot")
        connection.execute("DELETE FROM fraud.activation")
    await asyncio.to_thread(restore_log, runtime, store)
    with BrokerLog(runtime.broker) as broker:
        assert broker.all_bounds(topics.values()) == original
    assert await watch(runtime, tmp_path / "again.log", kills=0) == live


def restore_log(runtime, store: LocalStore) -> None:
    archive, options = ArchivedLog(store), RestoreOptions(TOPICS)
    with BrokerLog(runtime.broker) as broker:
        planned = plan_restore(archive, broker, runtime.prefix, options)
    restore(runtime.broker, archive, runtime.prefix, planned, options)
