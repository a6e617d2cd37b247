"""The peer: the same mapping in a Faust agent, written as in Faust's own documentation.

Default settings throughout, Faust's own consumer and producer; only the web server is off, whose
port may be taken. Each record goes through the same `Normaliser`, and so through the same dialect
and the same Avro encoder, as ours.
"""

from __future__ import annotations

import sys
from typing import Any

import faust
import msgspec

from runtime.security import BrokerAddress
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser
from streams.providers.registry import DIALECTS


class PlainFaustSettings(msgspec.Struct, frozen=True):
    """The one argument of this process, as JSON."""

    broker: BrokerAddress
    app_id: str
    source: str
    sink: str
    partitions: int
    data_folder: str


class FaustRecord(msgspec.Struct, frozen=True, gc=False):
    """Faust's message as a raw record: the broker's time in milliseconds."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Any


def create_app(settings: PlainFaustSettings) -> faust.App:
    """Build an app with one agent: record in, event out."""
    app = faust.App(
        settings.app_id,
        **settings.broker.faust_options(),
        topic_partitions=settings.partitions,
        datadir=settings.data_folder,
        web_enabled=False,
        autodiscover=False,
    )
    source = app.topic(settings.source, key_serializer="raw", value_serializer="raw")
    sink = app.topic(settings.sink, key_serializer="raw", value_serializer="raw")
    normaliser = Normaliser(DIALECTS, keyring={})

    async def normalise(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            record = FaustRecord(
                message.topic,
                message.partition,
                message.offset,
                round(message.timestamp * 1000),
                message.key,
                message.value,
                message.headers,
            )
            for item in normaliser.normalise(record):
                assert isinstance(item, AcceptedTransaction), item
                await sink.send(key=item.key, value=item.value)

    app.agent(source, name="plain.normalise")(normalise)
    return app


def main(argument: str) -> None:
    """Run the peer until it is terminated."""
    app = create_app(msgspec.json.decode(argument, type=PlainFaustSettings))
    faust.Worker(app, loglevel="WARNING").execute_from_commandline()


if __name__ == "__main__":
    main(sys.argv[1])
