"""A paused ledger: its real worker takes no records, also after a kill, and books all of them once resumed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from click.testing import CliRunner

from ledger_sink.booking.settings import GROUP
from pitboss.cli.main import cli
from pitboss.embedded.processes import poll
from pitboss.ops.operator_events import build_record
from pitboss.ops.pauses import list_pauses
from pitboss.ops.provision import provision
from pitboss.settings import Runtime, worker_environment
from pitboss.workers.supervisor import WorkerProcess
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas.topics import TRANSACTIONS, raw_topic

pytestmark = pytest.mark.integration

DEADLINE_S = 120
BUSY_TRIES = 10
"""A server that is so busy that it answers late counts as away, and `status` is asked again."""
PARTITIONS, RECORDS = 2, 20


@pytest.fixture
def scene(runtime: Runtime, tmp_path: Path) -> Iterator[Scene]:
    provision(runtime, partitions=PARTITIONS, raw_partitions=2, providers=["house"])
    made = Scene(runtime, tmp_path)
    yield made
    for worker in (made.normaliser, made.ledger):
        worker.kill()


class Scene:
    """One normaliser and one ledger worker on a real log, and what a person types beside them."""

    def __init__(self, runtime: Runtime, home: Path) -> None:
        self.runtime = runtime
        self.normaliser = WorkerProcess("normalise", runtime, home=home)
        self.ledger = WorkerProcess("ledger", runtime, home=home)
        self._environment = {**worker_environment(runtime), "PITBOSS_HOME": str(home)}
        self._appended = 0

    def type(self, *arguments: str) -> str:
        for _ in range(BUSY_TRIES):
            done = CliRunner().invoke(cli, arguments, env=self._environment, catch_exceptions=False)
            if arguments[0] != "status" or done.exit_code != 3:
                break
        # Nothing is sealed here, and the other roles have no worker.
        is_expected = done.exit_code in ((0, 1) if arguments[0] == "status" else (0,))
        assert is_expected, done.output
        return done.stdout

    def trace(self) -> list[dict[str, Any]]:
        """Return the hops of an event that is booked."""
        with psycopg.connect(self.runtime.database_url) as connection:
            [event_id] = connection.execute("SELECT event_id FROM entry LIMIT 1").fetchone() or [""]
        [attempt] = json.loads(self.type("trace", str(event_id), "--json"))["attempts"]
        return sorted(attempt["hops"], key=lambda hop: hop["at_ms"])

    def append(self) -> None:
        """Append bonuses of players of their own to the raw topic, as a connector does."""
        asyncio.run(self._append())

    async def _append(self) -> None:
        producer = BatchProducer(ProducerSettings(self.runtime.broker, "test"))
        await producer.start()
        for number in range(self._appended, self._appended + RECORDS):
            event = {
                "operation": "bonus.granted",
                "player_id": f"p-{number}",
                "amount": "1.00",
                "currency": "EUR",
                "campaign_id": "test",
            }
            body, headers = build_record(event, None, "default", time.time_ns() // 1_000_000)
            key = str(event["player_id"]).encode()
            await producer.send(self.runtime.topic(raw_topic("house")), key, body, headers)
        await producer.stop()
        self._appended += RECORDS

    def booked(self) -> int:
        with psycopg.connect(self.runtime.database_url) as connection:
            row = connection.execute(
                "SELECT count(*) FROM entry WHERE outcome = 'POSTED'"
            ).fetchone()
        assert row is not None
        return int(row[0])

    def logged(self, text: str) -> int:
        return self.ledger.log.read_text().count(text) if self.ledger.log.exists() else 0

    def notes(self) -> list[str]:
        """The reason that the ledger worker commits with the offset of each partition that waits."""
        return asyncio.run(self._notes())

    async def _notes(self) -> list[str]:
        admin = AIOKafkaAdminClient(**self.runtime.broker.aiokafka_options())
        await admin.start()
        offsets = await admin.list_consumer_group_offsets(self.runtime.group(GROUP))
        await admin.close()
        return [offset.metadata.partition(" ")[2] for offset in offsets.values()]

    def log_records(self) -> int:
        return asyncio.run(self._log_records())

    async def _log_records(self) -> int:
        from aiokafka import AIOKafkaConsumer, TopicPartition

        consumer = AIOKafkaConsumer(**self.runtime.broker.aiokafka_options())
        await consumer.start()
        topic = self.runtime.topic(TRANSACTIONS)
        ends = await consumer.end_offsets(
            [TopicPartition(topic, number) for number in range(PARTITIONS)]
        )
        await consumer.stop()
        return sum(ends.values())


def until(condition: Callable[[], object]) -> None:
    assert poll(lambda: bool(condition()), DEADLINE_S)


def test_a_paused_ledger_books_nothing_until_it_is_resumed_also_after_a_kill(scene):
    would = json.loads(
        scene.type("pause", "ledger", "--by", "ana", "--reason", "audit", "--dry-run", "--json")
    )
    assert would["dry_run"]
    assert [(row["role"], row["changed"]) for row in would["roles"]] == [("ledger", True)]
    assert list_pauses(scene.runtime) == [], "a dry run writes nothing"
    line = scene.type("pause", "ledger", "--by", "ana", "--reason", "audit")
    assert line.startswith("ledger is paused since ")
    assert line.endswith(" by ana: audit\n")
    again = scene.type("pause", "ledger", "--by", "bo", "--reason", "other")
    assert "already paused" in again
    assert "by ana: audit" in again

    scene.normaliser.start()
    scene.ledger.start()
    scene.append()
    until(lambda: scene.log_records() == RECORDS)
    until(lambda: sum("by ana: audit" in note for note in scene.notes()) == PARTITIONS)
    assert scene.booked() == 0
    assert scene.logged("is paused since") == 1
    status = json.loads(scene.type("status", "--json"))
    assert [(row["component"], row["by"], row["reason"]) for row in status["paused"]] == [
        ("ledger", "ana", "audit")
    ]
    [ledger] = [row for row in status["roles"] if row["role"] == "ledger"]
    assert ledger["lag_records"] == RECORDS
    waits = [row["waits_for"] for row in ledger["partitions"] if row["lag_records"]]
    assert waits
    assert all(why is not None and why.endswith("by ana: audit") for why in waits), waits
    assert status["oldest_unanswered_s"] > 0
    assert (status["open"], status["unsealed_s"], status["never_sealed"]) == ([], None, 0)
    assert status["notes"] == []
    frame = json.loads(scene.type("top", "--once", "--json"))
    assert sum(row["lag_records"] for row in frame["roles"] if row["role"] == "ledger") == RECORDS
    assert "ledger    paused since" in scene.type("status")
    assert "by ana: audit" in scene.type("doctor")

    scene.ledger.kill()
    scene.ledger.start()
    until(lambda: scene.logged("is paused since") == 2)
    assert scene.booked() == 0

    assert scene.type("resume", "ledger") == "ledger is resumed\n"
    until(lambda: scene.booked() == RECORDS)
    until(lambda: len(scene.trace()) == 5)
    steps = [hop["step"] for hop in scene.trace()]
    assert steps[:3] == ["received", "raw", "log"]
    assert sorted(steps[3:]) == ["balance", "outcome"]  # both are sent at once
    assert json.loads(scene.type("status", "--json"))["paused"] == []

    scene.type("pause", "ledger", "--by", "bo", "--reason", "again")
    until(lambda: scene.logged("by bo: again") == 1)
    scene.append()
    until(lambda: scene.log_records() == 2 * RECORDS)
    assert scene.booked() == RECORDS
    scene.type("resume", "all")
    until(lambda: scene.booked() == 2 * RECORDS)
    assert scene.ledger.is_alive, "a pause is not an error"
    assert scene.ledger.stop()
    assert scene.ledger.exit_code == 0
