"""The peer with batches: Quix Streams reads, one transaction of psycopg a batch.

A sink of Quix collects what its consumer reads; at each checkpoint it is flushed, and only then are
the offsets committed. Runs in an environment of its own, which has Quix Streams beside our code.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import msgspec
import psycopg
from quixstreams import Application
from quixstreams.kafka.configuration import ConnectionConfig
from quixstreams.sinks import BaseSink

from lab.bench.peers.wallets import (
    INSERT_TRANSACTIONS,
    SCHEMA,
    SELECT_BALANCES,
    SELECT_TRANSACTIONS,
    UPSERT_BALANCES,
    PeerBook,
    PeerRecord,
    identities_needed,
    players_of,
)
from runtime.security import BrokerAddress
from schemas.events import WalletTransaction
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser
from streams.providers.registry import DIALECTS

CHECKPOINT_RECORDS: Final = 5_000
CHECKPOINT_S: Final = 0.5


class QuixPipelineSettings(msgspec.Struct, frozen=True):
    """The one argument of this process, as JSON."""

    broker: BrokerAddress
    group: str
    sources: list[str]
    sink: str
    database_url: str
    keys_file: str


class WalletSink(BaseSink):  # type: ignore[misc] # untyped here: Quix is in no environment of ours
    """Normalises what is read, and books a checkpoint's events in one transaction."""

    def __init__(self, settings: QuixPipelineSettings, application: Any) -> None:
        super().__init__()
        keyring = msgspec.json.decode(Path(settings.keys_file).read_bytes())
        self._normaliser = Normaliser(DIALECTS, keyring)
        self._connection = psycopg.connect(settings.database_url, autocommit=True)
        self._connection.execute(SCHEMA)
        self._sink = settings.sink
        self._producer = application.get_producer()
        self._events: list[WalletTransaction] = []

    def add(
        self,
        value: Any,
        key: Any,
        timestamp: int,
        headers: Any,
        topic: str,
        partition: int,
        offset: int,
    ) -> None:
        """Normalise a record."""
        record = PeerRecord(topic, partition, offset, timestamp, key, value, headers)
        for item in self._normaliser.normalise(record):
            assert isinstance(item, AcceptedTransaction), item
            self._events.append(item.transaction)

    def flush(self) -> None:
        """Book what was collected, and publish a balance for each event."""
        events, self._events = self._events, []
        if not events:
            return
        book = PeerBook()
        with self._connection.transaction():
            execute = self._connection.execute
            found = execute(SELECT_TRANSACTIONS, (identities_needed(events),)).fetchall()
            book.fill(found, execute(SELECT_BALANCES, (players_of(events),)).fetchall())
            balances = [book.apply(event) for event in events]
            if book.added:
                execute(INSERT_TRANSACTIONS, book.transaction_columns())
                execute(UPSERT_BALANCES, book.balance_columns())
        for balance in filter(None, balances):
            self._producer.produce(self._sink, key=balance[0], value=balance[1])
        self._producer.flush()

    def on_paused(self) -> None:
        """Forget what is collected: it is read again."""
        self._events.clear()


def main(argument: str) -> None:
    """Run the peer until it is terminated."""
    settings = msgspec.json.decode(argument, type=QuixPipelineSettings)
    application = Application(
        broker_address=ConnectionConfig.from_librdkafka_dict(settings.broker.librdkafka_options()),
        consumer_group=settings.group,
        auto_offset_reset="earliest",
        commit_every=CHECKPOINT_RECORDS,
        commit_interval=CHECKPOINT_S,
        auto_create_topics=False,
        loglevel="WARNING",
    )
    sink = WalletSink(settings, application)
    for source in settings.sources:
        topic = application.topic(source, key_deserializer="bytes", value_deserializer="bytes")
        application.dataframe(topic).sink(sink)
    application.run()


if __name__ == "__main__":
    main(sys.argv[1])
