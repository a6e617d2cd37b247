"""The archive on real servers: the role, what it keeps, and a restore whose ledger is equal."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from click.testing import CliRunner
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient

from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.migrate import migrate
from pitboss.cli.main import cli
from pitboss.embedded.databases import create_database, drop_database
from pitboss.ops.ledger_replay import replay_ledger_to
from pitboss.ops.topic_admin import create_topics
from pitboss.settings import runtime_of, worker_environment
from pitboss.workers.supervisor import WorkerProcess
from replay.archive.archived_log import ArchivedLog, JoinedLog
from replay.archive.archiver import Archiver
from replay.archive.cut import CutRule
from replay.archive.outcomes import outcomes_file, read_outcomes
from replay.archive.store import LocalStore
from replay.audit.evidence import read_tables
from replay.ledger.rebuild import read_prefix, rebuild_ledger
from replay.log.blocks import LogGap
from replay.log.broker import BrokerLog
from runtime.kafka.partitioner import partition_for
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas.topics import TRANSACTIONS, raw_topic
from tests.support.archive_books import FileBooks
from tests.support.fix_stack import SEED
from tests.support.replay_story import PARTITIONS, POLICIES, RAW_PARTITIONS, START_MS, tell_story

pytestmark = pytest.mark.integration

RAW = raw_topic("hub88")
DEADLINE_S = 120


async def invoke(runtime, folder, *arguments: str):
    env = {**worker_environment(runtime), "PITBOSS_ARCHIVE": str(folder)}
    return await asyncio.to_thread(CliRunner().invoke, cli, [*arguments, "--json"], env=env)


async def run(runtime, folder, *arguments: str, code: int = 0):
    result = await invoke(runtime, folder, *arguments)
    assert result.exit_code == code, (result.output, result.stderr, result.exception)
    return json.loads(result.stdout) if result.stdout else result.stderr


async def append_raw(runtime) -> None:
    headers = [("content-type", b"application/json"), ("x-signature", b"\x00\xff"), ("brand", None)]
    settings = ProducerSettings(runtime.broker, "pitboss.test")
    async with BatchProducer(settings) as producer:
        for number in range(20):
            value = None if number == 7 else b"\x00{%d" % number
            key = b"\xfe%d" % number if number % 2 else None
            await producer.send(
                runtime.topic(RAW), key, value, headers if number % 3 else (), partition=number % 2
            )


async def read_all(runtime, name: str, partitions: int) -> list[tuple]:
    consumer = AIOKafkaConsumer(**runtime.broker.aiokafka_options(), auto_offset_reset="earliest")
    await consumer.start()
    places = [TopicPartition(runtime.topic(name), number) for number in range(partitions)]
    consumer.assign(places)
    ends = await consumer.end_offsets(places)
    found = []
    for place in places:
        while await consumer.position(place) < ends[place]:
            found.append(await consumer.getone(place))
    await consumer.stop()
    return [
        (one.partition, one.offset, one.timestamp, one.key, one.value, one.headers) for one in found
    ]


@pytest.mark.timeout(300)
async def test_the_role_archives_and_a_restored_log_gives_the_same_ledger(
    runtime, stack, namespaces, tmp_path
):
    folder = tmp_path / "archive"
    await tell_story(runtime, SEED, 300)
    await append_raw(runtime)
    variables = {"PITBOSS_ARCHIVE": str(folder), "PITBOSS_ARCHIVE_SPAN_MS": "1000"}
    worker = WorkerProcess("archive", runtime, home=tmp_path, environment=variables)
    worker.start()
    try:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            status = await run(runtime, folder, "archive", "status")
            topics = {row["topic"]: row for row in status["partitions"]}
            left = [row["behind"] + row["unfinished"] for row in status["partitions"]]
            if RAW in topics and TRANSACTIONS in topics and not any(left):
                break
            assert time.monotonic() < deadline, (status, worker.log.read_text())
            await asyncio.sleep(0.2)
    finally:
        worker.terminate()
        assert worker.wait(60)
    report = await run(runtime, folder, "archive", "verify")
    assert report["faults"] == []

    other = runtime_of(stack.kafka, stack.database_url, namespaces())
    create_database(other)
    try:
        await create_topics(other.broker, other.namespace, ["hub88"], PARTITIONS, RAW_PARTITIONS)
        names = ["--topic", TRANSACTIONS, "--topic", RAW]
        planned = await run(other, folder, "archive", "restore", *names, "--dry-run")
        restored = await run(other, folder, "archive", "restore", *names)
        assert [one["records"] for one in planned] == [one["records"] for one in restored]
        for name, partitions in ((TRANSACTIONS, PARTITIONS), (RAW, RAW_PARTITIONS)):
            original = await read_all(runtime, name, partitions)
            assert await read_all(other, name, partitions) == original
            assert original
        assert "holds records up to" in await run(
            other, folder, "archive", "restore", *names, code=2
        )
        again = await run(other, folder, "archive", "restore", *names, "--resume")
        assert sum(one["records"] for one in again) == 0

        # The ledger that books the restored log has the live ledger's rows.
        live = LedgerDatabase(runtime.database_url, "pitboss.test")
        prefix = await read_prefix(live, runtime.topic(TRANSACTIONS), None)
        migrate(other.database_url)
        with BrokerLog(other.broker) as source:
            counts = await rebuild_ledger(
                other.database_url, source, other.topic(TRANSACTIONS), prefix, POLICIES
            )
        assert counts.events == 300
        rebuilt = LedgerDatabase(other.database_url, "pitboss.test")
        ours, theirs = await read_tables(live), await read_tables(rebuilt)
        assert theirs.wallets == ours.wallets
        assert theirs.digests == ours.digests
        await live.close()
        await rebuilt.close()
    finally:
        drop_database(other)


@pytest.mark.prove
@pytest.mark.timeout(300)
async def test_the_ledger_is_rebuilt_across_the_seam(runtime, tmp_path, monkeypatch):
    monkeypatch.setattr("pitboss.ops.ledger_replay.policies", lambda: POLICIES)
    await tell_story(runtime, SEED, 200)
    topic = runtime.topic(TRANSACTIONS)
    store = LocalStore(tmp_path)
    with BrokerLog(runtime.broker) as broker:
        books = FileBooks(tmp_path / ".books")
        later_ms = START_MS + 10**9
        rule = CutRule(records_max=30)
        archiver = Archiver(broker, store, books, runtime.prefix, rule, lambda: later_ms)
        assert archiver.archive([TRANSACTIONS])
        ends = broker.bounds(topic)
    admin = AdminClient(runtime.broker.librdkafka_options())
    gone = [KafkaPartition(topic, number, end // 2) for number, (_, end) in ends.items()]
    for future in admin.delete_records(gone).values():
        future.result(60)
    with BrokerLog(runtime.broker) as broker:
        assert all(begin == end // 2 for begin, end in broker.bounds(topic).values())
        with pytest.raises(LogGap, match="read what is older from the archive"):
            await replay_ledger_to(runtime, broker, None)
        joined = JoinedLog(ArchivedLog(store, runtime.prefix), broker)
        replay = await replay_ledger_to(runtime, joined, None)
    assert replay.identical
    assert replay.events == 200
    await balances_are_those_of_the_log(runtime, tmp_path, first_held=gone)


async def question_of_change(runtime, folder, players, places) -> tuple[str, ...]:
    """Return the command for a player whose wallet changes: of some seeds one has only refused bets."""
    for player in players:
        question = ("ledger", "balance", player, "--at")
        first = await invoke(runtime, folder, *question, places[0])
        last = await invoke(runtime, folder, *question, places[-1])
        if first.stdout != last.stdout:
            return question
    raise AssertionError("no wallet changes")


async def balances_are_those_of_the_log(runtime, folder, first_held) -> None:
    """Ask for a player's wallet at times that the broker has forgotten, with and without an archive."""
    with psycopg.connect(runtime.database_url) as connection:
        connection.execute(
            "INSERT INTO installation (cluster_id, partitions) VALUES ('test', %s)", [PARTITIONS]
        )
    partition = partition_for(b"p-1", PARTITIONS)
    held = next(one.offset for one in first_held if one.partition == partition)
    store = ArchivedLog(LocalStore(folder), runtime.prefix)
    [block, *_] = store.read(runtime.topic(TRANSACTIONS), partition, 0, held)
    later: list[tuple[int, int]] = []
    for offset, at_ms in zip(block.offsets, block.timestamps_ms, strict=True):
        if not later or at_ms > later[-1][1]:
            later.append((offset, at_ms))
    # A copy of an earlier record has its time, and counts for the time of the record before it.
    places = {
        at_ms: f"{TRANSACTIONS}-{partition}@{behind - 1}"
        for (_, at_ms), (behind, _) in pairwise(later)
    }
    players = sorted({key.decode() for key in block.keys if key})
    balance = await question_of_change(runtime, folder, players, [*places.values()])
    answers = set()
    for at_ms, place in places.items():
        at = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()
        by_place = await invoke(runtime, folder, *balance, place)
        by_time = await invoke(runtime, folder, *balance, at)
        assert (by_time.exit_code, by_time.stdout) == (by_place.exit_code, by_place.stdout)
        assert by_time.exit_code in {0, 1}, by_time.stderr  # 1: no wallet yet
        answers.add(by_time.stdout)
    assert len(answers) > 1
    (folder / "empty").mkdir()
    refused = await invoke(runtime, folder / "empty", *balance, at)
    assert refused.exit_code == LogGap.exit_code, (refused.stderr, refused.exception)
    assert "set PITBOSS_ARCHIVE" in refused.stderr


