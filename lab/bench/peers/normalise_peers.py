"""The peers of `pitboss bench normalise --peers`: the same mapping in other stream processors.

Each is one process that reads the raw topic, gives every record to our `Normaliser`, and appends
what comes out under its key; signatures are not checked. `quix` and `bytewax` run in environments
of their own. `loop` is a bare loop over confluent-kafka, consume, map and produce: what is left
when nothing processes streams, and so the limit. Settings are defaults throughout, but partitions
are chosen as Java's client does.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from lab.bench.peers.wallets import PeerRecord
from runtime.security import BrokerAddress
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser
from streams.providers.registry import DIALECTS

CONSUME_MAX: Final = 1_000
COMMIT_EVERY_BATCHES: Final = 50

Normalise = Callable[[PeerRecord], Iterable[tuple[bytes, bytes]]]


class NormalisePeerSettings(msgspec.Struct, frozen=True):
    """The one argument of this process, as JSON."""

    peer: str
    broker: BrokerAddress
    group: str
    source: str
    sink: str


def create_normalise() -> Normalise:
    """Return the mapping of a record to the keys and values that it becomes."""
    normaliser = Normaliser(DIALECTS, keyring={})

    def normalise(record: PeerRecord) -> list[tuple[bytes, bytes]]:
        results = []
        for item in normaliser.normalise(record):
            assert isinstance(item, AcceptedTransaction), item
            results.append((item.key, item.value))
        return results

    return normalise


def run_loop(settings: NormalisePeerSettings) -> None:
    """Consume, map and produce with confluent-kafka."""
    from confluent_kafka import Consumer, Producer

    consumer = Consumer(
        {
            **settings.broker.librdkafka_options(),
            "group.id": settings.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    producer = Producer(
        {
            **settings.broker.librdkafka_options(),
            "enable.idempotence": True,
            "partitioner": "murmur2",
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    normalise = create_normalise()
    consumer.subscribe([settings.source])
    is_over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: is_over.set())
    batches = 0
    while not is_over.is_set():
        messages = consumer.consume(CONSUME_MAX, 0.1)
        for message in messages:
            if message.error() is not None:
                continue
            for key, value in normalise(_to_record(message)):
                producer.produce(settings.sink, value, key)
        producer.poll(0)
        if messages:
            batches += 1
            if batches % COMMIT_EVERY_BATCHES == 0:
                producer.flush()
                consumer.commit(asynchronous=False)
    producer.flush()
    consumer.close()  # leaves the group: the next run need not wait for this member


def _to_record(message: Any) -> PeerRecord:
    return PeerRecord(
        message.topic(),
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        message.key(),
        message.value(),
        message.headers() or (),
    )


def _value_serializer() -> Any:
    from quixstreams.models.serializers import Serializer

    class SecondOfPair(Serializer):  # type: ignore[misc] # untyped here
        def __call__(self, value: Any, *_: Any, **__: Any) -> bytes:
            result: bytes = value[1]
            return result

    return SecondOfPair()


def run_quix(settings: NormalisePeerSettings) -> None:
    """Map in a StreamingDataFrame of Quix Streams."""
    from quixstreams import Application, message_context
    from quixstreams.kafka.configuration import ConnectionConfig

    application = Application(
        broker_address=ConnectionConfig.from_librdkafka_dict(settings.broker.librdkafka_options()),
        consumer_group=settings.group,
        auto_offset_reset="earliest",
        auto_create_topics=False,
        producer_extra_config={"partitioner": "murmur2"},
        loglevel="WARNING",
    )
    source = application.topic(
        settings.source, key_deserializer="bytes", value_deserializer="bytes"
    )
    # The frame carries key and value together; each serialiser takes its own.
    sink = application.topic(
        settings.sink, key_serializer="bytes", value_serializer=_value_serializer()
    )
    normalise = create_normalise()

    def apply(value: bytes, key: bytes, timestamp: int, headers: Any) -> Any:
        context = message_context()
        return normalise(
            PeerRecord(
                context.topic, context.partition, context.offset, timestamp, key, value, headers
            )
        )

    frame = application.dataframe(source).apply(apply, expand=True, metadata=True)
    frame.set_headers(lambda *_: [])
    frame.to_topic(sink, key=lambda pair: pair[0])
    application.run()


def run_bytewax(settings: NormalisePeerSettings) -> None:
    """Map in a dataflow of Bytewax."""
    import bytewax.operators as op
    from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
    from bytewax.dataflow import Dataflow
    from bytewax.run import cli_main

    normalise = create_normalise()

    def apply(message: Any) -> Iterable[Any]:
        record = PeerRecord(
            message.topic,
            message.partition,
            message.offset,
            message.timestamp[1],
            message.key,
            message.value,
            message.headers,
        )
        return [KafkaSinkMessage(key, value) for key, value in normalise(record)]

    servers = [settings.broker.servers]
    security = settings.broker.librdkafka_options()
    del security["bootstrap.servers"]
    flow = Dataflow("normalise")
    source = KafkaSource(servers, [settings.source], add_config=security)
    records = op.input("raw", flow, source)
    events = op.flat_map("normalise", records, apply)
    sink = KafkaSink(servers, settings.sink, add_config={**security, "partitioner": "murmur2"})
    op.output("log", events, sink)
    cli_main(flow)


RUNNERS: Final = {"loop": run_loop, "quix": run_quix, "bytewax": run_bytewax}


def main(argument: str) -> None:
    """Run a peer until it is terminated."""
    settings = msgspec.json.decode(argument, type=NormalisePeerSettings)
    RUNNERS[settings.peer](settings)


if __name__ == "__main__":
    main(sys.argv[1])
