"""Live and replayed alerts are identical, with two kills, and again when the broker has lost everything.

A million events by default; `PITBOSS_TEST_ALERT_EVENTS` sets another number.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from pathlib import Path

import psycopg
import pytest
from confluent_kafka.admin import AdminClient

from pitboss.ops.topic_admin import create_topics
from replay.archive.archived_log import ArchivedLog
from replay.archive.archiver import Archiver
from replay.archive.cut import CutRule
from replay.archive.restore import RestoreOptions, plan_restore, restore
from replay.archive.store import LocalStore
from replay.audit.rerun import rerun_detectors
from replay.log.broker import BrokerLog
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas import codec
from schemas.events import FraudAlert, Position, WalletTransaction
from schemas.topics import ALERTS, TRANSACTIONS
from tests.faults.test_fraud_kill import EXIT_WITHIN_S, by_id, production_worker, running
from tests.support import fraud_log
from tests.support.archive_books import FileBooks
from tests.support.fix_stack import SEED
from tests.support.fraud_log import PARTITIONS, T0, bet, burst, read_alerts

pytestmark = [
    pytest.mark.integration,
    pytest.mark.faults,
    pytest.mark.prove,
    pytest.mark.timeout(1_800),
]

EVENTS = int(os.environ.get("PITBOSS_TEST_ALERT_EVENTS", "1000000"))
CHUNK = 20_000
CATCH_UP_S = 900


def make_events() -> list[WalletTransaction]:
    """Bets of quiet players, and bursts everywhere: some reach the warning, some the threshold."""
    rng = random.Random(f"{SEED} archive")
    events = [bet(f"quiet-{rng.randrange(5_000)}", T0 + n * 10, f"q{n}") for n in range(EVENTS)]
    for number in range(max(6, EVENTS // 20_000)):
        start_ms = T0 + rng.randrange(EVENTS * 10)
        events += burst(f"fast-{number}", start_ms, rng.choice([90, 130, 600]))
    events.sort(key=lambda event: (event.occurred_at, event.event_id))
    return events


async def append(runtime, events) -> None:
    encode = codec.encoder(WalletTransaction)
    async with BatchProducer(ProducerSettings(runtime.broker, "pitboss.test")) as producer:
        for start in range(0, len(events), CHUNK):
            records = [
                (event.player_id.encode(), encode(event), (), None)
                for event in events[start : start + CHUNK]
            ]
            await producer.send_keyed(runtime.topic(TRANSACTIONS), records)


async def watch(runtime, output: Path, kills: int) -> dict[str, FraudAlert]:
    """Let the production worker read the log to its end, with SIGKILLs on the way."""
    ends = await fraud_log.ends(runtime)
    total, killed = sum(ends.values()), 0

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

    async def is_done() -> bool:
        return await fraud_log.committed_offsets(runtime) == ends

    with running(production_worker(runtime), output) as process:
        await fraud_log.wait_until(is_done, f"all of {total} events", CATCH_UP_S)
        process.send_signal(signal.SIGTERM)
        assert process.wait(EXIT_WITHIN_S) == 0
    return by_id(await read_alerts(runtime))


def rerun(source, topic: str) -> dict[str, FraudAlert]:
    """The alerts of the log as a source has it, by the code of the audit."""
    decode = codec.decoder(WalletTransaction)

    def events(partition: int, begin: int, end: int):
        for block in source.read(topic, partition, begin, end):
            for offset, value in zip(block.offsets, block.values, strict=True):
                yield Row(Position(topic, partition, offset), decode(value or b""))

    bounds = source.bounds(topic)
    return rerun_detectors({number: events(number, *each) for number, each in bounds.items()})


class Row:
    """What the audit reads of an event of the log."""

    def __init__(self, source: Position, event: WalletTransaction) -> None:
        self.source, self.event = source, event


async def test_alerts_are_the_same_live_replayed_and_restored(runtime, tmp_path):
    await fraud_log.make_topics(runtime)
    await append(runtime, make_events())
    live = await watch(runtime, tmp_path / "worker.log", kills=2)
    assert len(live) >= 4
    topic, store = runtime.topic(TRANSACTIONS), LocalStore(tmp_path / "archive")
    with BrokerLog(runtime.broker) as broker:
        assert await asyncio.to_thread(rerun, broker, topic) == live
        later_ms = time.time_ns() // 1_000_000 + 10**9  # every span of time is over
        books = FileBooks(tmp_path / "books")
        archiver = Archiver(broker, store, books, runtime.prefix, CutRule(), lambda: later_ms)
        assert archiver.archive([TRANSACTIONS])
        original = broker.bounds(topic)
    archive = ArchivedLog(store, runtime.prefix)
    assert await asyncio.to_thread(rerun, archive, topic) == live

    # The broker loses everything, and the fraud worker its snapshots.
    admin = AdminClient(runtime.broker.librdkafka_options())
    for future in admin.delete_topics([topic, runtime.topic(ALERTS)]).values():
        future.result(60)

    async def is_gone() -> bool:
        return topic not in admin.list_topics(timeout=20).topics

    await fraud_log.wait_until(is_gone, "the topics are deleted")
    await create_topics(runtime.broker, runtime.namespace, ["hub88"], PARTITIONS, PARTITIONS)
    with psycopg.connect(runtime.database_url) as connection:
        connection.execute("DELETE FROM fraud.snapshot")
        connection.execute("DELETE FROM fraud.activation")
    await asyncio.to_thread(restore_log, runtime, store)
    with BrokerLog(runtime.broker) as broker:
        assert broker.bounds(topic) == original
    assert await watch(runtime, tmp_path / "again.log", kills=0) == live


def restore_log(runtime, store: LocalStore) -> None:
    archive, options = ArchivedLog(store), RestoreOptions((TRANSACTIONS,))
    with BrokerLog(runtime.broker) as broker:
        planned = plan_restore(archive, broker, runtime.prefix, options)
    restore(runtime.broker, archive, runtime.prefix, planned, options)
