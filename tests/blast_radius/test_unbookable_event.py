"""An event of the log that the ledger cannot book: its partition waits, and every other one goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from ledger_sink.store.log_check import checksum
from pitboss.embedded.processes import poll
from runtime.kafka.partitioner import partition_for
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.kafka.topic_reader import read_topics
from schemas import codec
from schemas.events import Leg, Position, WalletTransaction
from schemas.identity import quarantined_record
from schemas.registry import released_registry
from schemas.topics import TRANSACTIONS
from tests.blast_radius.steady_bets import steady_bets
from tests.faults.ledger_scene import PARTITIONS, PATIENCE_S, Scene, new_scene, traffic
from tests.support.ledger_events import bet, call, deposit, leg, quarantine, transaction, win

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

STUCK = "p-1"
STUCK_PARTITION = partition_for(STUCK.encode(), PARTITIONS)
OTHER = next(
    player
    for player in (f"p-{n}" for n in range(2, 12))
    if partition_for(player.encode(), PARTITIONS) != partition_for(STUCK.encode(), PARTITIONS)
)


@pytest.fixture
async def scene(runtime, tmp_path):
    return await new_scene(runtime, tmp_path)


@asynccontextmanager
async def producer_of(scene: Scene) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """Append free bets of a player of another partition, through one connection."""
    settings = ProducerSettings(scene.runtime.broker, "steady")
    async with BatchProducer(settings) as producer:

        async def append(tx_id: str) -> None:
            record = (OTHER.encode(), scene.encode(bet(tx_id, 0, player=OTHER)), (), None)
            await producer.send_keyed(scene.runtime.topic(TRANSACTIONS), [record])

        yield append


async def is_booked(scene: Scene, tx_id: str) -> bool:
    def has_entry() -> bool:
        return bool(scene.rows(f"SELECT FROM entry WHERE provider_tx_id = '{tx_id}'"))

    return await asyncio.to_thread(poll, has_entry, PATIENCE_S)


async def append_quarantine(scene: Scene, operation: str, record: str, actor: str) -> None:
    event = quarantine(operation, record, actor, STUCK_PARTITION, PARTITIONS)
    settings = ProducerSettings(scene.runtime.broker, "operator")
    async with BatchProducer(settings) as producer:
        key = event.provider_tx_id.encode()
        topic = scene.runtime.topic(TRANSACTIONS)
        await producer.send_keyed(topic, [(key, scene.encode(event), (), None)])


async def name_of_record(scene: Scene, tx_id: str) -> str:
    """The name of the record of the log that holds a transaction: its place and checksum."""
    decode = codec.decoder(WalletTransaction)
    async for record in read_topics(scene.runtime.broker, [scene.runtime.topic(TRANSACTIONS)]):
        if decode(record.value).provider_tx_id == tx_id:
            place = Position(record.topic, record.partition, record.offset)
            return quarantined_record(place, checksum(record.key, record.value))
    raise AssertionError(tx_id)


async def test_a_quarantine_by_two_people_lets_the_partition_go_on_and_a_replay_agrees(scene):
    await scene.append(traffic(1))
    with scene.worker("ledger-1") as process:
        unknown = transaction("teleport", "t", Leg("TELEPORT"), player=STUCK)
        await scene.append(
            [deposit("before", 7, player=STUCK), unknown, deposit("after", 1, player=STUCK)]
        )
        assert await is_booked(scene, "before"), scene.logs()
        record = await name_of_record(scene, "t")
        await append_quarantine(scene, "proposed", record, "ann")
        await append_quarantine(scene, "approved", record, " Ann ")
        await append_quarantine(scene, "approved", record[:-8] + "00000000", "bob")
        await scene.append([unknown])
        # Another worker of the same release finds the same, wherever it begins.
        process.kill()
    with scene.worker("ledger-2") as process:
        log = scene.folder / "ledger-2.log"
        assert await asyncio.to_thread(
            poll, lambda: "PARTITION_STUCK" in log.read_text(), PATIENCE_S
        ), scene.logs()
        assert scene.rows("SELECT FROM entry WHERE provider_tx_id IN ('t', 'after')") == []
        await append_quarantine(scene, "approved", record, "bob")
        await scene.published(processes=[process])
        await append_quarantine(scene, "proposed", await name_of_record(scene, "after"), "ann")
        await scene.published(processes=[process])
    answers = scene.rows(
        "SELECT outcome, reason FROM entry WHERE provider_tx_id IN ('t', 'after')"
        " OR kind = 'QUARANTINE' ORDER BY source_offset"
    )
    assert answers == [
        ("UNRESOLVED", "QUARANTINED"),
        ("POSTED", "BOOKED"),
        ("INFORMATIONAL", "NOTED"),
        ("POSTED", "ALREADY_CLOSED"),
        ("REFUSED_REFERENCE", "RECORD_NOT_WAITING"),
        ("POSTED", "RECORD_QUARANTINED"),
        ("REFUSED_REFERENCE", "RECORD_NOT_WAITING"),
    ]
    await scene.proven()


def of_a_newer_release(scene: Scene) -> bytes:
    newer = max(schema.id for schema in released_registry()) + 1
    return b"\0" + newer.to_bytes(4, "big") + scene.encode(deposit("newer", 1, player=STUCK))[5:]


@pytest.mark.prove
async def test_whatever_cannot_be_booked_is_found_and_passed_by_its_quarantine(scene):
    """What the rules, the tables and the schemas do not take, in one partition and many transactions."""
    long = "".join(chr(0x4E00 + n % 20_000) for n in range(0, 90_000, 7))
    bad = [
        transaction("teleport", "t", Leg("TELEPORT"), player=STUCK),
        deposit("below zero", -5, player=STUCK),
        transaction("AUTHORISATION", "doge", leg("DEPOSIT", 5, "DOGE"), player=STUCK),
        deposit("nul\0", 5, player=STUCK),
        deposit("long", 5, player=long),
        call(win("g-1", 5, "b", player=STUCK), win("g-2", 5, "b", player=STUCK))[1],
    ]
    values = [*map(scene.encode, bad), of_a_newer_release(scene)]
    good = [scene.encode(deposit(f"good {n}", 1, player=STUCK)) for n in range(len(values) + 1)]
    in_turns = [value for pair in zip(good, values, strict=False) for value in pair] + good[-1:]
    topic = scene.runtime.topic(TRANSACTIONS)
    settings = ProducerSettings(scene.runtime.broker, "test")
    async with BatchProducer(settings) as producer:
        await producer.send_keyed(topic, [(STUCK.encode(), value, (), None) for value in in_turns])
    for offset, value in enumerate(in_turns):
        if value in values:
            place = Position(topic, STUCK_PARTITION, offset)
            record = quarantined_record(place, checksum(STUCK.encode(), value))
            await append_quarantine(scene, "proposed", record, "ann")
            await append_quarantine(scene, "approved", record, "bob")
    with scene.worker("ledger-1") as process:
        await scene.published(processes=[process])
    answers = scene.rows(
        "SELECT source_offset, outcome, reason, transfers FROM entry WHERE source_offset <"
        f" {len(in_turns)} ORDER BY source_offset"
    )
    assert answers == [
        (offset, "UNRESOLVED", "QUARANTINED", 0)
        if value in values
        else (offset, "POSTED", "BOOKED", 1)
        for offset, value in enumerate(in_turns)
    ]
    assert scene.rows("SELECT cash_minor FROM wallet") == [(len(good),)]
    await scene.proven()


@pytest.mark.prove
async def test_a_bet_of_another_partition_is_answered_within_a_second_throughout(scene):
    await scene.append(traffic(1))
    with scene.worker("ledger-1") as process:
        await scene.published(processes=[process])

        async with (
            producer_of(scene) as append,
            steady_bets(scene.runtime, PARTITIONS, append) as bets,
        ):
            await bets.more(5)
            unknown = transaction("teleport", "t", Leg("TELEPORT"), player=STUCK)
            await scene.append(
                [deposit("before", 7, player=STUCK), unknown, bet("after", 1, player=STUCK)]
            )
            await bets.more(40)
        assert process.poll() is None, scene.logs()
        bets.assert_prompt()
        assert await is_booked(scene, "before"), scene.logs()
        assert scene.rows("SELECT FROM entry WHERE provider_tx_id IN ('t', 'after')") == []
