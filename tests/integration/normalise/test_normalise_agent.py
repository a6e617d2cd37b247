"""The normalising worker on the real broker: what it sends where, what it buries, and where a successor goes on."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic

from lab.conformance.examples.fill import Fill
from lab.conformance.examples.find import examples_of
from lab.conformance.writers.find import find_writers
from lab.sandbox.keys import SandboxKeys
from lab.sandbox.records import Origin, RawEvent
from lab.sandbox.scenario import Scenario, generate
from pitboss.ops.topic_admin import admin_client, create_topics
from pitboss.settings import Runtime
from runtime.kafka.partitioner import partition_for
from schemas import codec
from schemas.errors import RejectCode, SendFailed
from schemas.events import DeadLetter, MarketSettlement, PlayerEvent, RiskSignal, WalletTransaction
from schemas.topics import (
    PLAYER_EVENTS,
    SETTLEMENTS,
    SIGNALS,
    TRANSACTIONS,
    UNRESOLVED,
    dead_letter_topic,
    qualified_name,
    raw_topic,
)
from streams.normalise.batch import FallbackUsed
from streams.normalise.handler import NAME, create_worker
from streams.normalise.settings import NormaliseSettings
from streams.providers.registry import DIALECTS, Dialects, dialect_of
from streams.providers.versions import read_rows
from tests.support.raw_log_scene import (
    PARTITIONS,
    PROVIDERS,
    START_MS,
    all_committed,
    append,
    count_events,
    events_of,
    expected_events,
    keys,
    raw_log,
    read_all,
    traffic,
    until,
    worker_of,
    working,
)

__all__ = ["keys", "raw_log", "traffic"]

pytestmark = pytest.mark.integration

RENAMING = Path(__file__).parents[2] / "renaming"


async def test_the_traffic_of_four_providers_becomes_events_and_dead_letters(
    raw_log: Runtime, traffic: list[RawEvent], keys: SandboxKeys
) -> None:
    worker = worker_of(raw_log, keys)
    async with working(worker):
        await until(lambda: worker.stats.records == len(traffic), "all records handled")
        await until(lambda: all_committed(raw_log), "all offsets committed")
    log, unresolved = await read_all(raw_log, TRANSACTIONS), await read_all(raw_log, UNRESOLVED)
    assert {
        TRANSACTIONS: count_events(log),
        UNRESOLVED: count_events(unresolved),
    } == expected_events(traffic, keys)
    assert (worker.stats.accepted_count, worker.stats.unresolved_count) == (
        len(log),
        len(unresolved),
    )
    for record in [*log, *unresolved]:
        assert record.partition == partition_for(record.key, PARTITIONS)
    assert all(event.player_id is None for event in events_of(unresolved))

    poison = [raw for raw in traffic if raw.origin is Origin.POISON]
    letters = []
    for provider in PROVIDERS:
        letters += [
            codec.decoder(DeadLetter)(record.value)
            for record in await read_all(raw_log, dead_letter_topic(raw_topic(provider)))
        ]
    assert sorted((letter.value, letter.code) for letter in letters) == sorted(
        (raw.value, str(raw.expected_reject)) for raw in poison
    )
    assert {letter.stage for letter in letters} == {NAME}
    assert sum(worker.stats.rejected.values()) == len(poison)

    signals = [
        codec.decoder(RiskSignal)(record.value) for record in await read_all(raw_log, SIGNALS)
    ]
    forged = [letter for letter in letters if letter.code == RejectCode.BAD_SIGNATURE]
    assert {signal.kind for signal in signals} == {"BAD_SIGNATURE"}
    assert _positions(signals) == _positions(forged)


def _positions(records: Sequence[RiskSignal | DeadLetter]) -> list[tuple[str, int, int]]:
    return sorted((one.source.topic, one.source.partition, one.source.offset) for one in records)


async def test_the_sandbox_traffic_of_every_provider_is_accepted(
    runtime: Runtime, keys: SandboxKeys
) -> None:
    senders = sorted(find_writers())
    await create_topics(
        runtime.broker,
        runtime.namespace,
        senders,
        partitions=PARTITIONS,
        raw_partitions=PARTITIONS,
    )
    scenario = Scenario(
        seed=14, start_ms=START_MS, events=3_000, poison=0, speeders=0, providers=tuple(senders)
    )
    sent = generate(scenario, keys)
    assert {raw.provider for raw in sent} == set(senders)
    await append(runtime, sent)
    worker = worker_of(runtime, keys)
    async with working(worker):
        await until(lambda: worker.stats.records == len(sent), "all records handled")
    assert not worker.stats.rejected
    events: list[WalletTransaction | PlayerEvent | MarketSettlement] = []
    for topic in (TRANSACTIONS, UNRESOLVED):
        records = await read_all(runtime, topic)
        events += [codec.decoder(WalletTransaction)(record.value) for record in records]
    records = await read_all(runtime, PLAYER_EVENTS)
    events += [codec.decoder(PlayerEvent)(record.value) for record in records]
    records = await read_all(runtime, SETTLEMENTS)
    events += [codec.decoder(MarketSettlement)(record.value) for record in records]
    accepted = Counter(event.provider for event in events)
    assert set(accepted) == set(senders)


async def test_what_moves_no_money_goes_to_its_own_topics(runtime: Runtime) -> None:
    await create_topics(
        runtime.broker,
        runtime.namespace,
        ["sumsub", "uof"],
        partitions=PARTITIONS,
        raw_partitions=PARTITIONS,
    )
    fill = Fill(7)
    sent = [
        RawEvent(name, example.key, example.value, tuple(example.headers.items()), fill.at_ms, 0)
        for name in ("sumsub", "uof")
        for example in examples_of(DIALECTS[name]).make(fill)
    ]
    await append(runtime, sent)
    keyring = {name: examples_of(DIALECTS[name]).keys for name in ("sumsub", "uof")}
    settings = NormaliseSettings(runtime.broker, runtime.namespace, "test", keyring)
    worker = create_worker(settings)
    async with working(worker):
        await until(lambda: worker.stats.records == len(sent), "all records handled")
    players = [
        codec.decoder(PlayerEvent)(record.value)
        for record in await read_all(runtime, PLAYER_EVENTS)
    ]
    markets = [
        codec.decoder(MarketSettlement)(record.value)
        for record in await read_all(runtime, SETTLEMENTS)
    ]
    assert len(players) == worker.stats.sent[PLAYER_EVENTS] > 1
    assert len(markets) == worker.stats.sent[SETTLEMENTS] > 1
    assert {event.provider for event in players} == {"sumsub"}
    assert any(event.scope for event in players)
    for record in await read_all(runtime, SETTLEMENTS):
        assert record.key == codec.decoder(MarketSettlement)(record.value).match_id.encode()
        assert record.partition == partition_for(record.key, PARTITIONS)


async def test_two_versions_of_a_provider_are_read_by_one_worker(runtime: Runtime) -> None:
    # The broker's time of today decides which is in force: the second stays announced.
    later = datetime.now(UTC).date() + timedelta(days=30)
    registry = (RENAMING / "after.toml").read_text().replace("2026-12-01", later.isoformat())
    rows = read_rows(registry, "after.toml")
    dialects = Dialects(lambda: rows, dialect_of)
    await create_topics(
        runtime.broker,
        runtime.namespace,
        sorted(dialects),
        partitions=PARTITIONS,
        raw_partitions=PARTITIONS,
    )
    update = {"id": "t-1", "player": "p-1", "amount": "1.50", "currency": "EUR"}
    bodies = [
        {"balance_update": update},
        {"funds_update": update | {"id": "t-2"}},
        {"balance_update": update},
        {},
    ]
    headers = (("x-secret", b"s3cret"), ("received-at", str(START_MS).encode()))
    await append(
        runtime,
        [
            RawEvent("acme", b"p-1", json.dumps(body).encode(), headers, START_MS, 0)
            for body in bodies
        ],
    )
    fallbacks: list[FallbackUsed] = []
    keyring = {
        "acme": [
            {"id": "a", "secret": "0ld", "valid_until": "2026-01-01"},
            {"id": "b", "secret": "s3cret"},
        ]
    }
    settings = NormaliseSettings(runtime.broker, runtime.namespace, "test", keyring)
    worker = create_worker(settings, dialects, fallbacks.append)
    async with working(worker):
        await until(lambda: worker.stats.records == len(bodies), "all records handled")
    events = events_of(await read_all(runtime, TRANSACTIONS))
    assert [(event.provider_tx_id, event.provider_version) for event in events] == [
        ("t-1", "1"),
        ("t-2", "2"),
        ("t-1", "1"),
    ]
    assert events[0].event_id == events[2].event_id
    assert [
        (used.record.offset, used.fallback.expected, used.fallback.used) for used in fallbacks
    ] == [(1, "1", "2")]
    assert worker.stats.fallbacks == {("acme", "1", "2"): 1}
    [letter] = await read_all(runtime, dead_letter_topic(raw_topic("acme")))
    assert codec.decoder(DeadLetter)(letter.value).code == RejectCode.MISSING_FIELD


async def test_the_order_of_a_source_partition_is_kept_for_each_key(
    raw_log: Runtime, keys: SandboxKeys
) -> None:
    worker = worker_of(raw_log, keys)
    async with working(worker):
        await until(lambda: all_committed(raw_log), "all offsets committed")
    seen: dict[tuple[Any, ...], list[tuple[int, int]]] = defaultdict(list)
    for record in await read_all(raw_log, TRANSACTIONS):
        [event] = events_of([record])
        attempt = event.attempt
        seen[record.partition, record.key, attempt.topic, attempt.partition].append(
            (attempt.offset, attempt.record_index)
        )
    assert max(len(places) for places in seen.values()) > 20
    assert all(places == sorted(set(places)) for places in seen.values())


async def test_a_worker_whose_send_fails_ends_and_its_successor_leaves_nothing_out(
    raw_log: Runtime, traffic: list[RawEvent], keys: SandboxKeys
) -> None:
    first = worker_of(raw_log, keys)
    calls = 0
    send_keyed = first.producer.send_keyed

    async def failing(topic: str, records: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise SendFailed("the broker said no for good")
        await send_keyed(topic, records)

    first.producer.send_keyed = failing  # type: ignore[method-assign]
    await first.app.start()
    await until(lambda: first.app.crashed, "the first worker ends")
    assert isinstance(first.app.crash_reason, SendFailed)
    await first.app.stop()
    assert not await all_committed(raw_log)

    second = worker_of(raw_log, keys)
    async with working(second):
        await until(lambda: all_committed(raw_log), "the successor has committed everything")
    wanted = expected_events(traffic, keys)
    for topic in (TRANSACTIONS, UNRESOLVED):
        got = count_events(await read_all(raw_log, topic))
        assert set(got) == set(wanted[topic])
        assert all(got[event_id] >= times for event_id, times in wanted[topic].items())


async def test_a_cancel_comes_after_its_attempt_and_names_it(
    runtime: Runtime, traffic: list[RawEvent], keys: SandboxKeys
) -> None:
    await create_topics(
        runtime.broker,
        runtime.namespace,
        PROVIDERS,
        partitions=PARTITIONS,
        raw_partitions=PARTITIONS,
    )
    bet = next(raw for raw in traffic if raw.provider == "hub88" and raw.origin is Origin.FIRST)
    await append(runtime, [bet])
    attempt = f"{qualified_name(raw_topic('hub88'), runtime.namespace)}-{partition_for(bet.key, PARTITIONS)}@0"
    worker = worker_of(runtime, keys)
    async with working(worker):
        await until(lambda: worker.stats.accepted_count == 1, "the bet is in the log")
        headers = (*bet.headers, ("cancel", attempt.encode()))
        await append(
            runtime, [RawEvent("hub88", bet.key, bet.value, headers, bet.event_time_ms, bet.phase)]
        )
        await until(lambda: worker.stats.accepted_count == 2, "the cancel is in the log")
    decided, cancel = events_of(await read_all(runtime, TRANSACTIONS))
    assert (cancel.operation, cancel.provider_tx_id) == ("cancel", attempt + "#0")
    assert cancel.reference is not None
    assert (cancel.reference.operation, cancel.reference.tx_id) == (
        decided.operation,
        decided.provider_tx_id,
    )
    assert cancel.player_id == decided.player_id


async def test_a_strangers_raw_topic_waits_for_its_dead_letter_topic_and_holds_up_no_other(
    runtime: Runtime, traffic: list[RawEvent], keys: SandboxKeys
) -> None:
    await create_topics(
        runtime.broker,
        runtime.namespace,
        ["hub88"],
        partitions=PARTITIONS,
        raw_partitions=PARTITIONS,
    )
    raw = qualified_name(raw_topic("newone"), runtime.namespace)
    async with admin_client(runtime.broker) as admin:
        await admin.create_topics([NewTopic(raw, PARTITIONS, 1)])
    worker = worker_of(runtime, keys)
    worker.producer.settings = replace(worker.producer.settings, request_timeout_ms=5_000)
    hub88 = [one for one in traffic if one.provider == "hub88"]
    async with working(worker):
        await until(lambda: TopicPartition(raw, 0) in worker.intake.status(), "the topic is found")
        await append(runtime, [RawEvent("newone", b"p", b"{}", (), START_MS, 0)])
        waits = f"UNAVAILABLE: the topic {raw}.dlt does not exist: run `pitboss topics create`"
        await until(
            lambda: waits in {status.waiting for status in worker.intake.status().values()},
            "it is told",
        )
        await append(runtime, hub88)
        await until(
            lambda: worker.stats.records == len(hub88), "the records of the others are handled"
        )
        assert not worker.app.crashed
        await create_topics(
            runtime.broker,
            runtime.namespace,
            ["hub88"],
            partitions=PARTITIONS,
            raw_partitions=PARTITIONS,
        )
        await until(
            lambda: worker.stats.records == len(hub88) + 1, "the stranger's record is handled"
        )
    [letter] = await read_all(runtime, dead_letter_topic(raw_topic("newone")))
    assert codec.decoder(DeadLetter)(letter.value).code == RejectCode.UNKNOWN_PROVIDER


async def test_no_event_goes_out_again_while_a_dead_letter_has_no_place_to_go(
    runtime: Runtime, traffic: list[RawEvent], keys: SandboxKeys
) -> None:
    await create_topics(
        runtime.broker, runtime.namespace, ["hub88"], partitions=1, raw_partitions=1
    )
    letters = qualified_name(dead_letter_topic(raw_topic("hub88")), runtime.namespace)
    async with admin_client(runtime.broker) as admin:
        await admin.delete_topics([letters])
    good = next(one for one in traffic if one.provider == "hub88" and one.origin is Origin.FIRST)
    await append(
        runtime,
        [good, RawEvent("hub88", b"p", b"{broken", good.headers, START_MS, 0)],
        partitions=1,
    )
    worker = worker_of(runtime, keys)
    worker.producer.settings = replace(worker.producer.settings, request_timeout_ms=3_000)
    tries = 0
    count = worker.producer.partition_count

    async def counted_tries(topic: str) -> int:
        nonlocal tries
        tries += topic == letters
        return await count(topic)

    worker.producer.partition_count = counted_tries  # type: ignore[method-assign]  # counts, and asks the real one
    async with working(worker):
        await until(lambda: tries > 1, "it is tried again")
        await create_topics(
            runtime.broker, runtime.namespace, ["hub88"], partitions=1, raw_partitions=1
        )
        await until(lambda: worker.stats.records == 2, "both are handled")
    assert len(await read_all(runtime, TRANSACTIONS)) == 1
