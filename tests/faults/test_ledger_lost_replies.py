"""The connection to the database fails at any message: nothing is lost or doubled, and every answer is published.

A proxy between the ledger and PostgreSQL counts what the client sends. In each run it spoils one message: the request
is lost or never forwarded, or its reply is swallowed (a COMMIT among them) or held back for ever.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import psycopg
import pytest

from ledger_sink.booking.committer import Committer
from ledger_sink.booking.positions import claim_positions
from ledger_sink.booking.publisher import Publisher
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.migrate import migrate
from schemas import codec
from schemas.errors import Unavailable
from schemas.events import WalletBalance, WalletOutcome
from schemas.topics import BALANCES, OUTCOMES, TRANSACTIONS
from tests.support.fix_stack import SEED
from tests.support.ledger_events import (
    bet,
    deposit,
    house,
    leg,
    log_event,
    rollback,
    transaction,
    win,
)

pytestmark = [pytest.mark.integration, pytest.mark.faults]

SILENCE_MAX_S = 1.5
PATIENCE_S = 180

DROPPED, LOST, SWALLOWED, STALLED = "dropped", "lost", "swallowed", "stalled"


class Proxy:
    """Forwards everything but for one client message, counted over all connections."""

    def __init__(self, database_url: str) -> None:
        parts = urlsplit(database_url)
        self._server = (parts.hostname, parts.port)
        self._parts = parts
        self._writers: set[asyncio.StreamWriter] = set()
        self.sent = 0
        self.spoils: tuple[int, str] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        userinfo = self._parts.netloc.rpartition("@")[0]
        try:
            yield self._parts._replace(netloc=f"{userinfo}@127.0.0.1:{port}").geturl()
        finally:
            server.close()
            for writer in list(self._writers):
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._server)
        self._writers |= {writer, server_writer}
        replies = asyncio.Event()  # set: replies are dropped from now on
        is_held = asyncio.Event()
        backwards = asyncio.ensure_future(self._answer(server_reader, writer, replies, is_held))
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                mine, self.sent = self.sent, self.sent + 1
                spoil = self.spoils[1] if self.spoils and self.spoils[0] == mine else None
                if spoil == DROPPED:
                    break
                if spoil == LOST:
                    continue
                if spoil == SWALLOWED:
                    replies.set()
                if spoil == STALLED:
                    is_held.set()
                server_writer.write(data)
                await server_writer.drain()
        backwards.cancel()
        for one in (writer, server_writer):
            one.transport.abort()
            self._writers.discard(one)

    async def _answer(self, reader, writer, swallow, is_held) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                if swallow.is_set():
                    break
                if not is_held.is_set():
                    writer.write(data)
        writer.transport.abort()


class Topics:
    def __init__(self) -> None:
        self.outcomes: dict = {}
        self.balances: dict = {}

    async def send(self, topic, records) -> None:
        for _, value in records:
            if topic == OUTCOMES:
                outcome = codec.decoder(WalletOutcome)(value)
                key = (outcome.event_id, outcome.attempt)
                assert self.outcomes.setdefault(key, outcome) == outcome
            else:
                balance = codec.decoder(WalletBalance)(value)
                self.balances[balance.player_id] = balance


FREE = transaction("bet", "f", leg("BET", 10, is_free=True), decide=True)
PARTS = {
    0: [
        [deposit("d", 1_000), bet("a", 100), FREE],
        [
            bet("a", 100),
            win("w", 30, "a"),
            rollback("r", "a"),
            house("player.blocked", "x", leg("PLAYER_STATE", None, None)),
        ],
        [bet("b", 10), rollback("rf", "f"), bet("b", 10)],
    ],
    1: [
        [deposit("e", 500, player="p-2")],
        [rollback("r9", "z", player="p-2"), bet("z", 50, player="p-2"), bet("y", 70, player="p-2")],
    ],
}


async def until_it_works(act) -> None:
    """As the intake and its lanes do: what is unavailable is tried again."""
    while True:
        try:
            return await act()
        except Unavailable:
            await asyncio.sleep(0.01)


async def play(url: str) -> Topics:
    """Book all batches as a worker does, one batch of a partition at a time."""
    topics = Topics()
    ledger = PostgresLedger(LedgerDatabase(url, "pitboss.ledger", silence_max_s=SILENCE_MAX_S), {})
    publishing = LedgerDatabase(url, "pitboss.publisher", silence_max_s=SILENCE_MAX_S)
    claiming = LedgerDatabase(url, "pitboss.claim", silence_max_s=SILENCE_MAX_S)
    publisher = Publisher(
        publishing,
        topics.send,
        ledger.epochs,
        log_topic=TRANSACTIONS,
        balances_topic=BALANCES,
        outcomes_topic=OUTCOMES,
    )
    committer = Committer(ledger, publisher)
    tasks = [asyncio.ensure_future(publisher.run()), asyncio.ensure_future(committer.run())]

    async def claim() -> None:
        for part, claim in (await claim_positions(claiming, PARTS)).items():
            ledger.epochs[part] = claim.epoch
            await publisher.resend(part, claim.published_offset, claim.next_offset)

    async def lane(part: int) -> None:
        start = 0
        for events in PARTS[part]:
            placed = [log_event(event, part, start + n) for n, event in enumerate(events)]
            slice_ = Slice(part, start, start + len(events), placed, 1, 1)
            await until_it_works(lambda slice_=slice_: committer.submit(slice_))
            start += len(events)

    await until_it_works(claim)
    await asyncio.gather(*[lane(part) for part in PARTS])
    await publisher._queue.join()
    await until_it_works(publisher.store_cursors)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for database in (ledger.database, publishing, claiming):
        await database.close()
    return topics


TABLES = {
    "entry": "part, source_offset, event_id::text, decision, outcome, reason, currency, available_minor, version, transfers",
    "repeat": "part, source_offset, event_id::text, outcome, reason, currency, available_minor, version",
    "transfer": "part, source_offset, player_id, currency, version, debit, credit, amount_minor, cash_minor, event_id::text",
    "wallet": "player_id, currency, cash_minor, bonus_minor, held_minor, version",
    "closing": "event_id::text, player_id, action",
    "player_state": "player_id, standings",
    "stream_position": "part, next_offset, published_offset",
}


def everything(connection) -> dict:
    found = {
        table: connection.execute(f"SELECT {columns} FROM {table} ORDER BY 1, 2, 3").fetchall()
        if table != "player_state"
        else connection.execute(f"SELECT {columns} FROM {table} ORDER BY 1").fetchall()
        for table, columns in TABLES.items()
    }
    rows = connection.execute(
        "SELECT part, from_offset, next_offset FROM batch ORDER BY sequence"
    ).fetchall()
    for part, batches in PARTS.items():
        reached = 0
        for _, first, after in [row for row in rows if row[0] == part]:
            assert first == reached
            reached = after
        assert reached == sum(map(len, batches))
    return found


def said(topics: Topics) -> tuple:
    outcomes = sorted(
        (o.provider_tx_id, o.attempt.offset, o.outcome, o.version) for o in topics.outcomes.values()
    )
    return outcomes, sorted(
        (b.player_id, b.version, b.available_minor) for b in topics.balances.values()
    )


@pytest.fixture
def tables(runtime):
    migrate(runtime.database_url)
    with psycopg.connect(runtime.database_url, autocommit=True) as connection:
        yield runtime.database_url, connection


def chosen(messages: int, spoil: str) -> list[int]:
    """Every message is dropped and every reply swallowed; silence costs its time, so only some are met with it."""
    if spoil in (DROPPED, SWALLOWED):
        return list(range(messages))
    return sorted(random.Random(SEED).sample(range(messages), min(8, messages)))


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "spoil",
    [DROPPED, SWALLOWED, *(pytest.param(one, marks=pytest.mark.prove) for one in (LOST, STALLED))],
)
async def test_any_message_may_fail(tables, spoil):
    url, connection = tables
    proxy = Proxy(url)
    async with proxy.running() as proxied:
        expected = said(await play(proxied))
        rows, messages = everything(connection), proxy.sent
        assert len(rows["entry"]) + len(rows["repeat"]) == len(expected[0]) == 14
        tried = 0
        for n in chosen(messages, spoil):
            connection.execute("TRUNCATE " + ", ".join([*TABLES, "batch"]))
            proxy.sent, proxy.spoils = 0, (n, spoil)
            topics = await asyncio.wait_for(play(proxied), PATIENCE_S)
            assert everything(connection) == rows, (n, spoil)
            assert said(topics) == expected, (n, spoil)
            tried += 1
        print(f"{spoil}: {tried} of {messages} messages")
