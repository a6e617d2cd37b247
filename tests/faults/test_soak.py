"""Minutes of random SIGKILLs, SIGSTOPs and rebalances of all workers under real providers' traffic: nothing is lost,
nothing is doubled.

`make soak` runs it for half an hour (`MINUTES=`), `make prove` for one minute. The seed in the header of the run draws
the traffic and the faults: `make soak SEED=…` has the same again. Afterwards every topic and every table is read anew,
as after the kills of test_kill_anything.py.
"""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from lab.sandbox.actions import PROVIDERS
from lab.sandbox.records import RawEvent
from pitboss.demo.environment import running_workers
from pitboss.demo.quiescence import QuiescenceMonitor
from pitboss.ops.provision import provision
from pitboss.workers import ROLES
from pitboss.workers.supervisor import WorkerProcess
from tests.support.fix_stack import SEED
from tests.support.sandbox_keys import shared_keys
from tests.support.soak import FaultInjector, draw_faults
from tests.support.whole_run import check_everything, failures, feed_all, make_traffic

MINUTES = float(os.environ.get("PITBOSS_SOAK_MINUTES", "1"))
PARTITIONS = 6
RATE = 100
WAVE_S, WAVE_MIN_S = 60.0, 20.0
"""One scenario after the other is played: each is some minutes of casino, and must be over by now."""

SETTLE_S = 180.0

pytestmark = [pytest.mark.integration, pytest.mark.faults, pytest.mark.prove]


def wave_of(number: int, seconds: float) -> list[RawEvent]:
    """Sign the records of a wave; those of two waves have no id in common."""
    return make_traffic(SEED % 100_000 * 1_000 + number, round(RATE * seconds), shared_keys())


@pytest.mark.timeout(MINUTES * 60 * 3 + 900)
async def test_nothing_is_lost_or_doubled_in_a_soak(private_stack, namespace, tmp_path, capsys):
    runtime = private_stack.runtime(namespace)
    await asyncio.to_thread(
        provision, runtime, partitions=PARTITIONS, raw_partitions=PARTITIONS, providers=PROVIDERS
    )
    seconds = MINUTES * 60
    faults = draw_faults(SEED, seconds, ROLES)
    lines: list[str] = []
    fed = again = 0
    with running_workers(runtime, tmp_path, lines.append, shared_keys()) as workers:

        def second(role: str) -> WorkerProcess:
            environment = workers[role]._environment
            return WorkerProcess(role, runtime, home=tmp_path, number=2, environment=environment)

        injector = FaultInjector(workers, second)
        async with QuiescenceMonitor(runtime) as settling, asyncio.TaskGroup() as group:

            async def settle(_: int = 0) -> None:
                await settling.wait_until_quiet(SETTLE_S, lambda _: None)

            begin_s, number, left_s = time.monotonic(), 0, seconds
            injecting = group.create_task(injector.run(faults))
            while left_s > 0:
                wave = await asyncio.to_thread(
                    wave_of, number, min(WAVE_S, max(WAVE_MIN_S, left_s))
                )
                again += await feed_all(wave, runtime, rate=RATE, before_phase=settle)
                fed, number = fed + len(wave), number + 1
                left_s = begin_s + seconds - time.monotonic()
                with capsys.disabled():
                    print(
                        f"soak: {time.monotonic() - begin_s:,.0f} of {seconds:,.0f} s, {fed:,} records"
                        f" fed, {dict(injector.done)}",
                        flush=True,
                    )
            await injecting
            await settle()
    checks, topics = await check_everything(runtime)
    with capsys.disabled():
        print(
            f"soak, seed {SEED}: {MINUTES:g} minutes, {fed:,} records ({again} times fed again), faults"
            f" {dict(injector.done)}, second workers ended {dict(injector.left)};"
            f" {sum(check.holds for check in checks)} of {len(checks)} checks hold"
        )
    assert failures(checks) == {}, (f"seed {SEED}", lines)
    assert len(topics.raw) >= fed
    assert injector.done.total() >= len(faults) // 2
