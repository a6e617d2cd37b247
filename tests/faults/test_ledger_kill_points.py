"""Real workers frozen at the points where it would hurt, overtaken by another, and let go on; partitions fought over.

Whatever happens, what is left is what the rules say of the log: every row, every answer on its topic, and a replay.
Those that are killed where they are frozen are in test_failpoints.
"""

from __future__ import annotations

import asyncio
import signal

import pytest

from pitboss.embedded.processes import poll
from replay.audit.evidence import read_all_topics
from schemas.errors import Fenced
from tests.faults.ledger_scene import PARTITIONS, PATIENCE_S, PROVIDERS, new_scene, traffic

pytestmark = [pytest.mark.integration, pytest.mark.faults, pytest.mark.timeout(900)]


@pytest.fixture
async def scene(runtime, tmp_path):
    return await new_scene(runtime, tmp_path)


@pytest.mark.parametrize(
    "point",
    [
        "inside the transaction",
        *(
            pytest.param(point, marks=pytest.mark.prove)
            for point in ("before the transaction", "between two rows", "after the commit")
        ),
    ],
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
            assignments = scene.assignments("ledger-1")
            zombie.send_signal(signal.SIGCONT)
            if point != "after the commit":
                await is_fenced_or_joins_anew(scene, zombie, assignments)
            assert scene.rows("SELECT count(*) FROM entry") == before
            await scene.append(traffic(4))
            await scene.published(processes=[process])
            if point == "after the commit":
                await no_newer_balance_is_missing(scene)
            process.send_signal(signal.SIGTERM)
            assert await scene.ended(process) == 0, scene.logs()
    if point != "after the commit":
        await scene.proven()


async def is_fenced_or_joins_anew(scene, zombie, assignments: int) -> None:
    """It tries its batch again and is fenced, unless its group tells it sooner that it has no partitions any more."""

    def is_over() -> bool:
        return zombie.poll() is not None or scene.assignments("ledger-1") > assignments

    assert await asyncio.to_thread(poll, is_over, PATIENCE_S), scene.logs()
    assert zombie.poll() in {None, Fenced.exit_code}, scene.logs()


async def no_newer_balance_is_missing(scene) -> None:
    """What a worker sends that was frozen between COMMIT and send is older: readers who drop `version <= seen` are right."""
    topics = await read_all_topics(scene.runtime.broker, scene.runtime.namespace, PROVIDERS)
    wallets = scene.rows("SELECT player_id || ':' || currency, version FROM wallet ORDER BY 1")
    assert sorted((key, balance.version) for key, balance in topics.balances.items()) == wallets
    assert topics.contradictions == []


@pytest.mark.prove
async def test_two_workers_take_each_others_partitions_in_the_middle_of_everything(scene):
    await scene.append(traffic(1))
    with scene.worker("ledger-1") as first:
        for phase in range(2, 4):
            await scene.published(processes=[first])
            claims = scene.claims()
            with scene.worker(f"ledger-{phase}") as second:
                await scene.append(traffic(phase))
                # Both have claimed anew what they have now, or are about to. That the second has joined is asked by
                # itself: on a busy machine the first may lose its session meanwhile, and claim all anew by itself.
                until, name = claims + PARTITIONS, f"ledger-{phase}"

                def claimed(n: int = until, name: str = name) -> bool:
                    return scene.claims() >= n and scene.assignments(name) > 0

                assert await asyncio.to_thread(poll, claimed, PATIENCE_S), scene.logs()
                await scene.append(traffic(phase + 10))
                second.send_signal(signal.SIGTERM)
                assert await scene.ended(second) == 0, scene.logs()
        await scene.published(processes=[first])
        first.send_signal(signal.SIGTERM)
        assert await scene.ended(first) == 0, scene.logs()
    await scene.proven()
