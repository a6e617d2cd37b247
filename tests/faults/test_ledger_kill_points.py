"""Real workers frozen at the points where it would hurt, and killed there, or overtaken by another and let go on.

Whatever happens, what is left is what the rules say of the log: every row, every answer on its topic, and a replay.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import psycopg
import pytest

from ledger_sink.agent import LedgerSettings
from ledger_sink.database import Database
from ledger_sink.migrate import migrate
from ledger_sink.progress import KafkaProgress
from ledger_sink.resolve_agent import ResolveSettings
from pitboss.embedded.databases import create_database, drop_database
from pitboss.embedded.processes import poll
from pitboss.settings import runtime_of
from pitboss.topic_admin import create_topics
from replay.checks import check_replay, check_tables, check_topics
from replay.evidence import read_all_topics, read_tables
from schemas import codec
from schemas.errors import Fenced
from schemas.events import WalletTransaction
from schemas.topics import TRANSACTIONS, UNRESOLVED
from streams.kafka.producer import BatchProducer, ProducerSettings
from streams.providers.registry import policies
from tests.fix_stack import SEED
from tests.unit.ledger_events import bet, deposit, house, leg, rollback, transaction, win

pytestmark = [pytest.mark.integration, pytest.mark.faults, pytest.mark.timeout(180)]

PARTITIONS = 4
PATIENCE_S = 90
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
        ]  # fmt: skip
        async with BatchProducer(ProducerSettings(self.runtime.bootstrap_servers, "test")) as producer:
            await producer.send_keyed(self.runtime.topic(topic), records)

    @contextmanager
    def worker(self, name: str, point: str = "none", role: str = "ledger") -> Iterator[subprocess.Popen[bytes]]:
        runtime = self.runtime
        places = (runtime.bootstrap_servers, runtime.database_url, runtime.namespace, "test")
        settings = (
            LedgerSettings(*places, group_instance_id=name)
            if role == "ledger"
            else ResolveSettings(*places, "normalise", group_instance_id=name, min_age_ms=500)
        )
        command = [sys.executable, "-m", "tests.faults.ledger_worker", role]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*command, json.dumps(asdict(settings)), point, str(self.arm)], stdout=log, stderr=log
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    async def frozen(self, process: subprocess.Popen[bytes]) -> None:
        def is_frozen() -> bool:
            assert process.poll() is None, self.logs()
            return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

        assert await asyncio.to_thread(poll, is_frozen, PATIENCE_S), self.logs()

    async def published(self, *, processes=()) -> None:
        """Wait until the whole log is booked and its answers are out."""
        async with KafkaProgress(self.runtime.bootstrap_servers, self.runtime.namespace, "normalise") as progress:
            ends = await progress.log_ends()

        def is_done() -> bool:
            for process in processes:
                assert process.poll() is None, self.logs()
            with psycopg.connect(self.runtime.database_url) as connection:
                rows = connection.execute(
                    "SELECT topic, part, published_offset FROM stream_position WHERE consumer = 'ledger'"
                ).fetchall()
            reached = {f"{topic}-{part}": offset for topic, part, offset in rows}
            return all(reached.get(name) == end for name, end in ends.items())

        assert await asyncio.to_thread(poll, is_done, PATIENCE_S), self.logs()

    async def ended(self, process: subprocess.Popen[bytes]) -> int:
        return await asyncio.to_thread(process.wait, PATIENCE_S)

    async def proven(self) -> None:
        runtime = self.runtime
        topics = await read_all_topics(runtime.bootstrap_servers, runtime.namespace, PROVIDERS)
        database = Database(runtime.database_url, "pitboss.test")
        tables = await read_tables(database)
        checks = await check_tables(database)
        await database.close()
        empty = runtime_of(runtime.bootstrap_servers, runtime.database_url, f"{runtime.namespace}_r")
        create_database(empty)
        try:
            checks.append(check_topics(topics, tables))
            log = runtime.topic(TRANSACTIONS)
            checks.append(await check_replay(empty.database_url, log, topics, tables, policies(), lambda *_: None))
        finally:
            drop_database(empty)
        assert {check.name: check.detail for check in checks if not check.holds} == {}, self.logs()
        assert {(a.part, a.source_offset) for a in tables.answers} == {
            (sourced.source.partition, sourced.source.offset) for log in topics.log.values() for sourced in log
        }

    def rows(self, query: str):
        with psycopg.connect(self.runtime.database_url) as connection:
            return connection.execute(query).fetchall()

    def claims(self) -> int:
        """How often partitions were claimed."""
        [(claims,)] = self.rows("SELECT sum(epoch)::int FROM stream_position WHERE consumer = 'ledger'")
        return claims

    def logs(self) -> str:
        return "\n".join(f"--- {path.name}\n{path.read_text()[-4_000:]}" for path in sorted(self.folder.glob("*.log")))


@pytest.fixture
async def scene(runtime, tmp_path):
    migrate(runtime.database_url)
    await create_topics(runtime.bootstrap_servers, runtime.namespace, PROVIDERS, partitions=PARTITIONS)
    return Scene(runtime, tmp_path)


@pytest.mark.parametrize(
    "point",
    [
        "before the transaction", "inside the transaction", "after the commit", "before it is published",
        "after it is published",
    ],
)  # fmt: skip
async def test_a_ledger_worker_is_killed(scene, point):
    await scene.append(traffic(1))
    with scene.worker("ledger-1", point) as process:
        await scene.published(processes=[process])
        scene.arm.touch()
        await scene.append(traffic(2))
        await scene.frozen(process)
    # And its successor while it catches up with what it was left.
    for later in ("after the claim", "before it is sent again", "after it is sent again"):
        scene.arm.touch()
        with scene.worker("ledger-1", later) as process:
            await scene.frozen(process)
    await scene.append(traffic(3))
    with scene.worker("ledger-1") as process:
        await scene.published(processes=[process])
        process.send_signal(signal.SIGTERM)
        assert await scene.ended(process) == 0, scene.logs()
    await scene.proven()


@pytest.mark.parametrize(
    "point", ["before the transaction", "inside the transaction", "between two rows", "after the commit"]
)
async def test_a_worker_that_was_frozen_finds_itself_fenced(scene, point):
    """It slept through its session, another has its partitions and has gone on; then it wakes in mid-sentence."""
    with scene.worker("ledger-1", point) as zombie:
        await scene.append(traffic(1))
        await scene.published(processes=[zombie])
        scene.arm.touch()
        await scene.append(traffic(2))
        await scene.frozen(zombie)
        with scene.worker("ledger-2") as process:
            # A frozen transaction must not keep its locks for longer than the database lets it.
            await scene.published(processes=[process])
            await scene.append(traffic(3))
            await scene.published(processes=[process])
            before = scene.rows("SELECT count(*) FROM entry")
            zombie.send_signal(signal.SIGCONT)
            if point != "after the commit":
                assert await scene.ended(zombie) == Fenced.exit_code, scene.logs()
            assert scene.rows("SELECT count(*) FROM entry") == before
            await scene.append(traffic(4))
            await scene.published(processes=[process])
            if point == "after the commit":
                await no_newer_balance_is_missing(scene)
            process.send_signal(signal.SIGTERM)
            assert await scene.ended(process) == 0, scene.logs()
    if point != "after the commit":
        await scene.proven()


async def no_newer_balance_is_missing(scene) -> None:
    """What a worker sends that was frozen between COMMIT and send is older: readers who drop `version <= seen` are right."""
    topics = await read_all_topics(scene.runtime.bootstrap_servers, scene.runtime.namespace, PROVIDERS)
    wallets = scene.rows("SELECT player_id || ':' || currency, version FROM wallet ORDER BY 1")
    assert sorted((key, balance.version) for key, balance in topics.balances.items()) == wallets
    assert topics.contradictions == []


async def test_two_workers_take_each_others_partitions_in_the_middle_of_everything(scene):
    await scene.append(traffic(1))
    with scene.worker("ledger-1") as first:
        for phase in range(2, 6):
            await scene.published(processes=[first])
            claims = scene.claims()
            with scene.worker(f"ledger-{phase}") as second:
                await scene.append(traffic(phase))
                # Both have claimed anew what they have now, or are about to.
                until = claims + PARTITIONS
                assert await asyncio.to_thread(poll, lambda n=until: scene.claims() >= n, PATIENCE_S), scene.logs()
                await scene.append(traffic(phase + 10))
                second.send_signal(signal.SIGTERM)
                assert await scene.ended(second) == 0, scene.logs()
        await scene.published(processes=[first])
        first.send_signal(signal.SIGTERM)
        assert await scene.ended(first) == 0, scene.logs()
    await scene.proven()


def opened(number: int):
    return house("deposit.opened", f"dep-{number}", leg("INFORMATIONAL", 2_500), player=f"p-{number % 12}")


def notice(number: int):
    return deposit(f"psp-{number}", 2_500, player=None, reference=("deposit.opened", f"dep-{number}"))


def refund(number: int):
    return transaction(
        "REFUND", f"ref-{number}", leg("DEPOSIT_REVERSAL", 500), provider="adyen", player=None,
        reference=("AUTHORISATION", f"psp-{number}"), round_id=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    "point",
    ["before it is parked", "after it is parked", "before it is appended", "after it is appended", "after the claim"],
)
async def test_a_resolver_is_killed(scene, point):
    """Forty payments, each with its refund before it; half of the deposits were never opened."""
    numbers = range(40)
    with scene.worker("ledger-1") as ledger:
        scene.arm.touch()
        await scene.append([refund(n) for n in numbers], UNRESOLVED)
        await scene.append([opened(n) for n in numbers if n % 2])
        await scene.append([notice(n) for n in numbers], UNRESOLVED)
        with scene.worker("resolve-1", point, "resolve") as process:
            await scene.frozen(process)
        with scene.worker("resolve-1", role="resolve") as process:

            def is_resolved() -> bool:
                assert process.poll() is None, scene.logs()
                return scene.rows("SELECT count(*) FILTER (WHERE appended) FROM parked") == [(80,)]

            assert await asyncio.to_thread(poll, is_resolved, PATIENCE_S), scene.logs()
            process.send_signal(signal.SIGTERM)
            assert await scene.ended(process) == 0, scene.logs()
        await scene.published(processes=[ledger])
        ledger.send_signal(signal.SIGTERM)
        assert await scene.ended(ledger) == 0, scene.logs()
    await scene.proven()
    paid = 2_500 * 20 - 500 * 20
    assert scene.rows("SELECT sum(cash_minor) FROM wallet") == [(paid,)]
    assert scene.rows("SELECT count(*) FROM entry WHERE outcome = 'UNRESOLVED'") == [(40,)]
    suspense = "SELECT sum(CASE WHEN credit = 'suspense:adyen' THEN amount_minor ELSE -amount_minor END) FROM transfer"
    assert scene.rows(f"{suspense} WHERE 'suspense:adyen' IN (debit, credit)") == [(paid,)]
