"""The demo itself: feed, kill half-way, wait until all is settled, and look at everything anew."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from ledger_sink.database import Database
from pitboss.demo.figures import Figures, figures_of
from pitboss.demo.play import Play
from pitboss.demo.show import Show
from pitboss.demo.stage import Stage, fresh_stage, running_workers
from pitboss.embedded.databases import create_database, drop_database
from pitboss.settings import Runtime, StackSettings, runtime_of
from replay.checks import Check, check_offsets, check_replay, check_tables, check_topics
from replay.evidence import read_all_topics, read_tables
from sandbox.actions import PROVIDERS
from sandbox.records import RawEvent
from sandbox.scenario import Scenario, duration_ms, generate
from schemas.topics import TRANSACTIONS
from streams.postgres.roles import Role
from streams.providers.registry import policies


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


def run_demo(stack: StackSettings, demo: DemoSettings, show: Show) -> Result:
    """Play, kill, settle, check. Raises Stalled if something does not settle; the namespace is kept then."""
    with fresh_stage(stack, "demo", show.say, use_given_servers=demo.use_given_servers, keep=demo.keep) as stage:
        records = _records(demo, stage, show)
        with running_workers(stage, stack.home, show.say) as workers:
            play = Play(stage.runtime, records, demo.rate, workers["ledger"], show)
            asyncio.run(play.run())
        show.say("reading every topic and table anew")
        result = asyncio.run(_look(demo, stage, play.killed_at, show))
        if not result.holds:
            raise ChecksFailed(result)
    return result


class ChecksFailed(Exception):  # a result, not a fault of the program: it carries what was found
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


async def _look(demo: DemoSettings, stage: Stage, killed_at: int, show: Show) -> Result:
    runtime = stage.runtime
    topics = await read_all_topics(runtime.bootstrap_servers, runtime.namespace, PROVIDERS)
    database = Database(runtime.database_url, "pitboss.demo", role=Role.AUDITOR)
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
