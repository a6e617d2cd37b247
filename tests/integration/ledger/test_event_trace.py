"""`pitboss trace` of an event whose records are on real topics: every hop, and the alert on it."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest
from click.testing import CliRunner

from ledger_sink.booking.positions import claim_positions
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from pitboss.cli.main import cli
from pitboss.ops.provision import provision
from pitboss.settings import worker_environment
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas import codec
from schemas.events import Attempt, FraudAlert, OffsetRange, WalletTransaction
from schemas.topics import ALERTS, TRANSACTIONS, UNRESOLVED, raw_topic
from tests.support.ledger_events import deposit, log_event

pytestmark = pytest.mark.integration


def alert_on(event: WalletTransaction, alert_id: str, event_id: str) -> FraudAlert:
    return FraudAlert(
        *(alert_id, "D05", 1, "high", "p-1", "p-1", "title", 0, 0, 0, 3, 2, "deposits"),
        event.occurred_at,
        sources=[OffsetRange(TRANSACTIONS, 0, 0, 0)],
        sample_event_ids=[event_id],
        evidence={},
    )


async def append_way(runtime, event: WalletTransaction) -> WalletTransaction:
    """Append what the roles append of an event that named no player at first, and book it."""
    async with BatchProducer(ProducerSettings(runtime.broker, "test")) as producer:

        async def append(topic: str, value: bytes, *headers: tuple[str, bytes]) -> int:
            name = runtime.topic(topic)
            return (await producer.send(name, b"k", value, headers, partition=0)).offset

        raw = raw_topic(event.provider)
        received = str(event.appended_at).encode()
        offset = await append(raw, b"{}", ("received-at", received))
        event = msgspec.structs.replace(event, attempt=Attempt(runtime.topic(raw), 0, offset))
        encode = codec.encoder(WalletTransaction)
        await append(UNRESOLVED, encode(msgspec.structs.replace(event, player_id=None)))
        offset = await append(TRANSACTIONS, encode(event))
        for alert_id, event_id in (("a-1", "another"), ("a-2", event.event_id)):
            alert = alert_on(event, alert_id, event_id)
            await append(ALERTS, codec.encoder(FraudAlert)(alert))
    database = LedgerDatabase(runtime.database_url, "pitboss.test")
    topic = runtime.topic(TRANSACTIONS)
    ledger = PostgresLedger(database, {}, topic=topic)
    ledger.epochs[0] = (await claim_positions(database, [0], topic=topic))[0].epoch
    await ledger.commit_group([Slice(0, offset, offset + 1, [log_event(event, 0, offset)])])
    await database.close()
    return event


async def test_the_way_has_the_unresolved_topic_and_the_alert(runtime, tmp_path):
    await asyncio.to_thread(
        provision, runtime, partitions=1, raw_partitions=1, providers=["adyen", "house"]
    )
    event = await append_way(runtime, deposit("psp-1", 2_500, player="p-1"))
    environment = {**worker_environment(runtime), "PITBOSS_HOME": str(tmp_path)}

    async def trace(*options: str) -> str:
        arguments = ["trace", event.event_id, *options]
        done = await asyncio.to_thread(CliRunner().invoke, cli, arguments, env=environment)
        assert done.exit_code == 0, done.output
        return done.stdout

    found = json.loads(await trace("--json"))
    [attempt] = found["attempts"]
    names = (raw_topic("adyen"), UNRESOLVED, TRANSACTIONS, ALERTS)
    places = dict(zip(("raw", "unresolved", "log", "alert"), names, strict=True))
    assert {hop["step"]: hop["place"] for hop in attempt["hops"]} == {
        "received": "",
        **{step: f"{runtime.topic(name)}-0@{int(name == ALERTS)}" for step, name in places.items()},
    }
    [alert] = [hop for hop in attempt["hops"] if hop["step"] == "alert"]
    assert alert["detail"] == "D05 high"
    assert found["notes"] == []
    assert "alert" in (await trace()).splitlines()[-1]
