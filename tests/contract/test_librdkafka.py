"""What `tests.support.simulated_consumer` claims of librdkafka, by the library itself over its own mock of a broker."""

from __future__ import annotations

import asyncio
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from confluent_kafka import TopicPartition as Place

from runtime.kafka.intake.client_errors import END_OF_LOG
from runtime.kafka.intake.consumer import IntakeSettings, consumer_options
from runtime.security import BrokerAddress

TOPIC = "t"
RECORDS = 20
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerAddress]:
    """A broker in librdkafka, with twenty records in partition 0."""
    producer = Producer(
        {"test.mock.num.brokers": 1, "bootstrap.servers": "replaced", "log_level": 0}
    )
    [broker] = producer.list_topics(TOPIC, PATIENCE_S).brokers.values()
    for number in range(RECORDS):
        producer.produce(TOPIC, b"%d" % number, partition=0)
    assert producer.flush(PATIENCE_S) == 0
    yield BrokerAddress(f"{broker.host}:{broker.port}")
    producer.close()  # and with it the broker


@pytest.fixture
def consumer(broker: BrokerAddress) -> Iterator[Consumer]:
    # The mock answers a fetch that finds nothing only when its time is over.
    options = {**consumer_options(IntakeSettings(broker, "g")), "fetch.wait.max.ms": 5}
    consumer = Consumer(options)
    yield consumer
    consumer.close()


def read(consumer: Consumer, until: Callable[[Message], bool]) -> list[Message]:
    """Poll until a message fulfils a condition."""
    messages: list[Message] = []
    give_up_s = time.monotonic() + PATIENCE_S
    while not (messages and until(messages[-1])):
        assert time.monotonic() < give_up_s, [message.offset() for message in messages]
        if (message := consumer.poll(0.1)) is not None:
            messages.append(message)
    return messages


def is_end(message: Message) -> bool:
    error = message.error()
    return error is not None and error.code() == END_OF_LOG


def offsets(messages: list[Message]) -> list[int | None]:
    return [message.offset() for message in messages if message.error() is None]


def test_the_mark_of_the_end_has_the_ends_offset_and_is_told_once(consumer: Consumer):
    consumer.assign([Place(TOPIC, 0, 5)])
    messages = read(consumer, is_end)
    assert offsets(messages) == [*range(5, RECORDS)]
    assert messages[-1].offset() == RECORDS
    assert consumer.poll(0.1) is None


def test_a_seek_drops_what_is_prefetched_and_the_end_is_told_again(consumer: Consumer):
    consumer.assign([Place(TOPIC, 0, 0)])
    read(consumer, lambda message: message.offset() == 3)  # the rest is prefetched
    consumer.seek(Place(TOPIC, 0, 10))
    assert offsets(read(consumer, is_end)) == [*range(10, RECORDS)]
    consumer.seek(Place(TOPIC, 0, RECORDS))
    assert offsets(read(consumer, is_end)) == []


def test_a_pause_drops_what_is_prefetched_and_a_resume_goes_on_behind_what_was_taken(
    consumer: Consumer,
):
    consumer.assign([Place(TOPIC, 0, 0)])
    read(consumer, lambda message: message.offset() == 3)
    consumer.pause([Place(TOPIC, 0)])
    assert consumer.poll(0.1) is None
    consumer.resume([Place(TOPIC, 0)])
    consumer.seek(Place(TOPIC, 0, 4))  # or it may take a second until it is fetched again
    assert offsets(read(consumer, is_end)) == [*range(4, RECORDS)]


def test_a_pause_is_kept_over_assignments(consumer: Consumer):
    consumer.assign([Place(TOPIC, 0, 0)])
    read(consumer, is_end)
    consumer.pause([Place(TOPIC, 0)])
    consumer.unassign()
    consumer.assign([Place(TOPIC, 0, 0)])
    assert consumer.poll(0.2) is None
    consumer.resume([Place(TOPIC, 0)])
    consumer.assign([Place(TOPIC, 0, 0)])
    assert offsets(read(consumer, is_end)) == [*range(RECORDS)]


