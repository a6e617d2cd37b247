"""Records that began to wait behind a dead letter after the restored moment wait again, and are released by its redrive."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager

import psycopg
import pytest
from click.testing import CliRunner

from ledger_sink.booking.handler import create_ledger_app
from ledger_sink.booking.settings import LedgerSettings
from pitboss.cli.main import cli
from pitboss.embedded.databases import drop_database
from pitboss.ops.operator_events import build_record
from pitboss.ops.topic_admin import create_topics
from pitboss.settings import worker_environment
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas.topics import raw_topic
from streams.normalise.handler import create_worker
from streams.normalise.settings import NormaliseSettings, ParkSettings
from tests.support.fraud_log import wait_until
from tests.support.restore_points import restore_backup, take_backup

pytestmark = [pytest.mark.integration, pytest.mark.prove, pytest.mark.timeout(240)]

KEY = {"hmac_hex": "cd" * 32}
HELD = """
    SELECT p.topic, p.part, p.source_offset, p.jam_from, p.body, p.released_at IS NULL, j.waits_for, j.until_offset
      FROM dead_letters.parked p JOIN dead_letters.jam j
        ON (j.topic, j.part, j.from_offset) = (p.topic, p.part, p.jam_from)
     ORDER BY 1, 2, 3
"""


@asynccontextmanager
async def working(runtime):
    places = runtime.broker, runtime.namespace, "test"
    park = ParkSettings(runtime.database_url, frozenset({"house"}))
    normalise = create_worker(NormaliseSettings(*places, {"house": KEY}, park=park)).app
    ledger = create_ledger_app(
        LedgerSettings(runtime.broker, runtime.database_url, runtime.namespace, "test"), {}
    )
    async with AsyncExitStack() as stack:
        for app in (normalise, ledger):
            await app.start()
            stack.push_async_callback(app.stop)
        yield


async def send(runtime, number: int, amount: str) -> None:
    event = {
        "operation": "bonus.granted",
        "id": f"b-{number}",
        "player_id": "p-1",
        "amount": amount,
        "currency": "EUR",
        "campaign_id": "c",
    }
    body, headers = build_record(event, KEY, "acme", 1_790_000_000_000 + number)
    async with BatchProducer(ProducerSettings(runtime.broker, "test")) as producer:
        await producer.send(runtime.topic(raw_topic("house")), b"p-1", body, headers)


def rows(runtime, query: str):
    with psycopg.connect(runtime.database_url) as connection:
        return connection.execute(query).fetchall()


async def until_rows(runtime, query: str, expected) -> None:
    async def is_so() -> bool:
        return bool(rows(runtime, query) == expected)

    await wait_until(is_so, query)


async def run(runtime, settings, *arguments: str):
    environment = {**worker_environment(runtime), **settings}
    result = await asyncio.to_thread(
        CliRunner().invoke, cli, [*arguments, "--json"], env=environment
    )
    assert result.exit_code == 0, (result.output, result.stderr, result.exception)
    return json.loads(result.stdout)


async def test_what_began_to_wait_after_the_restored_moment_waits_again(runtime, tmp_path):
    await create_topics(runtime.broker, runtime.namespace, ["house"], 2, 1)
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"house": KEY}))
    keys.chmod(0o600)
    settings = {"PITBOSS_PARK": "house", "PITBOSS_KEYS_FILE": str(keys)}
    count = "SELECT count(*)::int FROM entry"
    async with working(runtime):
        await send(runtime, 0, "1.00")
        await until_rows(runtime, count, [(1,)])
        backup = take_backup(runtime, "b1")
        await send(runtime, 1, "no amount")
        for number in (2, 3):
            await send(runtime, number, "2.00")
        await until_rows(runtime, "SELECT count(*)::int FROM dead_letters.parked", [(2,)])
    held = rows(runtime, HELD)
    assert [one[5] for one in held] == [True, True]
    restore_backup(runtime, backup)
    assert rows(runtime, HELD) == []
    done = await run(runtime, settings, "ledger", "recover", "--to-log", "--by", "ann")
    assert rows(runtime, HELD) == held
    assert done["held"]["parked"] == 2
    again = await run(runtime, settings, "ledger", "recover", "--to-log", "--by", "ann")
    assert again["finished"] is True
    assert rows(runtime, HELD) == held
    async with working(runtime):
        why = ("--by", "ann", "--reason", "no amount at all")
        await run(runtime, settings, "dlt", "drop", "--all", *why)
        await until_rows(runtime, "SELECT bonus_minor::int FROM wallet", [(500,)])
    drop_database(backup)