@pytest.mark.timeout(300)
async def test_a_recorded_slice_is_played_into_a_topic_of_its_own(runtime, tmp_path):
    story = await tell_story(runtime, SEED, 100)
    folder, into = tmp_path / "slice", f"replayed.{runtime.namespace}"
    recorded = await run(
        runtime,
        tmp_path,
        "replay",
        "record",
        TRANSACTIONS,
        "--out",
        str(folder),
        "--reason",
        "a test",
    )
    assert sum(one["records"] for one in recorded) == 100
    outcomes = read_outcomes(outcomes_file(folder))
    assert {one.event_id for one in outcomes} == {
        row.event.event_id for rows in story.log.values() for row in rows
    }
    assert {one.outcome for one in outcomes} >= {"POSTED", "REFUSED_FUNDS"}
    assert (await run(runtime, tmp_path, "archive", "verify", "--target", str(folder)))[
        "faults"
    ] == []
    env = worker_environment(runtime)
    command = ["replay", "play", str(folder), "--speed", "0", "--into"]
    refused = await asyncio.to_thread(CliRunner().invoke, cli, [*command, TRANSACTIONS], env=env)
    assert refused.exit_code == 2
    played = await asyncio.to_thread(CliRunner().invoke, cli, [*command, into], env=env)
    assert played.exit_code == 0, (played.output, played.stderr, played.exception)
    assert "100 records played" in played.stdout
    admin = AdminClient(runtime.broker.librdkafka_options())
    try:
        original = await read_all(runtime, TRANSACTIONS, PARTITIONS)
        bare = replace(runtime, namespace="")
        assert await read_all(bare, into, PARTITIONS) == original
    finally:
        admin.delete_topics([into])[into].result(60)
