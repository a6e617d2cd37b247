"""`pitboss replay ledger` on a real log: identical at any moment, and every changed row is named."""

from __future__ import annotations

import asyncio
import json
import random
from itertools import count

import psycopg
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from pitboss.cli.main import cli
from pitboss.ops.periods import format_time
from pitboss.ops.topic_admin import create_topics
from pitboss.settings import worker_environment
from replay.log.broker import BrokerLog
from replay.raw.comparison import records_of
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas.events import Amount
from schemas.topics import raw_topic
from streams.normalise.mapping.normaliser import Normaliser
from streams.normalise.mapping.renormalise import renormalise
from streams.providers import registry
from streams.providers.registry import DIALECTS
from tests.support.fix_stack import SEED
from tests.support.replay_story import (
    PARTITIONS,
    POLICIES,
    RAW_PARTITIONS,
    START_MS,
    tell_story,
)

pytestmark = pytest.mark.integration

EVENTS = 200


@pytest.fixture(autouse=True)
def same_policies(monkeypatch):
    """The story's ledger and the replay's follow the same rules."""
    monkeypatch.setattr("pitboss.ops.ledger_replay.policies", lambda: POLICIES)
    assert registry.policies()


async def run(runtime, *arguments: str, code: int = 0):
    command = ["replay", "ledger", "--json", "--rate", "0", *arguments]
    result = await asyncio.to_thread(
        CliRunner().invoke, cli, command, env=worker_environment(runtime)
    )
    assert result.exit_code == code, (result.output, result.stderr, result.exception)
    return json.loads(result.stdout)


CHANGES = {
    "wallet": "UPDATE wallet SET cash_minor = cash_minor + 1 WHERE player_id = 'p-4'",
    "transfer": "UPDATE transfer SET amount_minor = amount_minor + 1 WHERE (part, source_offset) ="
    " (SELECT part, source_offset FROM transfer ORDER BY source_offset LIMIT 1) AND version = 1",
    "entry": "UPDATE entry SET reason = 'LIMIT' WHERE event_id = (SELECT event_id FROM entry WHERE outcome LIKE 'REFUSED%' LIMIT 1)",
    "repeat": "DELETE FROM repeat WHERE ctid = (SELECT ctid FROM repeat LIMIT 1)",
    "closing": "DELETE FROM closing WHERE ctid = (SELECT ctid FROM closing LIMIT 1)",
}


@pytest.mark.timeout(240)
async def test_the_ledger_of_any_moment_is_rebuilt_and_a_changed_row_is_named(runtime, monkeypatch):
    # Databases of this test alone are counted: others on the same server replay beside it.
    names = (f"{runtime.namespace}_{number}" for number in count())
    monkeypatch.setattr("pitboss.ops.ledger_replay.secrets.token_hex", lambda _: next(names))
    story = await tell_story(runtime, SEED, EVENTS)
    rng = random.Random(SEED)
    seen = []
    for at_ms in sorted(START_MS + rng.randrange(50, EVENTS) * 1_000 for _ in range(3)):
        found = await run(runtime, "--to", format_time(at_ms))
        assert found["identical"] is True, found["comparison"]["differences"][:3]
        for partition, rows in story.log.items():
            times = [row.event.appended_at for row in rows]
            before = next((n for n, each in enumerate(times) if each >= at_ms), len(times))
            assert found["ends"].get(str(partition), 0) >= before
        seen.append(found["events"])
    assert seen == sorted(seen)
    whole = await run(runtime)
    assert whole["identical"] is True
    assert whole["events"] == EVENTS
    assert all(whole["comparison"]["rows"][name] for name in CHANGES)
    with psycopg.connect(runtime.database_url, autocommit=True) as connection:
        totals = connection.execute("SELECT currency, sum(cash_minor)::text FROM wallet GROUP BY 1")
        assert {one["currency"]: one["cash_minor"] for one in whole["totals"]} == dict(
            totals.fetchall()
        )
        for table, change in CHANGES.items():
            with connection.transaction(force_rollback=False):
                connection.execute(f"CREATE TABLE saved AS SELECT * FROM {table}")
            assert connection.execute(change.encode()).rowcount == 1, table
            found = await run(runtime, code=1)
            assert found["identical"] is False
            [difference] = found["comparison"]["differences"]
            assert difference["table"] == table
            if change.startswith("UPDATE"):
                column = change.split(" SET ")[1].split(" =")[0]
                assert difference["columns"] == [column]
            else:
                assert difference["live"] is None
            [behind] = found["events_behind"]
            assert behind["event"]["brand"] == "acme"
            connection.execute(f"TRUNCATE {table}".encode())
            connection.execute(f"INSERT INTO {table} SELECT * FROM saved".encode())
            connection.execute("DROP TABLE saved")
        assert (await run(runtime))["identical"] is True
        left = connection.execute(
            "SELECT count(*) FROM pg_database WHERE starts_with(datname, %s)",
            (f"pitboss_replay_{runtime.namespace}_",),
        )
        assert left.fetchall() == [(0,)]
        assert next(names) == f"{runtime.namespace}_10"


@pytest.mark.timeout(240)
async def test_the_ledger_is_rebuilt_from_the_raw_records(runtime):
    """The log was made of raw records; one of its events says another amount than its record."""
    raw, headers = runtime.topic(raw_topic("hub88")), [("http-path", b"/transaction/win")]
    bodies = [
        {"user": "p-1", "transaction_uuid": f"w-{n}", "amount": 100_000 * n, "currency": "EUR"}
        | {"reference_transaction_uuid": f"b-{n}", "round": f"r-{n}", "game_code": "slot"}
        for n in range(1, 21)
    ]
    await create_topics(runtime.broker, runtime.namespace, ["hub88"], PARTITIONS, RAW_PARTITIONS)
    settings = ProducerSettings(runtime.broker, "pitboss.test")
    async with BatchProducer(settings) as producer:
        for body in bodies:
            await producer.send(raw, b"p-1", json.dumps(body).encode(), headers, partition=0)
    normaliser = Normaliser(DIALECTS, {})
    with BrokerLog(runtime.broker) as source:
        blocks = source.read(raw, 0, 0, len(bodies))
        records = [one for block in blocks for one in records_of(block) if one is not None]
    events = [event for one in records for event in renormalise(normaliser, one).events]
    assert len(events) == len(bodies)
    # What the log misses, and what it has otherwise than the bytes mean it.
    del events[19]
    events[4] = replace(events[4], legs=[replace(events[4].legs[0], amount=Amount(7, 2))])
    await tell_story(runtime, SEED, events=events)
    until = format_time(records[-1].timestamp + 60_001)
    assert (await run(runtime, "--to", until))["identical"] is True
    found = await run(runtime, "--to", until, "--from-raw", code=1)
    result = found["from_raw"]
    assert (result["recomputed"], result["changed"], result["surplus"]) == (19, 1, 0)
    [difference] = result["differences"]
    assert (difference["finding"], difference["fields"]) == ("CHANGED", ["legs"])
    assert {one["table"] for one in found["comparison"]["differences"]} >= {"transfer", "wallet"}
    [missing] = result["twinless"]
    assert missing["place"] == f"{raw}-0@19"
