"""The log on a broker, over a client in memory: what it asks for, and what it makes of the answers."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaError, TopicPartition

import replay.log.broker as broker_module
from replay.log.blocks import LogGap
from replay.log.broker import BrokerLog
from replay.log.pace import BLOCK_RECORDS_MAX
from runtime.security import BrokerAddress
from schemas.errors import Unavailable, UsageError

TOPIC = "wallet.transactions.v1"
_END = KafkaError._PARTITION_EOF
_GONE = KafkaError._AUTO_OFFSET_RESET


@dataclass
class FakeMessage:
    """A message of the client, or with `code` a notice of it."""

    number: int
    code: int | None = None
    named: list | None = None

    def error(self):
        return None if self.code is None else KafkaError(self.code)

    def offset(self):
        return self.number

    def timestamp(self):
        return (1, 1_000 + self.number)

    def key(self):
        return b"k%d" % self.number

    def value(self):
        return b"v%d" % self.number

    def headers(self):
        if self.named == ["not UTF-8"]:
            raise SystemError
        return self.named


@dataclass
class Client:
    """Answers from `messages`, as many as are asked for, and notes the requests."""

    messages: list[FakeMessage] = field(default_factory=list)
    bounds: dict = field(default_factory=lambda: {(TOPIC, 0): (0, 10), (TOPIC, 1): (5, 7)})
    asked: list = field(default_factory=list)

    def consume(self, count, timeout_s):
        self.asked.append(("consume", count))
        taken, self.messages = self.messages[:count], self.messages[count:]
        return taken

    def assign(self, places):
        self.asked.append(("assign", [(one.topic, one.partition, one.offset) for one in places]))

    def list_topics(self, timeout):
        self.asked.append(("list_topics",))
        topics: dict[str, dict[int, None]] = {}
        for topic, partition in self.bounds:
            topics.setdefault(topic, {})[partition] = None
        found = {name: type("Topic", (), {"partitions": each}) for name, each in topics.items()}
        return type("Cluster", (), {"topics": found})

    def offsets_for_times(self, places, timeout):
        self.asked.append(("offsets", len(places), places[0].offset))
        return [
            TopicPartition(
                one.topic,
                one.partition,
                self.bounds[one.topic, one.partition][one.offset == OFFSET_END],
            )
            for one in places
        ]

    def close(self):
        pass


@pytest.fixture
def client(monkeypatch):
    made = Client()
    monkeypatch.setattr(broker_module, "new_consumer", lambda options: made)
    return made


def read(client, from_offset, to_offset):
    return [*BrokerLog(BrokerAddress("nowhere:9")).read(TOPIC, 0, from_offset, to_offset)]


def test_no_more_records_are_asked_for_than_are_wanted(client):
    client.messages = [FakeMessage(number) for number in range(BLOCK_RECORDS_MAX + 3)]
    blocks = read(client, 0, BLOCK_RECORDS_MAX + 3)
    assert [len(block) for block in blocks] == [BLOCK_RECORDS_MAX, 3]
    # The client waits until it has as many: asking for more than there are would be a wait.
    asked = [each[1] for each in client.asked if each[0] == "consume"]
    assert asked == [BLOCK_RECORDS_MAX, 3]


def test_a_block_has_all_parts_of_its_records(client):
    client.messages = [
        FakeMessage(2, named=[("a", b"1")]),
        FakeMessage(4),
        FakeMessage(5, named=["not UTF-8"]),
        FakeMessage(6, named=[("b", None), ("a", b"2")]),
    ]
    [block] = read(client, 2, 7)
    assert block.offsets == [2, 4, 5, 6]
    assert block.timestamps_ms == [1_002, 1_004, 1_005, 1_006]
    assert block.keys == [b"k2", b"k4", b"k5", b"k6"]
    assert block.values == [b"v2", b"v4", b"v5", b"v6"]
    assert block.headers == {0: [("a", b"1")], 3: [("b", None), ("a", b"2")]}
    assert block.unreadable_headers == [5]


def test_the_end_of_the_log_ends_a_stretch_whose_last_offsets_have_no_records(client):
    client.messages = [FakeMessage(0), FakeMessage(1), FakeMessage(5, _END)]
    [block] = read(client, 0, 5)
    assert block.offsets == [0, 1]


def test_records_behind_the_stretch_wait_for_the_next_one(client):
    log = BrokerLog(BrokerAddress("nowhere:9"))
    client.messages = [FakeMessage(0), FakeMessage(3), FakeMessage(4), FakeMessage(5)]
    [first] = log.read(TOPIC, 0, 0, 2)
    second = [offset for block in log.read(TOPIC, 0, 2, 6) for offset in block.offsets]
    assert (first.offsets, second) == ([0], [3, 4, 5])
    assert [each for each in client.asked if each[0] == "assign"] == [("assign", [(TOPIC, 0, 0)])]


def test_what_the_broker_has_deleted_is_a_gap(client):
    client.bounds[TOPIC, 0] = (4, 10)
    client.messages = [FakeMessage(2, _GONE)]
    with pytest.raises(LogGap, match=r"wallet.transactions.v1-0@2: the broker holds it from 4 on"):
        read(client, 2, 10)


def test_another_error_says_where(client):
    client.messages = [FakeMessage(2, KafkaError._BAD_MSG)]
    with pytest.raises(Unavailable, match=r"wallet.transactions.v1-0@2"):
        read(client, 2, 10)


def test_bounds_of_all_topics_take_one_request_for_each_end(client):
    client.bounds["wallet.outcomes.v1", 0] = (1, 2)
    found = BrokerLog(BrokerAddress("nowhere:9")).all_bounds([TOPIC, "wallet.outcomes.v1"])
    assert found == {TOPIC: {0: (0, 10), 1: (5, 7)}, "wallet.outcomes.v1": {0: (1, 2)}}
    assert client.asked == [
        ("list_topics",),
        ("offsets", 3, OFFSET_BEGINNING),
        ("offsets", 3, OFFSET_END),
    ]
    with pytest.raises(UsageError, match=r"no topic 'wallet.outcome.v1'"):
        BrokerLog(BrokerAddress("nowhere:9")).bounds("wallet.outcome.v1")
