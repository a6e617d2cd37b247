"""The demo itself: feed, kill half-way, wait until all is settled, and look at everything anew."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from lab.sandbox.actions import PROVIDERS
from lab.sandbox.records import RawEvent
from lab.sandbox.scenario import Scenario, duration_ms, generate
from ledger_sink.store.database import LedgerDatabase
from pitboss.demo.display import DemoDisplay
from pitboss.demo.environment import DemoEnvironment, demo_environment, running_workers
from pitboss.demo.expectations import unmet_expectations
from pitboss.demo.figures import DemoFigures, figures_of
from pitboss.demo.traffic import TrafficRun
from pitboss.embedded.databases import create_database, drop_database
from pitboss.settings import Runtime, StackSettings, runtime_of
from replay.audit.checks import Check, check_offsets, check_replay, check_tables, check_topics
from replay.audit.evidence import TableEvidence, TopicEvidence, read_all_topics, read_tables
from runtime.postgres.roles import Role
from schemas.errors import Stalled
from schemas.topics import TRANSACTIONS
from streams.providers.registry import policies


@dataclass(frozen=True)
class DemoSettings:
    """What to play.

    `rate` is raw records a second in each phase; None feeds as fast as the broker takes them.
    """

    events: int
    seed: int
    rate: float | None = None
    use_given_servers: bool = False
    keep: bool = False
    """Leave the namespace, its logs and the stack for a look at them."""


@dataclass(frozen=True)
class DemoResult:
    """What came of it."""

    figures: DemoFigures
    checks: list[Check]

    @property
    def holds(self) -> bool:
        """Whether every check does, and everything that was fed came out as it was meant to."""
        return all(check.holds for check in self.checks) and not self.figures.unmet


def run_demo(stack: StackSettings, demo: DemoSettings, show: DemoDisplay) -> DemoResult:
    """Play, kill, settle, check.

    Raises Stalled if something does not settle; the namespace is kept then.
    """
    with demo_environment(
        stack, "demo", show.print_line, use_given_servers=demo.use_given_servers, keep=demo.keep
    ) as stage:
        scenario = _scenario(demo)
        records = generate(
            scenario, stage.keys, lambda done, total: show.update_bar("signed", done, total)
        )
        with running_workers(stage.runtime, stack.home, show.print_line, stage.keys) as workers:
            play = TrafficRun(stage.runtime, records, demo.rate, workers["ledger"], show)
            asyncio.run(play.run())
        if not play.killed_at:
            raise Stalled(
                "all was settled before the ledger's worker could be killed: nothing is shown by that"
            )
        show.print_line("reading every topic and table anew")
        played = _Played(scenario, records, play.killed_at)
        result = asyncio.run(_inspect(played, stage, show))
        if not result.holds:
            raise ChecksFailed(result)
    return result


class ChecksFailed(Exception):  # a result, not a fault of the program: it carries what was found
    """Some check does not hold."""

    def __init__(self, result: DemoResult) -> None:
        super().__init__("not every check holds")
        self.result = result


def _scenario(demo: DemoSettings) -> Scenario:
    scenario = Scenario(seed=demo.seed, start_ms=0, events=demo.events)
    # The casino's clock ends now: events of the future would be clamped, as a provider's would.
    start_ms = int(time.time() * 1000) - duration_ms(scenario)
    return Scenario(seed=demo.seed, start_ms=start_ms, events=demo.events)


@dataclass(frozen=True)
class _Played:
    scenario: Scenario
    records: Sequence[RawEvent]
    killed_at: int


async def _inspect(played: _Played, stage: DemoEnvironment, show: DemoDisplay) -> DemoResult:
    runtime = stage.runtime
    topics = await read_all_topics(runtime.bootstrap_servers, runtime.namespace, PROVIDERS)
    database = LedgerDatabase(runtime.database_url, "pitboss.demo", role=Role.AUDITOR)
    try:
        tables = await read_tables(database)
        checks = await check_tables(database)
        checks += [check_offsets(topics, tables), check_topics(topics, tables)]
        [(transfers, duplicates)] = await database.query(
            "SELECT (SELECT count(*) FROM transfer), (SELECT count(*) FROM repeat)"
        )
    finally:
        await database.close()
    checks.append(await _replayed(runtime, topics, tables, show))
    figures = figures_of(
        topics,
        tables,
        checks,
        seed=played.scenario.seed,
        killed_at=played.killed_at,
        transfers=transfers,
        alerts=len(topics.alerts),
        duplicates=duplicates,
        published_at=topics.balance_history,
        unmet=unmet_expectations(played.records, played.scenario.speeders, topics),
    )
    return DemoResult(figures, checks)


async def _replayed(
    runtime: Runtime, topics: TopicEvidence, tables: TableEvidence, show: DemoDisplay
) -> Check:
    empty = runtime_of(
        runtime.bootstrap_servers, runtime.database_url, f"{runtime.namespace}_replay"
    )
    create_database(empty)
    try:
        return await check_replay(
            empty.database_url,
            runtime.topic(TRANSACTIONS),
            topics,
            tables,
            policies(),
            lambda done, total: show.update_bar("replayed", done, total),
        )
    finally:
        drop_database(empty)
