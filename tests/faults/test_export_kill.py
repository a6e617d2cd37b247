"""SIGKILL to an export, five times at random instants: the resumed result is the same, byte for byte."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from replay.export.run import export_to
from schemas.topics import TRANSACTIONS
from tests.acceptance.documented import ROOT
from tests.faults import export_worker
from tests.support.fix_stack import SEED

pytestmark = pytest.mark.faults

KILLS = 5
BEYOND = 4
"""Pieces that may be read beyond those that are waited for. All together are fewer than the log has."""


def contents(result: Path) -> dict[str, str]:
    files = [result] if result.is_file() else sorted(result.rglob("*"))
    return {
        str(file.relative_to(result)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.is_file()
    }


def journal_lines(result: Path) -> int:
    journal = result.with_name(result.name + ".partial") / "journal.jsonl"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


@pytest.mark.parametrize("name", ["folder", pytest.param("file.parquet", marks=pytest.mark.prove)])
def test_five_kills_leave_the_same_bytes(tmp_path, name, monkeypatch):
    monkeypatch.setattr("replay.export.plan.PIECE_RECORDS", export_worker.PIECE_RECORDS)
    whole, result = tmp_path / f"whole-{name}", tmp_path / name
    export_to(export_worker.make_log(), export_worker.REQUEST, TRANSACTIONS, whole)
    rng = random.Random(f"{SEED} {name}")
    command = [sys.executable, "-m", "tests.faults.export_worker", str(result)]
    reached = 0
    for kill in range(KILLS):
        pieces, more = rng.randrange(1, 6), ["--resume"] if kill else []
        process = subprocess.Popen([*command, str(pieces + BEYOND), *more], cwd=ROOT)
        wanted, deadline = reached + pieces, time.monotonic() + 120
        while journal_lines(result) < wanted and process.poll() is None:
            assert time.monotonic() < deadline, "the export does not go on"
            time.sleep(0.001)
        time.sleep(rng.random() * 0.02)  # anywhere within a piece
        process.kill()
        assert process.wait() == -signal.SIGKILL, "it had ended before the kill"
        reached = journal_lines(result)
    assert not result.exists()
    subprocess.run([*command, "1000", "--resume"], cwd=ROOT, check=True, timeout=240)
    assert contents(result) == contents(whole)
