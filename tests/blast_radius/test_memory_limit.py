"""The last guard: a worker above its limit of memory drains and ends, so that it is started anew."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mode import Service

from runtime.kafka import process as process_module
from runtime.kafka.app import AppSettings, PitbossApp, create_app
from runtime.kafka.memory_tuning import resident_bytes
from runtime.kafka.process import run_worker
from runtime.security import BrokerAddress

MB = 1024 * 1024
LOOKED_AT_WITHIN_S = 120


class Grows(Service):
    """Takes memory, says so when it is drained, and ends by itself after a while."""

    is_limited = False

    async def on_stop(self) -> None:
        sys.stdout.write("drained\n")

    @Service.task
    async def _grow(self) -> None:
        kept = []
        for _ in range(100):
            kept.append(b"x" * MB)
            await self.sleep(0.02)
            if self.should_stop:
                return
        if self.is_limited:
            await self.sleep(LOOKED_AT_WITHIN_S)  # the guard may come late on a busy machine
            if self.should_stop:
                return
        sys.stdout.write("whole\n")
        raise RuntimeError


def create() -> PitbossApp:
    app = create_app(AppSettings("worker", BrokerAddress("127.0.0.1:1")))
    app.supervise(Grows())
    return app


if __name__ == "__main__":
    module: Any = process_module
    module.IDLE_CHECK_S = 0.1
    more = int(sys.argv[1])
    Grows.is_limited = more > 0
    limit = resident_bytes() + more * MB if more else 0
    sys.exit(run_worker(create, rss_max_bytes=limit))


@pytest.mark.parametrize(
    ("more_mb", "code", "output"), [("50", 0, "drained\n"), ("0", 1, "whole\ndrained\n")]
)
def test_a_worker_above_its_limit_drains_and_ends(more_mb, code, output):
    ended = subprocess.run(
        [sys.executable, __file__, more_mb],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert (ended.returncode, ended.stdout) == (code, output), ended.stderr
    assert ("PITBOSS_WORKER_RSS_MAX_MB" in ended.stderr) == (more_mb != "0")
