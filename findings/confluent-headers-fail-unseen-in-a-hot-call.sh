#!/usr/bin/env bash
# Behaviour: Message.headers() of a record with a header name that is not UTF-8 sets an error and
#   returns a list at once, with a null pointer for the name. CPython notices that in an ordinary
#   call: a SystemError. Once the calling line is hot, the specialising interpreter leaves the check
#   out (PRECALL_NO_KW_METHOD_DESCRIPTOR_NOARGS asserts it in debug builds only). The caller gets the
#   list; looking at the name ends the process with a segmentation fault, else the error surfaces
#   at the end of the calling function, or later.
# Surprise: a test with a few records sees the SystemError and may catch it. A worker that has read
#   some records before dies, at every start again, by a header that anyone may send.
# Versions: Python 3.11.7, confluent-kafka 2.16.0 with librdkafka 2.16.0 and its mock of a broker,
#   aiokafka 0.14.0 as the sender.
# Source: Python's C API, "Exception Handling": a function that sets an error returns NULL.
# Right: the client returns NULL, or the bytes. Until then call it through operator.methodcaller,
#   which keeps the check, and never twice for one message.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
install confluent-kafka==2.16.0 aiokafka==0.14.0

observe <<'PY'
import asyncio
import struct
from operator import methodcaller

from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c
from confluent_kafka import Consumer, Producer, TopicPartition

GOOD, BAD = b"good", b"\xff\xfe12"
broker_owner = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "replaced", "log_level": 0})
[broker] = broker_owner.list_topics("t", 10).brokers.values()
bootstrap = f"{broker.host}:{broker.port}"


async def append(names):
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    batch = producer.create_batch()
    for _ in names:
        batch.append(key=b"k", value=b"v", timestamp=None, headers=[("NNNN", b"x")])
    written = bytearray(batch._build())
    for name in names:
        start = written.index(b"NNNN")
        written[start : start + 4] = name
    struct.pack_into(">I", written, 17, calc_crc32c(bytes(written[21:])))
    batch._buffer = written
    await (await producer.send_batch(batch, "t", partition=0))
    await producer.stop()


def read(message):
    message.headers()
    return "read"


def outcome_of(call, message):
    try:
        # Called from C, which checks what a function of Python returns.
        list(map(call, [message]))
        return "read"
    except SystemError as error:
        where = "the call itself" if "function read" not in str(error) else "the end of its function"
        return f"a SystemError at {where}"


asyncio.run(append([BAD] + [GOOD] * 100 + [BAD] * 2))
consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "g", "log_level": 0})
consumer.assign([TopicPartition("t", 0, 0)])
messages = []
while len(messages) < 103:
    message = consumer.poll(1)
    if message is not None and message.error() is None:
        messages.append(message)
print("first call:", outcome_of(read, messages[0]))
for message in messages[1:101]:
    read(message)
print("after 100 good ones:", outcome_of(read, messages[101]))
call = methodcaller("headers")
for message in messages[1:101]:
    call(message)
print("by methodcaller:", outcome_of(call, messages[102]))
PY
expect <<'TEXT'
first call: a SystemError at the call itself
after 100 good ones: a SystemError at the end of its function
by methodcaller: a SystemError at the call itself
TEXT
