"""`pitboss raw replay` through real workers: a faulty adapter, its repair, proposals, approvals."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager

import psycopg
import pytest
from click.testing import CliRunner

from ledger_sink.booking.handler import create_ledger_app
from ledger_sink.booking.settings import LedgerSettings
from ledger_sink.rules.book import Book, LogEvent
from ledger_sink.rules.posting import post
from pitboss.cli.main import cli
from pitboss.ops.topic_admin import create_topics
from pitboss.settings import worker_environment
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas.events import Position
from schemas.policies import DEFAULT_POLICY
from streams.normalise.handler import create_worker
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser
from streams.normalise.settings import NormaliseSettings
from streams.providers.house import House
from streams.providers.registry import by_provider
from tests.support.faulty_provider import RAW_TOPIC, Faulty, dialects, make_bodies
from tests.support.fraud_log import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.prove, pytest.mark.timeout(240)]

FAULTS = ("factor", "guest", "status", "reject", "lose")


@asynccontextmanager
async def working(runtime, *faults: str):
    servers, names = runtime.broker, runtime.namespace
    adapters = by_provider([Faulty(faults=frozenset(faults)), House()])
    normalise = create_worker(NormaliseSettings(servers, names, "test", {}), adapters).app
    ledger = create_ledger_app(LedgerSettings(servers, runtime.database_url, names, "test"), {})
    async with AsyncExitStack() as stack:
        for app in (normalise, ledger):
            await app.start()
            stack.push_async_callback(app.stop)
        yield


async def run(runtime, *arguments: str, code: int = 0):
    result = await asyncio.to_thread(
        CliRunner().invoke, cli, [*arguments, "--json"], env=worker_environment(runtime)
    )
    assert result.exit_code == code, (result.output, result.stderr, result.exception)
    return [json.loads(line) for line in result.stdout.splitlines()]


def balances(runtime) -> dict[str, int]:
    with psycopg.connect(runtime.database_url) as connection:
        return dict(connection.execute("SELECT player_id, cash_minor FROM wallet").fetchall())


def accepted(bodies, *faults: str) -> int:
    normaliser = Normaliser(dialects(*faults), {})
    return sum(
        isinstance(item, AcceptedTransaction)
        for offset, (_, body) in enumerate(bodies)
        for item in normaliser.normalise(Raw(offset, body))
    )


def sound_balances(bodies) -> dict[str, int]:
    book, normaliser = Book(), Normaliser(dialects(), {})
    for offset, (_, body) in enumerate(bodies):
        [item] = normaliser.normalise(Raw(offset, body))
        assert isinstance(item, AcceptedTransaction)
        post(book, LogEvent(item.transaction, Position("log", 0, offset), 1), DEFAULT_POLICY)
    return {wallet.player_id: wallet.cash_minor for wallet in book.wallets.values()}


class Raw:
    topic, partition, timestamp, key, headers = RAW_TOPIC, 0, 1, b"k", ()

    def __init__(self, offset: int, value: bytes) -> None:
        self.offset, self.value = offset, value


async def test_two_people_make_the_ledger_that_never_had_the_fault(runtime, monkeypatch):
    monkeypatch.setattr("pitboss.cli.raw.DIALECTS", dialects())
    names = runtime.broker, runtime.namespace
    await create_topics(*names, ["faulty", "house"], 2, 1)
    bodies = make_bodies("e2e", 60)
    expected = accepted(bodies, *FAULTS)
    assert expected < len(bodies)
    records = [(key.encode(), body, (), None) for key, body in bodies]
    async with working(runtime, *FAULTS):
        settings = ProducerSettings(runtime.broker, "pitboss.test")
        async with BatchProducer(settings) as producer:
            await producer.send_batch(runtime.topic(RAW_TOPIC), 0, records)

        async def all_booked() -> bool:
            with psycopg.connect(runtime.database_url) as connection:
                [(count,)] = connection.execute("SELECT count(*) FROM entry")
            return bool(count == expected)

        await wait_until(all_booked, "the raw records to be booked")
    assert balances(runtime) != sound_balances(bodies)
    command = ("raw", "replay", "--provider", "faulty", "--since", "1d", "--wait", "60")
    who = ("--by", "ann", "--reason", "adapter repaired")
    async with working(runtime):
        [dry] = await run(runtime, *command, "--dry-run")
        assert dry["missing"]
        found, appended, *answers = await run(runtime, *command, *who)
        assert found == dry
        assert (appended["events"], appended["undecided"]) == (len(dry["missing"]), 0)
        assert appended["outcomes"] == {"POSTED": len(dry["missing"])}
        assert answers
        assert all(one["applied"] for one in answers)
        [again] = await run(runtime, *command, *who)
        assert again["missing"] == []
        proposed = [one for player in again["players"] for one in player["corrections"]]
        assert len(proposed) == len(answers)
        assert all(one["is_proposed"] for one in proposed)
        for one in proposed:
            await run(runtime, "ledger", "approve", one["id"], "--by", "bob", "--wait", "60")
        assert balances(runtime) == sound_balances(bodies)
        [last] = await run(runtime, *command, "--dry-run")
        assert (last["players"], last["missing"]) == ([], [])
        letters = await run(runtime, "dlt", "list", "--state", "open")
        assert letters == [[]], "the rejected ones count as redriven"