def test_a_position_outside_of_the_log_is_an_error_of_its_partition(consumer: Consumer):
    consumer.assign([Place(TOPIC, 0, 99)])
    [message] = read(consumer, lambda _: True)
    assert (error := message.error()) is not None
    assert error.code() == KafkaError._AUTO_OFFSET_RESET
    assert (message.topic(), message.partition(), message.offset()) == (TOPIC, 0, 99)
    with pytest.raises(KafkaException):
        consumer.seek(Place(TOPIC, 0, 0))  # the partition has stopped: only an assignment helps
    consumer.assign([Place(TOPIC, 0, 0)])
    assert offsets(read(consumer, is_end)) == [*range(RECORDS)]


def test_consume_waits_until_it_is_full_or_its_time_is_over(consumer: Consumer):
    consumer.assign([Place(TOPIC, 0, 0)])
    read(consumer, lambda message: message.offset() == 0)
    begin_s = time.monotonic()
    found = consumer.consume(1_000, 2.0)
    assert time.monotonic() - begin_s >= 2.0, "so it must not be used to wait for the first record"
    assert offsets(found) == [*range(1, RECORDS)], "although they were there all the time"


def test_nothing_is_read_between_an_assignment_and_the_claim(broker: BrokerAddress):
    assigned: list[TopicPartition] = []
    options = {**consumer_options(IntakeSettings(broker, "claim")), "fetch.wait.max.ms": 5}
    consumer = Consumer(options)

    def on_assign(_: Consumer, places: list[Place]) -> None:
        consumer.assign([])
        assigned.extend(TopicPartition(place.topic, place.partition) for place in places)

    revoked: list[int] = []
    consumer.subscribe([TOPIC], on_assign=on_assign, on_revoke=lambda _, p: revoked.append(len(p)))
    give_up_s = time.monotonic() + PATIENCE_S
    while not assigned and time.monotonic() < give_up_s:
        assert consumer.poll(0.1) is None
    assert consumer.poll(0.2) is None
    consumer.assign(
        [Place(tp.topic, tp.partition, 7 if not tp.partition else 0) for tp in assigned]
    )
    found = read(consumer, lambda message: is_end(message) and message.partition() == 0)
    assert offsets(found) == [*range(7, RECORDS)]
    consumer.close()
    assert revoked == [len(assigned)], "all that the group had assigned is revoked"


async def append_with_headers(broker: BrokerAddress, topic: str, names: list[bytes]) -> None:
    """Append a record for each name, of a header in front of two others; brokers check no names."""
    producer = AIOKafkaProducer(**broker.aiokafka_options())
    await producer.start()
    try:
        batch = producer.create_batch()
        for name in names:
            headers = [("N" * len(name), b"x"), ("content-type", b"y"), ("brand", b"z")]
            batch.append(key=b"k", value=b"v", timestamp=None, headers=headers)
        written = bytearray(batch._build())
        for name in names:
            start = written.index(b"N" * len(name))
            written[start : start + len(name)] = name
        struct.pack_into(">I", written, 17, calc_crc32c(bytes(written[21:])))
        batch._buffer = written
        await (await producer.send_batch(batch, topic, partition=0))
    finally:
        await producer.stop()


PROGRAM = """
import sys
from confluent_kafka import Consumer, TopicPartition
from runtime.kafka.records import FetchedRecord, readable_headers
from schemas.errors import Rejected

bootstrap, topic, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "g"})
consumer.assign([TopicPartition(topic, 0, 0)])
seen = []
while len(seen) < count:
    message = consumer.poll(1)
    if message is None or message.error():
        continue
    record = FetchedRecord(topic, 0, message.offset(), message)
    try:
        seen.append([name for name, _ in record.headers])
    except Rejected as error:
        seen.append(error.reason.value)
    assert len(readable_headers(record)) in (0, 3)
print([names if isinstance(names, str) else names[0] for names in seen])
"""


async def test_a_header_that_cannot_be_decoded_is_noticed_however_often_headers_were_read(
    broker: BrokerAddress,
):
    """In a process of its own: a header without a name ends it with a segmentation fault."""
    names = [b"good%d" % number for number in range(100)]
    names[::10] = [b"\xff\xfe%d" % number for number in range(10)]
    await append_with_headers(broker, "headers", names)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", PROGRAM, broker.servers, "headers", str(len(names))],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = ["BAD_HEADER" if name[0] == 0xFF else name.decode() for name in names]
    assert done.stdout.splitlines()[-1] == str(expected)
