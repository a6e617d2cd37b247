"""The demo: providers call, a worker is killed half-way, all settles, and everything is checked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from typing import Final

from msgspec.structs import replace

from lab.sandbox.actions import PROVIDERS
from lab.sandbox.calling import PlannedCall, plan_calls
from lab.sandbox.keys import SandboxKeys
from lab.sandbox.scenario import Scenario, deliveries_of, duration_ms
from lab.sandbox.writing import write_all
from ledger_sink.store.database import LedgerDatabase
from pitboss.demo.decisions import TrafficFigures, feed_shortfall, traffic_figures
from pitboss.demo.display import DemoDisplay
from pitboss.demo.environment import DemoEnvironment, demo_environment, running_workers
from pitboss.demo.expectations import (
    ChecksFailed,
    DemoResult,
    check_providers,
    unmet_expectations,
)
from pitboss.demo.figures import figures_of
from pitboss.demo.report import measure_hops
from pitboss.demo.traffic import TrafficRun
from pitboss.embedded.databases import create_database, drop_database
from pitboss.embedded.ports import choose_port
from pitboss.settings import Runtime, StackSettings, runtime_of
from pitboss.workers import GATEWAY, ROLES
from replay.audit.checks import Check, check_offsets, check_replay, check_tables, check_topics
from replay.audit.evidence import (
    TableEvidence,
    TopicEvidence,
    read_all_topics,
    read_provider_moves,
    read_tables,
)
from runtime.postgres.roles import Role
from schemas.errors import Stalled
from schemas.topics import TRANSACTIONS
from streams.providers.registry import policies

RATE_DEFAULT: Final = 400.0
"""Records a second: half of what the two cores of a small machine can do while they also carry the
broker, the database and the providers."""

BRANDS: Final = "aurora:mt,fjord:se,default"
"""The sandbox's brands, as the gateway serves them."""

PLAYER_RATE: Final = 1_000
"""Bets of one player a second that the gateway lets in: the play of two minutes takes seconds here,
and the account that bets too fast is there to be found by its bets."""

POISON: Final = 8
"""Unusable calls: five become dead letters, of five codes, and three are refused by the gateway."""


@dataclass(frozen=True)
class DemoSettings:
    """Settings of a demo.

    `rate` is calls a second in each phase; None sends the next of 256 when one is over.
    """

    events: int
    seed: int
    rate: float | None = RATE_DEFAULT
    use_given_servers: bool = False
    keep: bool = False
    """Keep the namespace, its logs and the servers for inspection."""
    secure: bool = False
    """Make a new stack with TLS and logins."""


def run_demo(stack: StackSettings, demo: DemoSettings, display: DemoDisplay) -> DemoResult:
    """Feed, kill, settle, check.

    Raises Stalled if something does not settle, and ChecksFailed; either keeps the namespace.
    """
    with demo_environment(
        stack,
        "demo",
        display.print_line,
        use_given_servers=demo.use_given_servers,
        keep=demo.keep,
        secure=demo.secure,
    ) as environment:
        scenario, port = _scenario(demo), choose_port()
        with running_workers(
            environment.runtime,
            stack.home,
            display.print_line,
            environment.keys,
            (*ROLES, GATEWAY),
            PITBOSS_GATEWAY_PORT=str(port),
            PITBOSS_GATEWAY_BRANDS=BRANDS,
            PITBOSS_GATEWAY_PLAYER_RATE=str(PLAYER_RATE),
        ) as workers:
            # Signed before the clock starts, while the workers come up.
            calls = _write_calls(scenario, environment.keys, display)
            traffic = TrafficRun(
                environment.runtime,
                calls,
                environment.keys,
                demo.rate,
                port,
                workers["ledger"],
                display,
            )
            asyncio.run(traffic.run())
        figures = _figures_of_traffic(traffic, demo, display)
        display.print_line("reading every topic and table")
        settled = _SettledTraffic(scenario, calls, figures, traffic)
        result = asyncio.run(_inspect(settled, environment, display))
        if not result.holds:
            raise ChecksFailed(result)
    return replace_fields(result, namespace=environment.runtime.namespace) if demo.keep else result


def _scenario(demo: DemoSettings) -> Scenario:
    scenario = Scenario(seed=demo.seed, start_ms=0, events=demo.events, poison=POISON)
    # The casino's clock ends now: times in the future would be cut to the broker's.
    return replace(scenario, start_ms=int(time.time() * 1000) - duration_ms(scenario))


def _figures_of_traffic(
    traffic: TrafficRun, demo: DemoSettings, display: DemoDisplay
) -> TrafficFigures:
    if not traffic.log.killed_at:
        raise Stalled(
            "everything was settled before the ledger's worker could be killed, so the demo "
            "shows nothing: give more --events"
        )
    figures = traffic_figures(traffic.log)
    if shortfall := feed_shortfall(figures.fed_per_s, demo.rate):
        display.print_line(shortfall, is_loud=True)
    return figures


def _write_calls(scenario: Scenario, keys: SandboxKeys, display: DemoDisplay) -> list[PlannedCall]:
    deliveries = deliveries_of(scenario)
    records = write_all(
        deliveries, keys, lambda done, total: display.update_bar("signed", done, total)
    )
    return plan_calls(deliveries, records)


@dataclass(frozen=True)
class _SettledTraffic:
    scenario: Scenario
    calls: Sequence[PlannedCall]
    figures: TrafficFigures
    run: TrafficRun


async def _inspect(
    traffic: _SettledTraffic, environment: DemoEnvironment, display: DemoDisplay
) -> DemoResult:
    runtime = environment.runtime
    topics = await read_all_topics(runtime.broker, runtime.namespace, PROVIDERS)
    database = LedgerDatabase(runtime.database_url, "pitboss.demo", role=Role.AUDITOR)
    try:
        tables = await read_tables(database)
        checks = await check_tables(database)
        checks += [check_offsets(topics, tables), check_topics(topics, tables)]
        checks.append(
            check_providers(
                await read_provider_moves(database, PROVIDERS), traffic.run.providers.books
            )
        )
        [(transfers, duplicates)] = await database.query(
            "SELECT (SELECT count(*) FROM transfer), (SELECT count(*) FROM repeat)"
        )
    finally:
        await database.close()
    checks.append(await _check_replay(runtime, topics, tables, display))
    figures = figures_of(
        topics,
        tables,
        checks,
        seed=traffic.scenario.seed,
        traffic=traffic.figures,
        transfers=transfers,
        alerts=len({one.alert_id for one in topics.alerts.values() if one.severity != "info"}),
        duplicates=duplicates,
        published_at=topics.balance_history,
        unmet=unmet_expectations(
            traffic.calls,
            topics,
            tables,
            traffic.run.providers.books.accepted,
        ),
    )
    hops_ms = measure_hops(topics, topics.balance_history)
    return DemoResult(figures, checks, hops_ms=hops_ms, traffic=traffic.run.log)


async def _check_replay(
    runtime: Runtime, topics: TopicEvidence, tables: TableEvidence, display: DemoDisplay
) -> Check:
    empty = runtime_of(runtime.broker, runtime.database_url, f"{runtime.namespace}_replay")
    create_database(empty)
    try:
        return await check_replay(
            empty.database_url,
            runtime.topic(TRANSACTIONS),
            topics,
            tables,
            policies(),
            lambda done, total: display.update_bar("replayed", done, total),
        )
    finally:
        drop_database(empty)
