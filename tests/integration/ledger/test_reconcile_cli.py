"""`pitboss ledger reconcile` over a real topic of balances, and over a bank's file as the bank sends it."""

from __future__ import annotations

import asyncio
import copy
import json

import msgspec
import psycopg
import pytest
from click.testing import CliRunner

from lab.conformance.examples import camt
from lab.conformance.examples.fill import Fill, record
from ledger_sink.booking.messages import MessageEncoder
from ledger_sink.booking.positions import claim_positions
from ledger_sink.proof.reconcile import read_wallets
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.migrate import migrate
from pitboss.cli.main import cli
from pitboss.ops.topic_admin import create_topics
from pitboss.settings import worker_environment
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas import codec
from schemas.events import WalletTransaction
from schemas.topics import BALANCES, TRANSACTIONS
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser
from streams.providers.registry import DIALECTS
from tests.support.ledger_events import bet, deposit, log_event

pytestmark = pytest.mark.integration


@pytest.fixture
async def ledger(runtime):
    migrate(runtime.database_url)
    database = LedgerDatabase(runtime.database_url, "pitboss.test")
    postgres = PostgresLedger(database, {}, topic=runtime.topic(TRANSACTIONS))
    claims = await claim_positions(database, [0], topic=runtime.topic(TRANSACTIONS))
    postgres.epochs.update({partition: claim.epoch for partition, claim in claims.items()})
    yield postgres
    await database.close()


async def book_events(ledger, events):
    placed = [log_event(event, 0, offset) for offset, event in enumerate(events)]
    await ledger.commit_group([Slice(0, 0, len(placed), placed)])


async def run(runtime, *arguments: str, code: int):
    command = ["ledger", "reconcile", *arguments, "--json"]
    result = await asyncio.to_thread(
        CliRunner().invoke, cli, command, env=worker_environment(runtime)
    )
    assert result.exit_code == code, (result.output, result.stderr, result.exception)
    return json.loads(result.stdout) if result.stdout else None


async def test_balances_that_are_wrong_on_the_topic_are_found_and_published_again(ledger, runtime):
    await create_topics(runtime.broker, runtime.namespace, ["hub88"], 1, 1)
    await book_events(
        ledger,
        [deposit(f"d{n}", 1_000, player=f"p-{n}") for n in range(5)] + [bet("b", 10, player="p-0")],
    )
    with psycopg.connect(runtime.database_url) as connection:
        connection.execute("UPDATE stream_position SET published_offset = next_offset")
    wallets = {wallet.player_id: wallet for wallet in await read_wallets(ledger.database)}
    records = MessageEncoder(runtime.topic(TRANSACTIONS))
    earlier = (wallets["p-0"].cash_minor + 10, 0, 0, 1, *wallets["p-0"].snapshot()[4:])
    published = [records.encode_balance(wallets["p-1"]), records.encode_balance(wallets["p-2"])]
    old = copy.copy(wallets["p-0"])
    old.restore(earlier)
    other = copy.copy(wallets["p-3"])
    other.cash_minor += 1
    published += [records.encode_balance(old), records.encode_balance(other)]
    producer = BatchProducer(ProducerSettings(runtime.broker, "test"))
    async with producer:
        await producer.send_keyed(
            runtime.topic(BALANCES), [(key, value, (), None) for key, value in published]
        )
    wrong = [("p-0:EUR", "OLDER"), ("p-3:EUR", "DIFFERENT"), ("p-4:EUR", "MISSING")]
    for arguments in ([], ["--republish", "--dry-run"]):
        found = await run(runtime, "balances", *arguments, code=1)
        assert [(fault["key"], fault["what"]) for fault in found["faults"]] == wrong
        assert (found["compared"], found["republished"]) == (5, 0)
    assert (await run(runtime, "balances", "--republish", code=0))["republished"] == 3
    assert (await run(runtime, "balances", code=0))["faults"] == []


async def test_a_record_that_was_not_booked_is_found(ledger, runtime):
    await create_topics(runtime.broker, runtime.namespace, ["hub88"], 1, 1)
    assert (await run(runtime, "offsets", code=0))["holds"]
    producer = BatchProducer(ProducerSettings(runtime.broker, "test"))
    async with producer:
        value = codec.encoder(WalletTransaction)(bet("b1", 10))
        await producer.send_keyed(runtime.topic(TRANSACTIONS), [(b"p-1", value, (), None)])
    assert (
        "wallet.transactions.v1-0@0 has no entry"
        in (await run(runtime, "offsets", code=1))["detail"]
    )


async def test_a_banks_own_file_is_held_against_what_is_booked(ledger, runtime, tmp_path):
    normaliser = Normaliser({"camt": DIALECTS["camt"]}, {})
    items = [
        item
        for example in camt.examples(Fill(5))
        for item in normaliser.normalise(record(example, "camt"))
    ]
    events = [
        msgspec.structs.replace(item.transaction, player_id="p-1")
        for item in items
        if isinstance(item, AcceptedTransaction)
    ]
    await book_events(ledger, events)
    for example in camt.examples(Fill(5)):
        (tmp_path / "statement.xml").write_bytes(example.value)
        native = ["statement", str(tmp_path / "statement.xml"), "--provider", "camt", "--native"]
        assert (await run(runtime, *native, code=0))["faults"] == []
    await booked_nothing_of(runtime, events[0].event_id)
    found = []
    for example in camt.examples(Fill(5)):
        (tmp_path / "statement.xml").write_bytes(example.value)
        result = await asyncio.to_thread(
            CliRunner().invoke,
            cli,
            ["ledger", "reconcile", *native, "--json"],
            env=worker_environment(runtime),
        )
        found += json.loads(result.stdout)["faults"]
    assert {fault["event_id"] for fault in found} == {events[0].event_id}
    (tmp_path / "broken.xml").write_bytes(b"<Document/>")
    await run(
        runtime, "statement", str(tmp_path / "broken.xml"), "--provider", "camt", "--native", code=2
    )


async def booked_nothing_of(runtime, event_id):
    with psycopg.connect(runtime.database_url) as connection:
        connection.execute(
            "UPDATE entry SET outcome = 'UNRESOLVED' WHERE event_id = %s", (event_id,)
        )


async def test_a_csv_statement_finds_what_either_side_lacks(ledger, runtime, tmp_path):
    await book_events(ledger, [deposit("d", 1_000), bet("b1", 10), bet("b2", 20), bet("b3", 30)])
    file = tmp_path / "hub88.csv"
    file.write_text(
        "operation,transaction_id,amount,currency\nbet,b1,0.10,EUR\nbet,b2,0.21,EUR\nbet,b9,1.00,EUR\n"
    )
    options = ["statement", str(file), "--provider", "hub88", "--brand", "acme"]
    found = await run(runtime, *options, code=1)
    assert [(fault["what"], fault["provider_tx_id"]) for fault in found["faults"]] == [
        ("DIFFERENT", "b2"),
        ("MISSING", "b9"),
    ]
    found = await run(runtime, *options, "--since", "2020-01-01", code=1)
    assert [(fault["what"], fault["provider_tx_id"]) for fault in found["faults"]][2:] == [
        ("EXTRA", "b3")
    ]
    assert [
        (fault["what"])
        for fault in (await run(runtime, *options, "--until", "2020-01-01T00:00:00Z", code=1))[
            "faults"
        ]
    ] == ["DIFFERENT", "MISSING"]
