"""The peer as Faust's documentation writes it: an agent a topic, one commit an event.

Default settings throughout, Faust's own consumer and producer; only the web server is off, whose
port may be taken. Each record goes through our `Normaliser`, which checks its signature, then
through one transaction of PostgreSQL, and then its balance is sent.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import faust
import msgspec
import psycopg

from lab.bench.peers.wallets import (
    INSERT_TRANSACTIONS,
    SCHEMA,
    SELECT_BALANCES,
    SELECT_TRANSACTIONS,
    UPSERT_BALANCES,
    PeerBook,
    identities_needed,
    players_of,
)
from lab.bench.plain_faust import FaustRecord
from runtime.security import BrokerAddress
from schemas.events import WalletTransaction
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser
from streams.providers.registry import DIALECTS


class FaustPipelineSettings(msgspec.Struct, frozen=True):
    """The one argument of this process, as JSON."""

    broker: BrokerAddress
    group: str
    sources: list[str]
    sink: str
    database_url: str
    keys_file: str
    partitions: int
    data_folder: str


async def book(connection: Any, event: WalletTransaction) -> tuple[bytes, bytes] | None:
    """Book one event in a transaction of its own, and return its balance.

    Returns None for an event that is booked already.
    """
    peer_book = PeerBook()
    async with connection.transaction():
        found = await connection.execute(SELECT_TRANSACTIONS, (identities_needed([event]),))
        balances = await connection.execute(SELECT_BALANCES, (players_of([event]),))
        peer_book.fill(await found.fetchall(), await balances.fetchall())
        message = peer_book.apply(event)
        if peer_book.added:
            await connection.execute(INSERT_TRANSACTIONS, peer_book.transaction_columns())
            await connection.execute(UPSERT_BALANCES, peer_book.balance_columns())
    return message


def create_app(settings: FaustPipelineSettings) -> faust.App:
    """Build an app with an agent for each topic: record in, balance out."""
    app = faust.App(
        settings.group,
        **settings.broker.faust_options(),
        topic_partitions=settings.partitions,
        datadir=settings.data_folder,
        web_enabled=False,
        autodiscover=False,
    )
    keyring = msgspec.json.decode(Path(settings.keys_file).read_bytes())
    normaliser = Normaliser(DIALECTS, keyring)
    sink = app.topic(settings.sink, key_serializer="raw", value_serializer="raw")

    async def settle(stream: Any) -> None:
        connection = await psycopg.AsyncConnection.connect(settings.database_url, autocommit=True)
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
                balance = await book(connection, item.transaction)
                if balance is not None:
                    await sink.send(key=balance[0], value=balance[1])

    for number, source in enumerate(settings.sources):
        topic = app.topic(source, key_serializer="raw", value_serializer="raw")
        app.agent(topic, name=f"peer.settle.{number}")(settle)
    return app


def main(argument: str) -> None:
    """Make the tables, and run the peer until it is terminated."""
    settings = msgspec.json.decode(argument, type=FaustPipelineSettings)
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        connection.execute(SCHEMA)
    faust.Worker(create_app(settings), loglevel="WARNING").execute_from_commandline()


if __name__ == "__main__":
    main(sys.argv[1])
