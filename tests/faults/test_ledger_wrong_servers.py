"""A broker and a database that do not belong together: refused by name, and not a row or position is touched."""

from __future__ import annotations

import asyncio
import shutil
import signal

import psycopg
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from ledger_sink.store.migrate import migrate
from pitboss.embedded.databases import create_database, drop_database
from pitboss.ops.topic_admin import create_topics
from schemas.errors import LogMismatch
from schemas.topics import TRANSACTIONS, UNRESOLVED
from tests.faults.ledger_scene import PARTITIONS, PROVIDERS, new_scene, traffic
from tests.support.fraud_log import wait_until
from tests.support.ledger_events import deposit, house, leg
from tests.support.stack_faults import kill_server, restart_server

pytestmark = [pytest.mark.integration, pytest.mark.faults, pytest.mark.timeout(900)]


async def play(scene) -> None:
    """Some traffic, booked and resolved; then the workers are drained, so that their groups have committed all of it."""
    await scene.append(traffic(1))
    await scene.append([house("deposit.opened", "dep", leg("INFORMATIONAL", 100), player="p-1")])
    await scene.append(
        [deposit("psp", 100, player=None, reference=("deposit.opened", "dep"))], UNRESOLVED
    )
    with scene.worker("ledger-1") as ledger, scene.worker("resolve-1", role="resolve") as resolve:
        while scene.rows("SELECT count(*) FROM parked WHERE appended") != [(1,)]:
            assert (ledger.poll(), resolve.poll()) == (None, None), scene.logs()
            await asyncio.sleep(0.05)
        await scene.published(processes=[ledger, resolve])
        for process in (ledger, resolve):
            process.send_signal(signal.SIGTERM)
            assert await scene.ended(process) == 0, scene.logs()


async def refused(scene, role: str = "ledger") -> str:
    with scene.worker(f"{role}-1", role=role) as process:
        assert await scene.ended(process) == LogMismatch.exit_code, scene.logs()
    said = [
        line
        for line in (scene.folder / f"{role}-1.log").read_text().splitlines()
        if "LOG_MISMATCH" in line
    ]
    assert said, scene.logs()
    return "\n".join(said)


def everything(scene):
    return {
        table: scene.rows(f"SELECT t::text FROM {table} t ORDER BY 1")
        for table in (
            "entry",
            "repeat",
            "transfer",
            "wallet",
            "closing",
            "parked",
            "batch",
            "installation",
        )
    } | {
        "position": scene.rows(
            "SELECT consumer, part, next_offset, published_offset FROM stream_position ORDER BY 1, 2"
        )
    }


@pytest.fixture
async def scene(runtime, tmp_path):
    return await new_scene(runtime, tmp_path)


@pytest.mark.prove
async def test_a_wiped_broker_under_a_kept_database(private_stack, namespace, tmp_path):
    runtime = private_stack.runtime(namespace)
    create_database(runtime)
    scene = await new_scene(runtime, tmp_path)
    await play(scene)
    before = everything(scene)
    await asyncio.to_thread(kill_server, private_stack.kafka)
    shutil.rmtree(private_stack.kafka.folder / "data")
    await asyncio.to_thread(restart_server, private_stack, private_stack.kafka)
    await create_topics(
        runtime.broker,
        runtime.namespace,
        PROVIDERS,
        partitions=PARTITIONS,
        raw_partitions=PARTITIONS,
    )
    for phase in (5, 6):  # as long as the old log, and longer: no offset alone would tell
        assert "belongs to cluster and partition count" in await refused(scene)
        assert "belongs to cluster and partition count" in await refused(scene, "resolve")
        await scene.append(traffic(phase, count=900))
    assert everything(scene) == before


async def test_a_wiped_database_under_a_kept_broker(scene):
    await play(scene)
    drop_database(scene.runtime)
    create_database(scene.runtime)
    migrate(scene.runtime.database_url)
    for role in ("ledger", "resolve"):
        assert "the database is at 0, the group was at" in await refused(scene, role)
    assert scene.rows("SELECT count(*) FROM entry") == [(0,)]


@pytest.mark.parametrize("role", ["ledger", pytest.param("resolve", marks=pytest.mark.prove)])
async def test_a_database_that_is_an_older_copy(scene, role):
    await play(scene)
    with psycopg.connect(scene.runtime.database_url) as connection:
        connection.execute(
            "UPDATE stream_position SET next_offset = next_offset - 1 WHERE next_offset > 0"
        )
    before = everything(scene)
    assert "it is an older copy or another database" in await refused(scene, role)
    assert everything(scene) == before


@pytest.mark.parametrize("role", ["ledger", pytest.param("resolve", marks=pytest.mark.prove)])
@pytest.mark.parametrize("refilled", [False, pytest.param(True, marks=pytest.mark.prove)])
async def test_a_topic_that_was_deleted_and_made_again(scene, role, refilled):
    await play(scene)
    before = everything(scene)
    runtime, topic = scene.runtime, TRANSACTIONS if role == "ledger" else UNRESOLVED
    admin = AIOKafkaAdminClient(**runtime.broker.aiokafka_options())
    await admin.start()
    await admin.delete_topics([runtime.topic(topic)])

    # The broker answers before it has taken the log away, and would write to the old one what we append to the new.
    async def is_gone():
        return runtime.topic(topic) not in await admin.list_topics()

    await wait_until(is_gone, f"{topic} to be gone")
    await admin.close()
    await create_topics(
        runtime.broker,
        runtime.namespace,
        PROVIDERS,
        partitions=PARTITIONS,
        raw_partitions=PARTITIONS,
    )
    if refilled and role == "ledger":
        await scene.append(traffic(1, count=900))
    elif refilled:
        await scene.append(
            [
                deposit(f"x-{n}", 1, player=None, reference=("deposit.opened", "dep"))
                for n in range(9)
            ],
            topic,
        )
    said = await refused(scene, role)
    assert ("the log holds another record there" if refilled else "the log ends at 0") in said
    assert everything(scene) == before


@pytest.mark.prove
async def test_another_partition_count(scene):
    await play(scene)
    before = everything(scene)
    admin = AIOKafkaAdminClient(**scene.runtime.broker.aiokafka_options())
    await admin.start()
    await admin.create_partitions(
        {scene.runtime.topic(TRANSACTIONS): NewPartitions(total_count=PARTITIONS * 2)}
    )
    await admin.close()
    assert "belongs to cluster and partition count" in await refused(scene)
    assert everything(scene) == before
