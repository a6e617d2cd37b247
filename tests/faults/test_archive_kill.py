"""SIGKILL to the archiver at ten points: the same files, and no offset twice or missing."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from replay.archive.store import LocalStore
from replay.archive.verify import verify_archive
from tests.acceptance.documented import ROOT
from tests.faults import archive_worker
from tests.faults.archive_worker import count_lines
from tests.support.fix_stack import SEED

pytestmark = [pytest.mark.faults, pytest.mark.prove]

KILLS = 10
BEYOND = 6
"""Lines that the books may have beyond those that are waited for. All together are fewer than they have in the end."""


def digests(folder: Path) -> dict[str, str]:
    store = LocalStore(folder / "files")
    return {path: hashlib.sha256(store.get(path)).hexdigest() for path in store.list()}


@pytest.mark.timeout(900)
def test_ten_kills_leave_the_same_files(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    archive_worker.archive(whole, archive_worker.make_log())
    rng = random.Random(SEED)
    command = [sys.executable, "-m", "tests.faults.archive_worker", str(killed)]
    reached = 0
    for _ in range(KILLS):
        wanted, deadline = reached + rng.randrange(1, 8), time.monotonic() + 180
        process = subprocess.Popen([*command, str(wanted + BEYOND)], cwd=ROOT)
        while count_lines(killed) < wanted and process.poll() is None:
            assert time.monotonic() < deadline, "the archiver does not go on"
            time.sleep(0.001)
        time.sleep(rng.random() * 0.02)  # anywhere within a file
        process.kill()
        assert process.wait() == -signal.SIGKILL, "it had ended before the kill"
        reached = count_lines(killed)
    subprocess.run([*command, "1000"], cwd=ROOT, check=True, timeout=400)
    assert digests(killed) == digests(whole)
    assert verify_archive(LocalStore(killed / "files")).faults == []
