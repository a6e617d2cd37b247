"""`pitboss bench balance`: how long the answer takes to what a player had at an earlier time.

A ledger worker books a log of some days. Then `pitboss ledger balance PLAYER --at T` is run as a
person runs it, for random players and times, and PostgreSQL times the statement behind it. At the
end the log is archived, the broker forgets its first half, and the command is asked about times
that only the archive has. Each answer is compared with the ledger's rows at the offset that belongs
to the time, which the bench knows since it has made the log.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import psycopg
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from lab.bench.ledger_traffic import PLAIN, START_MS, LedgerTraffic
from lab.bench.machine import this_commit, this_machine
from lab.bench.processes import BenchFailed, MeasuredProcess, ProcessCommand
from lab.bench.progress import BenchProgress
from lab.bench.report import BenchEnvironment, FigureRow
from ledger_sink.store.statements import statements
from replay.archive.archiver import Archiver, PostgresBooks
from replay.archive.cut import CutRule
from replay.archive.store import LocalStore
from replay.log.broker import BrokerLog
from runtime.kafka.partitioner import partition_for
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.postgres.statements import statements_of
from runtime.security import BrokerAddress
from schemas.topics import DAY_MS, TRANSACTIONS

EVENTS: Final = 500_000
EVENTS_MIN: Final = 2_000
QUESTIONS: Final = 50
TARGET_CLIENT_S: Final = 1.0
TARGET_SERVER_MS: Final = 5.0
_SQL: Final = statements_of("lab.bench", "balance")
_DAYS: Final = 5
"""Of the log's times: an archive of a file an hour and partition."""
_EVENTS_A_PLAYER: Final = 100
_CHUNK: Final = 20_000
_BOOKED_EVERY_S: Final = 0.2
_ANSWER_MAX_S: Final = 60.0
_ADMIN_MAX_S: Final = 60.0
_LATER_MS: Final = 10**9


@dataclass(frozen=True)
class BalanceBenchPlan:
    """A namespace without records, the worker that books its log, and the command that asks."""

    broker: BrokerAddress
    database_url: str
    prefix: str
    partitions: int
    worker: ProcessCommand
    command: Sequence[str]
    """`pitboss ledger balance`, to which player, time and --json are added."""
    environment: Mapping[str, str]
    """Of the command; its variable of the archive names `archive`."""
    archive: Path
    events: int
    questions: int
    servers_origin: str

    @property
    def topic(self) -> str:
        """Name of the log on the broker."""
        return self.prefix + TRANSACTIONS


class PastQuestion(NamedTuple):
    """A player, a time, and the offset behind the last record of that time."""

    player: str
    at_ms: int
    next_offset: int


@dataclass(frozen=True)
class AnswerTimes:
    """Times of a number of answers."""

    client_s: list[float]
    """From the start of the command's process to its end."""
    server_ms: list[float]
    """Of executing the statement, without its network."""
    planning_ms: list[float]


@dataclass(frozen=True)
class BalanceFigures:
    """Figures of a bench."""

    environment: BenchEnvironment
    events: int
    transfers: int
    live: AnswerTimes
    archived: AnswerTimes

    @property
    def holds(self) -> bool:
        """Whether no answer took longer than the targets."""
        slowest_s = max(*self.live.client_s, *self.archived.client_s)
        slowest_ms = max(*self.live.server_ms, *self.archived.server_ms)
        return slowest_s < TARGET_CLIENT_S and slowest_ms < TARGET_SERVER_MS

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "bench": "balance",
            "events": self.events,
            "transfers": self.transfers,
            "questions": len(self.live.client_s),
            "client_s": _summary(self.live.client_s, 3),
            "server_ms": _summary([*self.live.server_ms, *self.archived.server_ms], 3),
            "planning_ms": _summary([*self.live.planning_ms, *self.archived.planning_ms], 3),
            "archive_client_s": _summary(self.archived.client_s, 3),
            "target": {"client_s": TARGET_CLIENT_S, "server_ms": TARGET_SERVER_MS},
            "holds": self.holds,
            **self.environment.as_json(),
        }

    def rows(self) -> list[FigureRow]:
        """Return the figures as rows for a person."""
        found = self.as_json()

        def row(name: str, key: str, unit: str) -> FigureRow:
            p50, slowest = found[key]["p50"], found[key]["max"]
            return FigureRow(name, f"{p50:g} {unit}", f"p50; at most {slowest:g} {unit}")

        return [
            row("the command, from the ledger's index", "client_s", "s"),
            row("the command, for a time that only the archive has", "archive_client_s", "s"),
            row("the statement, on the server", "server_ms", "ms"),
            row("its planning", "planning_ms", "ms"),
            FigureRow("transfers", f"{self.transfers:,}", f"of {self.events:,} events"),
        ]


def _summary(values: Sequence[float], digits: int) -> dict[str, float]:
    return {"p50": round(median(values), digits), "max": round(max(values), digits)}


class MadeLog:
    """What was appended: the times of each partition, and the players."""

    def __init__(self, partitions: int) -> None:
        self.times_ms: list[list[int]] = [[] for _ in range(partitions)]
        self.players: list[str] = []

    def draw(self, rng: random.Random, *, first: float, last: float) -> PastQuestion:
        """Return a question about a time between two shares of the player's partition."""
        player = rng.choice(self.players)
        times_ms = self.times_ms[partition_for(player.encode(), len(self.times_ms))]
        begin, end = (times_ms[int(share * (len(times_ms) - 1))] for share in (first, last))
        at_ms = rng.randrange(begin, end)
        return PastQuestion(player, at_ms, bisect_right(times_ms, at_ms))


