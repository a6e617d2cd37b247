"""Kill any process at any instant, broker and database included: nothing is lost, nothing is doubled.

Each test plays real providers' traffic through one worker process of each role, sends SIGKILL at instants drawn from
the session's seed, waits until everything is settled, and then reads every topic and every table anew. Nothing that a
worker says of itself is believed.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from lab.sandbox.actions import PROVIDERS
from pitboss.demo.environment import running_workers
from pitboss.demo.quiescence import QuiescenceMonitor
from pitboss.embedded.kafka import KafkaServer
from pitboss.embedded.postgres import PostgresServer
from pitboss.embedded.processes import poll
from pitboss.embedded.stack import Stack
from pitboss.ops.provision import provision
from pitboss.settings import Runtime
from pitboss.workers import ROLES
from pitboss.workers.supervisor import WorkerProcess
from schemas.errors import Unavailable
from tests.support.fix_stack import SEED
from tests.support.sandbox_keys import shared_keys
from tests.support.stack_faults import kill_until_port_is_free, restart_server
from tests.support.whole_run import check_everything, failures, feed_all, make_traffic

pytestmark = [pytest.mark.integration, pytest.mark.faults]

PARTITIONS = 6
SETTLE_S = 240.0
LOOK_S = 0.01

Kill = Callable[[], Awaitable[None]]


class Schedule:
    """Kills in turn, each when so many records of the log are booked."""

    def __init__(self, kills: Sequence[tuple[int, Kill]]) -> None:
        self._later = deque(sorted(kills, key=lambda kill: kill[0]))

    async def run(self, settling: QuiescenceMonitor) -> None:
        while self._later:
            at, kill = self._later[0]
            try:
                booked = await settling.read_booked_records()
            except Unavailable:
                booked = 0  # the database is on its way back
            if booked >= at:
                self._later.popleft()
                await kill()
            await asyncio.sleep(LOOK_S)


def instants(rng: random.Random, records: int, count: int) -> list[int]:
    """When to kill, in events booked: one instant in each of `count` equal parts of the play, and work after the last.

    Drawn from the whole at once, several would fall on a worker that has not done anything yet.
    """
    first, after = records // 10, records * 9 // 10
    share = (after - first) // count
    return [first + n * share + rng.randrange(share) for n in range(count)]


def kill_worker(worker: WorkerProcess) -> Kill:
    async def kill() -> None:
        # Its supervisor may be about to start it again: then it is killed as soon as it runs.
        assert await asyncio.to_thread(poll, lambda: worker.is_alive, SETTLE_S)
        await asyncio.to_thread(worker.kill)

    return kill


def server_kill(stack: Stack, server: KafkaServer | PostgresServer) -> Kill:
    async def kill_and_restart() -> None:
        await asyncio.to_thread(kill_until_port_is_free, server)
        await asyncio.to_thread(restart_server, stack, server)

    return kill_and_restart


def kill_everything(stack: Stack, workers: dict[str, WorkerProcess]) -> Kill:
    """As when a machine loses its power, but for what its page cache holds."""

    async def kill() -> None:
        kills = [worker.kill for worker in workers.values() if worker.is_alive]
        kills += [
            partial(kill_until_port_is_free, server) for server in (stack.kafka, stack.postgres)
        ]
        await asyncio.gather(*[asyncio.to_thread(kill) for kill in kills])
        await asyncio.to_thread(stack.up)

    return kill


async def play(
    runtime: Runtime,
    home: Path,
    kills_of: Callable[[dict[str, WorkerProcess], random.Random, int], list[tuple[int, Kill]]],
    *,
    events: int,
    rate: float | None,
    seed: int,
) -> None:
    keys = shared_keys()
    lines: list[str] = []
    records = make_traffic(seed % 100_000, events, keys)
    with running_workers(runtime, home, lines.append, keys) as workers:
        kills = kills_of(workers, random.Random(seed), len(records))
        schedule = Schedule(kills)
        async with QuiescenceMonitor(runtime) as settling:

            async def settle(_: int = 0) -> None:
                await settling.wait_until_quiet(SETTLE_S, lambda _: None)

            async with asyncio.timeout(2 * SETTLE_S):
                killing = asyncio.create_task(schedule.run(settling))
                again = await feed_all(records, runtime, rate=rate, before_phase=settle)
                await killing
            await settle()
    ends = [line.partition(";")[0] for line in lines if " after " in line]
    print(
        f"seed {seed}: {len(records)} records, {len(kills)} kills, {again} times fed again; {'; '.join(ends)}"
    )
    checks, topics = await check_everything(runtime)
    assert failures(checks) == {}, (f"seed {seed}", lines)
    assert len(topics.raw) >= len(records)
    assert topics.alerts, "the player who bets too fast was not noticed"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("events", [8_000, pytest.param(12_000, marks=pytest.mark.prove)])
async def test_every_worker_is_killed_under_traffic(runtime, tmp_path, events):
    await asyncio.to_thread(
        provision, runtime, partitions=PARTITIONS, raw_partitions=PARTITIONS, providers=PROVIDERS
    )

    def kills_of(workers, rng, records):
        victims = [*ROLES, "ledger", "normalise"]
        rng.shuffle(victims)
        times = instants(rng, records, len(victims))
        return [(at, kill_worker(workers[role])) for at, role in zip(times, victims, strict=True)]

    # As fast as the broker takes it: every worker always has full batches in work, and is killed inside one.
    await play(runtime, tmp_path, kills_of, events=events, rate=None, seed=SEED)


@pytest.mark.prove
@pytest.mark.timeout(900)
async def test_broker_and_database_are_killed_under_traffic(private_stack, namespace, tmp_path):
    runtime = private_stack.runtime(namespace)
    await asyncio.to_thread(
        provision, runtime, partitions=PARTITIONS, raw_partitions=PARTITIONS, providers=PROVIDERS
    )

    def kills_of(workers, rng, records):
        kills = server_kills(private_stack, workers)
        return list(zip(instants(rng, records, len(kills)), kills, strict=True))

    await play(runtime, tmp_path, kills_of, events=5_000, rate=300, seed=SEED + 1)


@pytest.mark.prove
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", range(3))
async def test_a_storm_of_kills(private_stack, namespace, tmp_path, number):
    runtime = private_stack.runtime(namespace)
    await asyncio.to_thread(
        provision, runtime, partitions=PARTITIONS, raw_partitions=PARTITIONS, providers=PROVIDERS
    )

    def kills_of(workers, rng, records):
        kills = [kill_worker(workers[role]) for role in ROLES for _ in range(4)]
        kills += [*server_kills(private_stack, workers), *server_kills(private_stack, workers)]
        rng.shuffle(kills)
        return list(zip(instants(rng, records, len(kills)), kills, strict=True))

    await play(runtime, tmp_path, kills_of, events=20_000, rate=400, seed=SEED + 2 + number)


def server_kills(stack: Stack, workers: dict[str, WorkerProcess]) -> list[Kill]:
    return [
        server_kill(stack, stack.kafka),
        server_kill(stack, stack.postgres),
        kill_everything(stack, workers),
    ]
