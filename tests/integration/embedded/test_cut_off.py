"""A run of tests that is cut off leaves no server behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pitboss.embedded.postgres import PostgresServer
from pitboss.embedded.processes import poll
from tests.support.stack_guard import ROOT

pytestmark = pytest.mark.integration

DEADLINE_S = 120.0

RUN = """
import signal, sys, time
from pathlib import Path
from pitboss.embedded.postgres import PostgresServer
from tests.support.stack_guard import StackGuard
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background session
homes = [Path(name) for name in sys.argv[1:3]]
lock = Path(sys.argv[3])
with StackGuard() as guard:
    guard.watch(homes[0])
    guard.watch(homes[1], lock)
    PostgresServer(homes[0]).start(lambda _: None)
    print("up", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "SIGKILL"])
def test_servers_of_a_run_that_is_cut_off_are_ended(private_settings, number):
    folder = private_settings.home.parent
    home, shared, lock = folder / "pitboss", folder / "shared", folder / "lock"
    shared.mkdir()
    server = PostgresServer(home)
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(home), str(shared), str(lock)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        process_group=0,
        text=True,
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "up\n"
        running = server.process()
        assert running is not None
        os.killpg(run.pid, number)
        run.wait(DEADLINE_S)
    assert poll(lambda: not running.is_alive and not home.exists(), DEADLINE_S)
    assert poll(lambda: not shared.exists(), DEADLINE_S)


def test_servers_that_another_session_uses_are_left_alone(tmp_path: Path):
    import fcntl

    home, lock = tmp_path / "shared", tmp_path / "lock"
    home.mkdir()
    guard = [sys.executable, "-m", "tests.support.stack_guard"]
    line = f"{home}\t{lock}\n"
    with lock.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        subprocess.run(guard, input=line, text=True, cwd=ROOT, check=True)
        assert home.exists()
    subprocess.run(guard, input=line, text=True, cwd=ROOT, check=True)
    assert not home.exists()
