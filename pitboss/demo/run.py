"""The demo itself: feed, kill half-way, wait until all is settled, and look at everything anew."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from ledger_sink.database import Database
from pitboss.demo.figures import Figures, figures_of
from pitboss.demo.settling import Progress, Settling
from pitboss.demo.show import Show
from pitboss.demo.stage import Stage, fresh_stage, running_workers
from pitboss.embedded.databases import create_database, drop_database
from pitboss.settings import Runtime, StackSettings, runtime_of
from pitboss.supervisor import WorkerProcess
from replay.checks import Check, check_offsets, check_replay, check_tables, check_topics
from replay.evidence import read_all_topics, read_tables
from sandbox.feeder import feed
from sandbox.records import RawEvent
from sandbox.scenario import Scenario, duration_ms, generate
from schemas.topics import TRANSACTIONS
from streams.kafka.producer import BatchProducer, ProducerSettings
from streams.providers.registry import DIALECTS, policies

SETTLE_DEADLINE_S = 240.0


@dataclass(frozen=True)
class DemoSettings:
    """What to play. `rate` is raw records a second in each phase; None feeds as fast as the broker takes them."""

    events: int
    seed: int
    rate: float | None = None
    use_given_servers: bool = False
    keep: bool = False
    """Leave the namespace, its logs and the stack for a look at them."""


@dataclass(frozen=True)
class Result:
    """What came of it."""

    figures: Figures
    checks: list[Check]

    @property
    def holds(self) -> bool:
        """Whether every check does."""
        return all(check.holds for check in self.checks)


class Killer:
    """Kills the ledger's worker once, when half of the traffic is booked."""

    def __init__(self, worker: WorkerProcess, events: int, show: Show) -> None:
        self._worker = worker
        self._half = events // 2
        self._show = show
        self.killed_at = 0

    def look(self, progress: Progress) -> None:
        """Kill if it is time."""
        if not self.killed_at and progress.booked >= self._half and self._worker.is_alive:
            self.killed_at = progress.booked
            pid = self._worker.pid
            self._worker.kill()
            self._show.say(f"[bold]SIGKILL[/] to the ledger worker (pid {pid}) with {progress.booked:,} events booked")


def run_demo(stack: StackSettings, demo: DemoSettings, show: Show) -> Result:
    """Play, kill, settle, check. Raises Stalled if something does not settle; the namespace is kept then."""
    with fresh_stage(stack, "demo", show.say, use_given_servers=demo.use_given_servers, keep=demo.keep) as stage:
        records = _records(demo, stage, show)
        with running_workers(stage, stack.home, show.say) as workers:
            killed_at = asyncio.run(_play(demo, stage, records, workers["ledger"], show))
        show.say("reading every topic and table anew")
        result = asyncio.run(_look(demo, stage, killed_at, show))
        if not result.holds:
            show.say(f"kept for you to look at: namespace {stage.runtime.namespace}, logs in {stage.folder}")
            raise ChecksFailed(result)
    return result


class ChecksFailed(Exception):  # noqa: N818  # a result, not a fault of the program: it carries what was found
    """Some check does not hold."""

    def __init__(self, result: Result) -> None:
        super().__init__("not every check holds")
        self.result = result


def _records(demo: DemoSettings, stage: Stage, show: Show) -> list[RawEvent]:
    scenario = Scenario(seed=demo.seed, start_ms=0, events=demo.events)
    # The casino's clock ends now: events of the future would be clamped, as a provider's would.
    start_ms = int(time.time() * 1000) - duration_ms(scenario)
    scenario = Scenario(seed=demo.seed, start_ms=start_ms, events=demo.events)
    return generate(scenario, stage.keys, lambda done, total: show.bar("signed", done, total))


async def _play(demo: DemoSettings, stage: Stage, records: list[RawEvent], ledger: WorkerProcess, show: Show) -> int:
    runtime = stage.runtime
    killer = Killer(ledger, len(records), show)
    fed = 0

    def on_progress(progress: Progress) -> None:
        killer.look(progress)
        waits = f"waiting for {progress.waits_for}" if progress.waits_for else "settled"
        # Some records hold several events and some none, so the bar is full when nothing is under way.
        done = (
            len(records) if not progress.waits_for and fed == len(records) else min(progress.booked, len(records) - 1)
        )
        show.bar("booked", done, len(records), waits)

    def on_fed(done: int, total: int) -> None:
        nonlocal fed
        fed = done
        show.bar("fed", done, total)

    producer = BatchProducer(ProducerSettings(runtime.bootstrap_servers, "pitboss.sandbox"))
    async with Settling(runtime) as settling, producer:

        async def deposits_are_settled(_: int) -> None:
            await settling.wait(SETTLE_DEADLINE_S, on_progress)

        async def watch() -> None:
            while True:
                killer.look(Progress(await settling.booked(), "the feed"))
                await asyncio.sleep(0.02)

        watching = asyncio.create_task(watch())
        try:
            await feed(
                records,
                producer,
                namespace=runtime.namespace,
                rate=demo.rate,
                before_phase=deposits_are_settled,
                progress=on_fed,
            )
            await settling.wait(SETTLE_DEADLINE_S, on_progress)
        finally:
            watching.cancel()
    return killer.killed_at


async def _look(demo: DemoSettings, stage: Stage, killed_at: int, show: Show) -> Result:
    runtime = stage.runtime
    topics = await read_all_topics(runtime.bootstrap_servers, runtime.namespace, DIALECTS)
    database = Database(runtime.database_url, "pitboss.demo")
    try:
        tables = await read_tables(database)
        checks = await check_tables(database)
        checks += [check_offsets(topics, tables), check_topics(topics, tables)]
        [(transfers, duplicates)] = await database.query(
            "SELECT (SELECT count(*) FROM transfer), (SELECT count(*) FROM repeat)"
        )
    finally:
        await database.close()
    empty = _empty_ledger(runtime)
    create_database(empty)
    try:
        checks.append(
            await check_replay(
                empty.database_url,
                runtime.topic(TRANSACTIONS),
                topics,
                tables,
                policies(),
                lambda done, total: show.bar("replayed", done, total),
            )
        )
    finally:
        drop_database(empty)
    figures = figures_of(
        topics,
        tables,
        checks,
        seed=demo.seed,
        killed_at=killed_at,
        transfers=transfers,
        alerts=len(topics.alerts),
        duplicates=duplicates,
        published_at=topics.published_at,
    )
    return Result(figures, checks)


def _empty_ledger(runtime: Runtime) -> Runtime:
    return runtime_of(runtime.bootstrap_servers, runtime.database_url, f"{runtime.namespace}_replay")
