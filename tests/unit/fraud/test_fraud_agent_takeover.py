"""What a fraud worker takes over: a snapshot it cannot read, a log that was cut, partitions without records."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace

import msgspec
import pytest
from aiokafka.structs import TopicPartition

from fraud_agents import announcer as announcers
from fraud_agents.activations import Marker
from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.global_signals import GlobalDetectors, watermark_signal
from fraud_agents.detectors.shard import WATCHED
from fraud_agents.owned import RECORD_TYPES
from fraud_agents.rule_book import encode_rule
from lab.fraud.story import PlayerStory, Stream
from runtime.kafka.batches import RecordBatch
from runtime.kafka.intake.start_offsets import LOG_START
from schemas import codec
from schemas.codec import frame_of
from schemas.errors import PartitionStuck
from schemas.events import FraudAlert, RiskSignal, SignalKind
from schemas.registry import released_registry
from schemas.rule_changes import RuleChangeKind
from schemas.topics import PLAYER_EVENTS, SIGNALS, TRANSACTIONS
from tests.unit.fraud.test_fraud_agent_kills import (
    Rules,
    Servers,
    agent_of,
    change,
    log,
    published,
    run,
    run_signals,
)

__all__ = ["log"]

T0 = 1_788_739_200_000
RULES = {rule.rule_id: rule for rule in DEFAULT_RULES}
OTHER_KEYS = {"D02B", "D03", "D08", "D10"}
UNREADABLE = {
    "of another version": msgspec.msgpack.encode([99, {}, 0, [0, b"", b""]]),
    "that is none": b"\xc1",
    "of one topic alone": msgspec.msgpack.encode((b"", 0, b"")),
}


@pytest.fixture(scope="module")
def undisturbed(log) -> Servers:
    """What both agents have written and saved after the whole log."""
    servers = Servers(None)
    asyncio.run(run(log, servers))
    asyncio.run(run_signals(log, servers))
    return servers


@pytest.mark.parametrize(
    ("topic", "state"),
    [(topic, "of another version") for topic in (*WATCHED, SIGNALS)]
    + [(PLAYER_EVENTS, "that is none"), (SIGNALS, "of one topic alone")],
)
async def test_an_unreadable_snapshot_is_built_again_from_the_log(
    log, undisturbed, topic, state, caplog
):
    """Another release wrote it: the worker says so, and comes to the same alerts."""
    servers = Servers(None)
    servers.rows = dict(undisturbed.rows)
    for place, own in undisturbed.markers.items():
        servers.markers[place] = dict(own)
    servers.written = [one for one in undisturbed.written if one[0] == SIGNALS]
    old = servers.rows[topic, 0]
    servers.rows[topic, 0] = old._replace(state=UNREADABLE[state])
    with caplog.at_level(logging.WARNING):
        await (run_signals(log, servers) if topic == SIGNALS else run(log, servers))
    assert f"{topic}-0@{old.next_offset}" in caplog.text
    assert "built again" in caplog.text
    alerts, orders = published(servers)
    expected = {
        name: one
        for name, one in published(undisturbed)[0].items()
        if (one.rule_id in OTHER_KEYS) == (topic == SIGNALS)
    }
    assert expected
    assert alerts == expected
    assert set(orders) <= set(published(undisturbed)[1])
    assert servers.markers == undisturbed.markers


async def test_a_log_that_was_cut_begins_under_the_rules_of_its_first_record(log):
    """Without a snapshot, the marker that judges the first record may stand before it."""
    servers = Servers(None)
    draft = msgspec.structs.replace(RULES["D02"], version=9, owner="risk", reason="the same")
    servers.changes = [
        change(RuleChangeKind.PUBLISHED, "D02", 9, rule=encode_rule(draft)),
        change(RuleChangeKind.STATE, "D02", 9, state="active"),
    ]
    rules = Rules(servers)
    for topic in WATCHED:
        for at, position in ((0, 0), (300, 2)):
            name = rules.book.rule_set_at(position).name
            servers.markers[topic, 0][at] = Marker(at, position, name)
    agent = agent_of(servers, rules)
    starts = await agent.claim([TopicPartition(topic, 0) for topic in WATCHED])
    assert set(starts.values()) == {LOG_START}
    records = log[TRANSACTIONS][400:]
    end = 400 + len(records)
    await agent.handle(RecordBatch(TRANSACTIONS, 0, 400, end, records, 1))
    alerts, _ = published(servers)
    assert {one.rule_version for one in alerts.values() if one.rule_id == "D02"} == {9}


@pytest.mark.parametrize("topic", WATCHED)
async def test_a_record_of_a_newer_release_is_waited_for_and_judged_by_who_can_read_it(
    log, undisturbed, topic
):
    """What is before it is judged once, however often the batch is tried, and nothing behind it."""
    place = len(log[topic]) // 2
    unknown = max(schema.id for schema in released_registry()) + 1
    of_a_newer_release = SimpleNamespace(
        topic=topic, partition=0, offset=place, value=frame_of(unknown) + b"a body"
    )
    unreadable = [*log[topic][:place], of_a_newer_release, *log[topic][place + 1 :]]
    servers = Servers(None)
    agent = agent_of(servers, Rules(servers))
    partition = [TopicPartition(topic, 0) for topic in WATCHED]
    await agent.claim(partition)
    batch = RecordBatch(topic, 0, 0, len(unreadable), unreadable, 1)
    for _ in range(3):
        with pytest.raises(PartitionStuck, match=rf"{topic}-0@{place} .*: upgrade this worker"):
            await agent.handle(batch)
    written = [*servers.written]
    await agent.release(partition)
    assert servers.rows[topic, 0].next_offset == place
    before = Servers(None)
    first = agent_of(before, Rules(before))
    await first.claim(partition)
    await first.handle(RecordBatch(topic, 0, 0, place, log[topic][:place], 1))
    assert written == before.written
    await run(log, servers)  # a worker that can read it
    alerts, _ = published(servers)
    expected = {
        name: one
        for name, one in published(undisturbed)[0].items()
        if one.rule_id not in OTHER_KEYS
    }
    assert alerts.keys() == expected.keys()


def batch_of(stream: Stream, topic: str, partition: int) -> RecordBatch:
    encode = codec.encoder(RECORD_TYPES[topic])
    records = [
        SimpleNamespace(offset=offset, value=encode(sent.record))
        for offset, sent in enumerate(stream.sent)
    ]
    return RecordBatch(topic, partition, 0, len(records), records, 1)


async def test_a_worker_with_idle_partitions_alone_says_how_far_the_others_are(monkeypatch):
    """Two workers share the partitions, and all records are in those of the first."""
    monkeypatch.setattr(announcers, "ELSEWHERE_S", 3_600.0)
    servers, stream = Servers(None), Stream(3)
    rules = Rules(servers)
    busy, idle = agent_of(servers, rules), agent_of(servers, rules)
    await busy.claim([TopicPartition(topic, 0) for topic in WATCHED])
    await idle.claim([TopicPartition(topic, 1) for topic in WATCHED])
    for number in range(2):
        PlayerStory(stream).report(T0 + number, "INSTRUMENT_ADDED", instrument="card")
    PlayerStory(stream).report(T0 + 20_000, "LOGIN")
    servers.ends[PLAYER_EVENTS, 0] = len(stream.sent)

    def alerts_so_far() -> list[FraudAlert]:
        detectors, decode = GlobalDetectors([RULES["D08"]], 0, 2), codec.decoder(RiskSignal)
        return [
            alert
            for one in servers.signals()
            for alert in detectors.observe(SIGNALS, decode(one.value), one.offset)
        ]

    await idle.announce_idle()
    assert servers.signals() == []  # nothing is known yet
    await busy.handle(batch_of(stream, PLAYER_EVENTS, 0))
    await busy.announce_idle()
    assert alerts_so_far() == []
    vars(idle._announcer)["_look_elsewhere_at_s"] = 0.0  # as after that time
    await idle.announce_idle()
    said = [codec.decoder(RiskSignal)(one.value) for one in servers.signals()]
    own = [one for one in said if one.source.partition == 1]
    assert {one.source.topic for one in own} == set(WATCHED)
    assert {(one.kind, one.occurred_at) for one in own} == {(SignalKind.WATERMARK, T0 + 20_000)}
    [alert] = alerts_so_far()
    assert (alert.rule_id, alert.observed) == ("D08", 2)
    await idle.announce_idle()
    assert len(servers.signals()) == len(said)


async def test_a_worker_that_reads_records_asks_no_other(log):
    servers = Servers(None)
    rules = Rules(servers)
    agent = agent_of(servers, rules)
    await agent.claim([TopicPartition(topic, 0) for topic in WATCHED])
    asked = []

    async def last_values(place):
        asked.append(place)
        return []

    vars(rules)["last_values"] = last_values
    for number in range(3):
        first = 100 * number
        servers.ends[TRANSACTIONS, 0] = first + 100
        records = log[TRANSACTIONS][first : first + 100]
        await agent.handle(RecordBatch(TRANSACTIONS, 0, first, first + 100, records, 1))
        await agent.announce_idle()
    assert asked == []


async def test_late_records_are_written_to_the_signals_and_counted():
    """One behind its own partition's newest record; one behind what was said of its idle partition."""
    servers, stream = Servers(None), Stream(3)
    agent = agent_of(servers, Rules(servers))
    await agent.claim([TopicPartition(topic, 0) for topic in WATCHED])
    for at_ms in (T0 + 11_000, T0, T0 + 999):  # the grace is 10 s
        PlayerStory(stream).report(at_ms, "LOGIN", device="d")
    await agent.handle(batch_of(stream, PLAYER_EVENTS, 0))
    decode = codec.decoder(RiskSignal)
    said = [decode(one.value) for one in servers.signals()]
    late = [one.source.offset for one in said if one.kind == SignalKind.LATE]
    assert late == [1, 2]
    counts = {
        sample.labels: sample.value
        for sample in agent.samples()
        if sample.name == "pitboss.fraud.late"
    }
    assert counts == {(PLAYER_EVENTS, "newest"): 2}

    reader = agent_of(servers, Rules(servers), (SIGNALS,))
    await reader.claim([TopicPartition(SIGNALS, 0)])
    [partial] = [one for one in said if one.kind == SignalKind.PARTIAL]
    ahead = watermark_signal((PLAYER_EVENTS, 0, 0), T0 + 60_000)
    encode = codec.encoder(RiskSignal)
    records = [
        SimpleNamespace(offset=offset, value=encode(one))
        for offset, one in enumerate((ahead, partial))
    ]
    before = len(servers.signals())
    await reader.handle(RecordBatch(SIGNALS, 0, 0, 2, records, 1))
    [written] = [decode(one.value) for one in servers.signals()[before:]]
    assert (written.kind, written.source) == (SignalKind.LATE, partial.source)
    assert [(sample.labels, sample.value) for sample in reader.samples()] == [
        ((PLAYER_EVENTS, "idle"), 1)
    ]
