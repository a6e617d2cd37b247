"""However a worker hangs on its way out, it is gone after its time, with the code of what ended it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mode import Service

from runtime.kafka import process as process_module
from runtime.kafka.app import AppSettings, PitbossApp, create_app
from runtime.kafka.process import run_worker
from runtime.security import BrokerAddress
from schemas.errors import Fenced

LIMIT_S = 1.0


class Hangs(Service):
    """Never stops."""

    def __init__(self, *, blocks: bool) -> None:
        super().__init__()
        self.blocks = blocks

    async def on_stop(self) -> None:
        if self.blocks:
            time.sleep(1_000)  # noqa: ASYNC251  # as code would that keeps the loop to itself
        await asyncio.Event().wait()


class Ends(Service):
    """Crashes, or only says that it is there."""

    def __init__(self, *, crashes: bool) -> None:
        super().__init__()
        self.crashes = crashes

    @Service.task
    async def _work(self) -> None:
        sys.stdout.write("begun\n")
        sys.stdout.flush()
        if self.crashes:
            raise Fenced("another worker has the partition")


def create(crashes: str, blocks: str) -> PitbossApp:
    app = create_app(AppSettings("worker", BrokerAddress("127.0.0.1:1")))
    for _ in range(2):
        app.supervise(Hangs(blocks=blocks == "blocks"))
    app.supervise(Ends(crashes=crashes == "crashes"))
    return app


if __name__ == "__main__":
    process_module.STOP_TIMEOUT_S = LIMIT_S
    sys.exit(run_worker(lambda: create(*sys.argv[1:])))


@pytest.mark.parametrize("blocks", ["blocks", "waits"])
@pytest.mark.parametrize(("crashes", "code"), [("crashes", Fenced.exit_code), ("is told", 1)])
def test_a_worker_that_hangs_is_cut_off(crashes, code, blocks):
    process = subprocess.Popen(
        [sys.executable, __file__, crashes, blocks],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        if crashes != "crashes":
            process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == code
        assert f"still not stopped after {LIMIT_S:.0f} s: cut off".encode() in errors
    finally:
        process.kill()
        process.communicate()
