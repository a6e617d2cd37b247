"""Calls of several transactions through the real normaliser and ledger, which are killed meanwhile.

Half a call is appended, a batch ends inside one, an answer is lost: afterwards each is booked as a whole or not at all,
as the simulator's oracle says, and a replay gives the same rows.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from operator import eq, le
from pathlib import Path

import psycopg
import pytest

from lab.conformance.intents import IntentLeg
from lab.conformance.writers.writer import Sending, connector_headers
from lab.simulator.bundle import BUNDLE, WRITER
from lab.simulator.intents import SimulatedIntent, link_call, simulated_intent
from lab.simulator.oracle import Oracle
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.migrate import migrate
from pitboss.embedded.databases import create_database, drop_database
from pitboss.embedded.processes import poll
from pitboss.ops.topic_admin import create_topics
from pitboss.settings import runtime_of
from replay.audit.checks import check_replay, check_tables, check_topics
from replay.audit.evidence import TableEvidence, TopicEvidence, read_all_topics, read_tables
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas.topics import TRANSACTIONS, raw_topic
from tests.faults.ledger_scene import PATIENCE_S, Scene
from tests.support.fix_stack import SEED

pytestmark = [pytest.mark.integration, pytest.mark.faults]

PLAYERS = 5
AT_MS = 1_790_000_000_000


def draw_calls(rng: random.Random, count: int) -> list[list[SimulatedIntent]]:
    """Bets, wins and rollbacks of a few players with little money; some calls come again, whole or in part."""

    def item(player: str, operation: str, tx_id: str, minor: int) -> SimulatedIntent:
        leg = IntentLeg(operation.upper(), minor, "EUR")
        name = ("default", BUNDLE, operation, tx_id)
        return simulated_intent(name, player, (leg,), round_id=f"r-{rng.randrange(3)}")

    def rollback(player: str, tx_id: str, of: str) -> SimulatedIntent:
        bet, win = (("default", BUNDLE, operation, of) for operation in ("bet", "win"))
        name = ("default", BUNDLE, "rollback", tx_id)
        return simulated_intent(
            name, player, (IntentLeg("ROLLBACK"),), bet, other_references=(win,)
        )

    calls = [[item(f"p-{n}", "win", f"start-{n}", 2_000)] for n in range(PLAYERS)]
    for n in range(count):
        player, draw = f"p-{rng.randrange(PLAYERS)}", rng.random()
        if draw < 0.15:
            calls.append(rng.choice(calls))
        elif draw < 0.25:
            calls.append(rng.choice(calls)[:2])
        elif draw < 0.4:
            earlier = rng.choice(rng.choice(calls))
            calls.append([rollback(earlier.player or "", f"x{n}", earlier.tx_id)])
        else:
            calls.append(
                [
                    item(player, "bet", f"b{n}", rng.choice((50, 200, 700))),
                    item(player, "bet", f"c{n}", rng.choice((0, 50, 200))),
                    item(player, "win", f"w{n}", rng.choice((0, 100, 500))),
                ]
            )
    return calls


async def append_calls(scene: Scene, calls: list[list[SimulatedIntent]]) -> None:
    records = []
    for call in calls:
        message = WRITER.write(call, Sending(AT_MS), None)
        headers = connector_headers(message, AT_MS, "test", "default", "")
        records.append((message.key.encode(), message.body, headers, None))
    async with BatchProducer(ProducerSettings(scene.runtime.broker, "test")) as producer:
        await producer.send_keyed(scene.runtime.topic(raw_topic(BUNDLE)), records)


async def has_answers(scene: Scene, is_enough: Callable[[int], bool]) -> bool:
    """Wait until enough attempts have an answer of their own in the tables; return False if they never have."""
    query = """
        SELECT count(*) FROM (SELECT attempt_part, attempt_offset, attempt_index FROM entry
                              UNION SELECT attempt_part, attempt_offset, attempt_index FROM repeat) AS attempts
    """
    with psycopg.connect(scene.runtime.database_url, autocommit=True) as connection:

        def has_enough() -> bool:
            [(count,)] = connection.execute(query).fetchall()
            return is_enough(int(count))

        return await asyncio.to_thread(poll, has_enough, PATIENCE_S)


async def play(
    scene: Scene, calls: list[list[SimulatedIntent]], kills: list[tuple[int, str]]
) -> None:
    """Run both workers until every item has its answer; kill one when so many have theirs, and start it again."""
    expected = sum(map(len, calls))
    with ExitStack() as workers:
        running = {
            role: workers.enter_context(scene.worker(role, role=role))
            for role in ("bundle", "ledger")
        }
        for at, role in kills:
            assert await has_answers(scene, partial(le, at)), scene.logs()
            running[role].kill()
            await scene.ended(running[role])
            running[role] = workers.enter_context(scene.worker(role, role=role))
        assert await has_answers(scene, partial(eq, expected)), scene.logs()
        await scene.published()


def compare_with_oracle(
    topics: TopicEvidence, tables: TableEvidence, calls: list[list[SimulatedIntent]]
) -> Counter[str]:
    """Ask the oracle about every event in the order of the commits; return the outcomes by their words."""
    oracle = Oracle({})
    rows = {
        (one.partition, one.source_offset, one.attempt.record_index): one for one in tables.answers
    }
    outcomes: Counter[str] = Counter()
    positions = dict.fromkeys(topics.log, 0)
    pieces: dict[tuple[int, int], dict[int, SimulatedIntent]] = {}
    items = {one.identity: one for call in calls for one in call}
    for log in topics.log.values():
        for log_event in log:
            event, attempt = log_event.event, log_event.event.attempt
            name = (event.brand, event.provider, event.operation, event.provider_tx_id)
            pieces.setdefault((attempt.partition, attempt.offset), {})[attempt.record_index] = (
                items[name]
            )
    for partition, _, end in tables.batches:
        log = topics.log.get(partition, [])
        while (
            positions.get(partition, 0) < len(log) and log[positions[partition]].source.offset < end
        ):
            log_event = log[positions[partition]]
            positions[partition] += 1
            attempt = log_event.event.attempt
            record = pieces[attempt.partition, attempt.offset]
            call = link_call([record[index] for index in sorted(record)])
            pairs = [
                (one, (attempt.topic, attempt.partition, attempt.offset, n))
                for n, one in enumerate(call)
            ]
            intent, key = pairs[attempt.record_index]
            expected = oracle.answer(intent, key, intent.player, 0, pairs if len(pairs) > 1 else ())
            row = rows[partition, log_event.source.offset, attempt.record_index]
            assert (row.outcome, row.reason) == (expected.outcome, expected.reason), (
                log_event,
                intent,
            )
            assert row.available_minor == expected.available.get("EUR"), (log_event, intent)
            outcomes[row.outcome] += 1
    money = {
        f"{player}:{currency}": wallet["cash"]
        for (player, currency), wallet in oracle.money.items()
    }
    assert {name: wallet[1] for name, wallet in tables.wallets.items()} == money
    return outcomes


async def prove(scene: Scene, calls: list[list[SimulatedIntent]]) -> None:
    runtime = scene.runtime
    topics = await read_all_topics(runtime.broker, runtime.namespace, [BUNDLE])
    database = LedgerDatabase(runtime.database_url, "pitboss.test")
    tables = await read_tables(database)
    checks = [*await check_tables(database), check_topics(topics, tables)]
    await database.close()
    empty = runtime_of(runtime.broker, runtime.database_url, f"{runtime.namespace}_r")
    create_database(empty)
    try:
        log = runtime.topic(TRANSACTIONS)
        checks.append(
            await check_replay(empty.database_url, log, topics, tables, {}, lambda *_: None)
        )
    finally:
        drop_database(empty)
    assert {check.name: check.detail for check in checks if not check.holds} == {}, scene.logs()
    outcomes = compare_with_oracle(topics, tables, calls)
    assert {"POSTED", "REFUSED_FUNDS", "EXISTS", "CONFLICT"} <= outcomes.keys(), outcomes


async def run(runtime, folder: Path, count: int, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    migrate(runtime.database_url)
    await create_topics(runtime.broker, runtime.namespace, [BUNDLE], partitions=2, raw_partitions=2)
    scene = Scene(runtime, folder)
    calls = draw_calls(rng, count)
    await append_calls(scene, calls)
    total = sum(map(len, calls))
    victims = ["bundle", "ledger", *rng.choices(("bundle", "ledger", "ledger"), k=kills - 2)]
    rng.shuffle(victims)
    times = sorted(rng.randrange(total * 9 // 10) for _ in victims)
    await play(scene, calls, list(zip(times, victims, strict=True)))
    await prove(scene, calls)


@pytest.mark.timeout(900)
async def test_calls_are_booked_as_a_whole_while_workers_are_killed(runtime, tmp_path):
    await run(runtime, tmp_path, count=250, kills=3, seed=SEED)


@pytest.mark.prove
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", range(3))
async def test_a_storm_of_kills_leaves_no_half_of_a_call(runtime, tmp_path, number):
    await run(runtime, tmp_path, count=4_000, kills=14, seed=SEED + 1 + number)
