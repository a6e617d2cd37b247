"""`pitboss providers list` on a running stack: what came of each version in the last day, and where the last of it is."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner
from msgspec.structs import replace

from ledger_sink.booking.positions import claim_positions
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from pitboss.cli.main import cli
from pitboss.ops import provider_traffic
from pitboss.ops.provision import provision
from pitboss.settings import worker_environment
from schemas import codec
from schemas.events import Attempt, PlayerEvent
from schemas.topics import DAY_MS, PLAYER_EVENTS, TRANSACTIONS
from tests.support.ledger_events import bet, deposit, log_event

pytestmark = pytest.mark.integration


def player_event(number: int, at_ms: int) -> PlayerEvent:
    return PlayerEvent(
        f"00000000-0000-5000-8000-{number:012d}",
        "acme",
        "sumsub",
        "1",
        "",
        "applicantReviewed",
        f"s-{number}",
        Attempt("provider.sumsub.raw.v1", 1, number),
        "p-1",
        "KYC",
        {},
        at_ms,
        "PROVIDER",
        at_ms,
        None,
        at_ms,
        "VALID",
    )


async def fill(runtime, now_ms: int) -> None:
    """Two events of the day before yesterday, four of now; of the latter one is an older version's."""
    events = [
        deposit("d0", 500),
        bet("b0", 1),
        deposit("d1", 10_000),
        bet("b1", 1),
        bet("b2", 2),
        bet("b3", 3),
    ]
    events[5] = replace(events[5], provider_version="0")
    times = [now_ms - 2 * DAY_MS] * 2 + [now_ms - 5_000 + n for n in range(4)]
    events = [replace(event, occurred_at=at) for event, at in zip(events, times, strict=True)]
    async with AIOKafkaProducer(**runtime.broker.aiokafka_options()) as producer:
        for at in times:
            await producer.send_and_wait(
                runtime.topic(TRANSACTIONS), b"x", partition=1, timestamp_ms=at
            )
        for number in range(3):
            value = codec.encoder(PlayerEvent)(player_event(number, now_ms - 3_000 + number))
            await producer.send_and_wait(
                runtime.topic(PLAYER_EVENTS), value, timestamp_ms=now_ms - 3_000
            )
    database = LedgerDatabase(runtime.database_url, "test")
    ledger = PostgresLedger(database, {})
    claims = await claim_positions(database, [1])
    ledger.epochs.update({partition: claim.epoch for partition, claim in claims.items()})
    placed = [log_event(event, 1, offset) for offset, event in enumerate(events)]
    await ledger.commit_group([Slice(1, 0, len(events), placed, now_ms, 7)])
    await database.close()


@pytest.fixture
def list_versions(runtime, monkeypatch):
    for name, value in worker_environment(runtime).items():
        if name.startswith("PITBOSS_"):
            monkeypatch.setenv(name, value)

    def run():
        result = CliRunner().invoke(cli, ["providers", "list", "--json"], catch_exceptions=False)
        assert result.exit_code == 0
        assert result.stderr == ""
        return {(row["provider"], row["version"]): row for row in json.loads(result.stdout)}

    return run


def test_the_traffic_of_the_last_day_is_counted_by_version(runtime, list_versions):
    provision(runtime, partitions=2, raw_partitions=1, providers=["hub88"])
    assert {row["events_24h"] for row in list_versions().values()} == {0}
    now_ms = time.time_ns() // 1_000_000
    asyncio.run(fill(runtime, now_ms))
    rows = list_versions()
    assert (
        rows["hub88", "1"]["events_24h"] == 2
    )  # b1 and b2: b0 is of another day, b3 of a version without a row
    assert rows["adyen", "1"]["events_24h"] == 1
    assert rows["playngo", "1"]["events_24h"] == 0
    assert rows["playngo", "1"]["last_sample"] is None
    assert rows["hub88", "1"]["last_sample"]["record"].startswith("provider.hub88.raw.v1-0@")
    assert rows["sumsub", "1"]["events_24h"] == 3
    assert rows["sumsub", "1"]["last_sample"]["record"] == "provider.sumsub.raw.v1-1@2"


def test_of_a_topic_with_more_than_can_be_read_the_newest_are_counted(
    runtime, list_versions, monkeypatch
):
    provision(runtime, partitions=1, raw_partitions=1, providers=["sumsub"])
    monkeypatch.setattr(provider_traffic, "READ_MAX", 2)
    asyncio.run(fill_player_events(runtime, 5))
    row = list_versions()["sumsub", "1"]
    assert row["events_24h"] == 2
    assert row["last_sample"]["record"] == "provider.sumsub.raw.v1-1@4"


async def fill_player_events(runtime, count: int) -> None:
    now_ms = time.time_ns() // 1_000_000
    async with AIOKafkaProducer(**runtime.broker.aiokafka_options()) as producer:
        for number in range(count):
            value = codec.encoder(PlayerEvent)(player_event(number, now_ms + number))
            await producer.send_and_wait(runtime.topic(PLAYER_EVENTS), value)