async def run(plan: BalanceBenchPlan, progress: BenchProgress) -> BalanceFigures:
    """Make and book the log, ask, let the broker forget half of it, and ask again."""
    environment = BenchEnvironment(this_machine(), this_commit(), {"origin": plan.servers_origin})
    log = await _fill(plan, progress)
    await _book(plan, progress)
    rng = random.Random(plan.events)
    progress.begin("asking about times that the broker has")
    live = _ask(plan, [log.draw(rng, first=0.5, last=1) for _ in range(plan.questions)], progress)
    progress.begin("archiving the log, and deleting half of it on the broker")
    await asyncio.to_thread(_archive_and_forget, plan, log)
    progress.begin("asking about times that only the archive has")
    questions = [log.draw(rng, first=0, last=0.49) for _ in range(plan.questions)]
    archived = _ask(plan, questions, progress)
    with psycopg.connect(plan.database_url) as connection:
        [(transfers,)] = connection.execute(_SQL["transfers"]).fetchall()
    return BalanceFigures(environment, plan.events, transfers, live, archived)


async def _fill(plan: BalanceBenchPlan, progress: BenchProgress) -> MadeLog:
    """Append a deposit for each player, then bets and wins, their times evenly over some days."""
    progress.begin(f"appending {plan.events:,} events")
    players = max(1, plan.events // _EVENTS_A_PLAYER)
    traffic, log = LedgerTraffic(11, players), MadeLog(plan.partitions)
    waiting, done = list(traffic.deposits()), 0
    log.players = [key.decode() for key, _ in waiting]
    step_ms = _DAYS * DAY_MS / plan.events
    async with BatchProducer(ProducerSettings(plan.broker, "pitboss.bench")) as producer:
        while done < plan.events:
            if not waiting:
                waiting = traffic.play(PLAIN, min(_CHUNK, plan.events - done))
            records = []
            for key, value in waiting[: plan.events - done]:
                at_ms = START_MS + int(done * step_ms)
                log.times_ms[partition_for(key, plan.partitions)].append(at_ms)
                records.append((key, value, (), at_ms))
                done += 1
            await producer.send_keyed(plan.topic, records)
            waiting = []
            progress.update(done, plan.events)
    return log


async def _book(plan: BalanceBenchPlan, progress: BenchProgress) -> None:
    progress.begin("booking them by a ledger worker")
    with (
        psycopg.connect(plan.database_url, autocommit=True) as connection,
        MeasuredProcess(plan.worker) as worker,
    ):
        booked = 0
        while booked < plan.events:
            worker.check_alive()
            await asyncio.sleep(_BOOKED_EVERY_S)
            [(booked,)] = connection.execute(_SQL["booked"]).fetchall()
            progress.update(booked, plan.events)
        connection.execute(_SQL["analyze"])


def _archive_and_forget(plan: BalanceBenchPlan, log: MadeLog) -> None:
    books = PostgresBooks(plan.database_url)
    try:
        with BrokerLog(plan.broker) as broker:
            later_ms = time.time_ns() // 1_000_000 + _LATER_MS  # every span of time is over
            store = LocalStore(plan.archive)
            archiver = Archiver(broker, store, books, plan.prefix, CutRule(), lambda: later_ms)
            archiver.archive([TRANSACTIONS])
    finally:
        books.close()
    admin = AdminClient(plan.broker.librdkafka_options())
    half = [
        TopicPartition(plan.topic, partition, len(times_ms) // 2)
        for partition, times_ms in enumerate(log.times_ms)
    ]
    for future in admin.delete_records(half).values():
        future.result(_ADMIN_MAX_S)


def _ask(
    plan: BalanceBenchPlan, questions: Sequence[PastQuestion], progress: BenchProgress
) -> AnswerTimes:
    answers = AnswerTimes([], [], [])
    with psycopg.connect(plan.database_url, autocommit=True) as connection:
        for number, question in enumerate(questions, 1):
            started_s = time.perf_counter()
            printed = _run_command(plan, question)
            answers.client_s.append(time.perf_counter() - started_s)
            columns = {"player": question.player, "next_offset": question.next_offset}
            statement = statements("history")["wallets_at"]
            rows = connection.execute(statement, columns).fetchall()
            _check(question, printed, rows)
            # The statement is known by now, as it is in a server that is asked often.
            explained = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
            [(plans,)] = connection.execute(explained, columns).fetchall()
            answers.server_ms.append(plans[0]["Execution Time"])
            answers.planning_ms.append(plans[0]["Planning Time"])
            progress.update(number, len(questions))
    return answers


def _run_command(plan: BalanceBenchPlan, question: PastQuestion) -> list[dict[str, Any]]:
    at = datetime.fromtimestamp(question.at_ms / 1_000, UTC).isoformat(timespec="milliseconds")
    command = [*plan.command, question.player, "--at", at, "--json"]
    done = subprocess.run(  # noqa: S603 - a command of our own
        command,
        env=dict(plan.environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_ANSWER_MAX_S,
        check=False,
    )
    if done.returncode not in {0, 1}:
        raise BenchFailed(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    # 1: the player has no wallet yet.
    found: list[dict[str, Any]] = json.loads(done.stdout) if done.returncode == 0 else []
    return found


def _check(
    question: PastQuestion, printed: Sequence[Mapping[str, Any]], rows: Sequence[Any]
) -> None:
    """Raise BenchFailed where the command names other versions than the ledger's rows."""
    answered = [(one["currency"], one["version"]) for one in printed]
    expected = [(currency, version) for _, currency, _, version, *_ in rows if version]
    if answered != expected:
        raise BenchFailed(
            f"{question.player} at {question.at_ms}, before offset {question.next_offset}: the "
            f"command says {answered}, the ledger has {expected}"
        )
