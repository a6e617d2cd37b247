"""A log, and real ledger workers that come and go: what the fault tests of the ledger share."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import psycopg

from ledger_sink.booking.settings import LedgerSettings
from ledger_sink.resolve.progress import KafkaPipelineProgress
from ledger_sink.resolve.settings import ResolveSettings
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.migrate import migrate
from pitboss.embedded.databases import create_database, drop_database
from pitboss.embedded.processes import poll
from pitboss.ops.topic_admin import create_topics
from pitboss.settings import runtime_of
from replay.audit.checks import check_replay, check_tables, check_topics
from replay.audit.evidence import read_all_topics, read_tables
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas import codec
from schemas.events import WalletTransaction
from schemas.topics import TRANSACTIONS
from streams.normalise.settings import NormaliseSettings
from streams.providers.registry import policies
from tests.support.fix_stack import SEED
from tests.support.ledger_events import bet, deposit, leg, rollback, transaction, win

PARTITIONS = 4
PATIENCE_S = 180
PROVIDERS = ("adyen", "house", "hub88")


def traffic(phase: int, count: int = 300):
    """Deposits, bets, wins, rollbacks, free rounds and retries of twelve players; each phase with ids of its own."""
    chance = random.Random(f"{SEED} {phase}")
    events = [deposit(f"{phase}-{n}", 5_000, player=f"p-{n}") for n in range(12)]
    for n in range(count):
        player, tx_id = f"p-{n % 12}", f"{phase}-{n}"
        amount = chance.choice([0, 10, 400])
        free = transaction("bet", tx_id, leg("BET", 10, is_free=True), decide=True, player=player)
        events.append(free if chance.random() < 0.1 else bet(tx_id, amount, player=player))
        if chance.random() < 0.3:
            events.append(win(f"{tx_id}-w", chance.choice([0, 700]), tx_id, player=player))
        if chance.random() < 0.2:
            events.append(rollback(f"{tx_id}-r", tx_id, player=player))
        if chance.random() < 0.1:
            events.append(chance.choice(events))
    return events


class Scene:
    """A namespace with its log, and workers that come and go."""

    def __init__(self, runtime, folder: Path) -> None:
        self.runtime = runtime
        self.folder = folder
        self.arm = folder / "arm"
        self.encode = codec.encoder(WalletTransaction)

    async def append(self, events, topic=TRANSACTIONS) -> None:
        records = [
            ((e.player_id or e.reference.tx_id).encode(), self.encode(e), (), None) for e in events
        ]
        async with BatchProducer(ProducerSettings(self.runtime.broker, "test")) as producer:
            await producer.send_keyed(self.runtime.topic(topic), records)

    @contextmanager
    def worker(
        self, name: str, point: str = "none", role: str = "ledger"
    ) -> Iterator[subprocess.Popen[bytes]]:
        runtime = self.runtime
        places = (runtime.broker, runtime.database_url, runtime.namespace, "test")
        settings: LedgerSettings | NormaliseSettings | ResolveSettings
        if role == "ledger":
            settings = LedgerSettings(*places, group_instance_id=name)
        elif role == "bundle":
            servers, _, names, version = places
            settings = NormaliseSettings(servers, names, version, {}, group_instance_id=name)
        else:
            settings = ResolveSettings(*places, "normalise", group_instance_id=name, min_age_ms=500)
        command = [
            sys.executable,
            "-m",
            "pitboss.workers.lifeline",
            "tests.faults.ledger_worker",
            role,
        ]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*command, json.dumps(asdict(settings)), point, str(self.arm)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
            try:
                yield process
            finally:
                process.kill()
                process.communicate()

    async def frozen(self, process: subprocess.Popen[bytes]) -> None:
        def is_frozen() -> bool:
            assert process.poll() is None, self.logs()
            return (
                Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
            )

        assert await asyncio.to_thread(poll, is_frozen, PATIENCE_S), self.logs()

    async def published(self, *, processes=()) -> None:
        """Wait until the whole log is booked and its answers are out."""
        async with KafkaPipelineProgress(
            self.runtime.broker, self.runtime.namespace, "normalise"
        ) as progress:
            ends = await progress.log_ends()

        query = (
            "SELECT topic, part, published_offset FROM stream_position WHERE consumer = 'ledger'"
        )
        with psycopg.connect(self.runtime.database_url, autocommit=True) as connection:

            def is_done() -> bool:
                for process in processes:
                    assert process.poll() is None, self.logs()
                rows = connection.execute(query).fetchall()
                reached = {f"{topic}-{part}": offset for topic, part, offset in rows}
                return all(reached.get(name) == end for name, end in ends.items())

            assert await asyncio.to_thread(poll, is_done, PATIENCE_S), self.logs()

    async def ended(self, process: subprocess.Popen[bytes]) -> int:
        return await asyncio.to_thread(process.wait, PATIENCE_S)

    async def proven(self) -> None:
        runtime = self.runtime
        topics = await read_all_topics(runtime.broker, runtime.namespace, PROVIDERS)
        database = LedgerDatabase(runtime.database_url, "pitboss.test")
        tables = await read_tables(database)
        checks = await check_tables(database)
        await database.close()
        empty = runtime_of(runtime.broker, runtime.database_url, f"{runtime.namespace}_r")
        create_database(empty)
        try:
            checks.append(check_topics(topics, tables))
            log = runtime.topic(TRANSACTIONS)
            checks.append(
                await check_replay(
                    empty.database_url, log, topics, tables, policies(), lambda *_: None
                )
            )
        finally:
            drop_database(empty)
        assert {check.name: check.detail for check in checks if not check.holds} == {}, self.logs()
        assert {(a.partition, a.source_offset) for a in tables.answers} == {
            (place.partition, place.offset) for place in topics.log_offsets
        }

    def rows(self, query: str):
        with psycopg.connect(self.runtime.database_url) as connection:
            return connection.execute(query).fetchall()

    def claims(self) -> int:
        """How often partitions were claimed."""
        [(claims,)] = self.rows(
            "SELECT sum(epoch)::int FROM stream_position WHERE consumer = 'ledger'"
        )
        return claims

    def assignments(self, name: str) -> int:
        """How often a worker has taken up what its group gave it."""
        return (self.folder / f"{name}.log").read_text().count(" begins at ")

    def logs(self) -> str:
        return "\n".join(
            f"--- {path.name}\n{path.read_text()[-4_000:]}"
            for path in sorted(self.folder.glob("*.log"))
        )


async def new_scene(runtime, folder: Path) -> Scene:
    """Empty tables and topics."""
    migrate(runtime.database_url)
    await create_topics(
        runtime.broker,
        runtime.namespace,
        PROVIDERS,
        partitions=PARTITIONS,
        raw_partitions=PARTITIONS,
    )
    return Scene(runtime, folder)
