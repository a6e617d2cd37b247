"""A disk that is full and freed again, twice, under both servers: the ledger is as if it had never been.

Servers and workers live on a small file system of their own, which a file fills up. Needs the right
to mount a tmpfs.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from lab.sandbox.actions import PROVIDERS
from pitboss.demo.environment import running_workers
from pitboss.demo.quiescence import QuiescenceMonitor
from pitboss.embedded.free_space import free_bytes
from pitboss.embedded.keeper import StackKeeper
from pitboss.embedded.processes import poll
from pitboss.embedded.stack import Stack
from pitboss.ops.provision import provision
from pitboss.settings import read_settings
from schemas.errors import Unavailable
from tests.support.fix_stack import SEED
from tests.support.sandbox_keys import shared_keys
from tests.support.stack_guard import StackGuard, end_stack
from tests.support.whole_run import check_everything, failures, feed_all, make_traffic

pytestmark = [pytest.mark.integration, pytest.mark.prove]

DISK_MB = 900
EVENTS = 5_000
RATE = 250.0
FILLS = 2
FULL_S = 6.0
SETTLE_S = 150.0


@pytest.fixture
def small_disk(guard: StackGuard) -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="pitboss-full-", ignore_cleanup_errors=True) as folder:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=755", "tmpfs", folder]
        if subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("no file system may be mounted here")
        home = Path(folder) / "pitboss"
        guard.watch(home)
        stack = Stack.open(replace(read_settings({}), home=home))
        try:
            stack.up()
            yield stack
        finally:
            if home.exists():
                end_stack(home)
            subprocess.run(["umount", "--lazy", folder], check=True)


def fill(path: Path) -> None:
    """Write until nothing is free, and keep taking what is freed."""
    with suppress(OSError), path.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(256 * 1024))
    with suppress(OSError), path.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4 * 1024))


async def fill_and_free(stack: Stack, at: int, settling: QuiescenceMonitor, log: list[str]) -> None:
    """Fill the disk once so many records are booked; free it when the broker has ended."""
    while True:
        with suppress(Unavailable):
            if await settling.read_booked_records() >= at:
                break
        await asyncio.sleep(0.05)
    filler = stack.settings.home / "filler"
    full_since = time.monotonic()
    while time.monotonic() - full_since < FULL_S or stack.kafka.process() is not None:
        await asyncio.to_thread(fill, filler)
        assert time.monotonic() - full_since < SETTLE_S, "the broker lives on a full disk"
        await asyncio.sleep(0.2)
    free = free_bytes(stack.settings.home)
    log.append(f"full for {time.monotonic() - full_since:.1f} s, {free // 1024} KB free")
    filler.unlink()
    # Nothing but the keeper starts it.
    assert await asyncio.to_thread(poll, stack.kafka.is_ready, SETTLE_S)
    assert await asyncio.to_thread(poll, stack.postgres.is_ready, SETTLE_S)


@pytest.mark.timeout(900)
async def test_a_disk_that_is_full_and_freed_twice_changes_nothing(
    small_disk: Stack, namespace: str, tmp_path: Path
):
    runtime, keys = small_disk.runtime(namespace), shared_keys()
    await asyncio.to_thread(provision, runtime, partitions=2, raw_partitions=2, providers=PROVIDERS)
    lines: list[str] = []
    records = make_traffic(SEED % 100_000, EVENTS, keys)
    with (
        StackKeeper(small_disk, lines.append),
        running_workers(runtime, tmp_path, lines.append, keys),
    ):
        async with QuiescenceMonitor(runtime) as settling:

            async def settle(_: int = 0) -> None:
                await settling.wait_until_quiet(SETTLE_S, lambda _: None)

            async def fill_twice() -> None:
                for n in range(FILLS):
                    at = EVENTS // 4 + n * EVENTS // 3
                    await fill_and_free(small_disk, at, settling, lines)

            filling = asyncio.create_task(fill_twice())
            again = await feed_all(records, runtime, rate=RATE, before_phase=settle)
            await filling
            await settle()
    told = [line for line in lines if "full for" in line or "ended: " in line]
    print(f"{len(records)} records, {again} times fed again; {'; '.join(told)}")
    assert sum("full for" in line for line in lines) == FILLS
    checks, topics = await check_everything(runtime)
    assert failures(checks) == {}, lines
    assert len(topics.raw) >= len(records)
