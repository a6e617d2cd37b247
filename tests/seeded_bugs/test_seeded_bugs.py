"""A check that cannot fail is no check: each patch beside this file is a bug, and the simulator must find it.

The patches are applied to a copy of the packages. Their contexts are short, so that they survive changes around them;
one that applies no more says so, and has to be made anew for the code as it is now. The seed that a patch names in its
first line is tried before all others, to save time; it may find nothing after a change, then the others have to.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATCHES = sorted(Path(__file__).parent.glob("*.patch"))
PACKAGES = ("schemas", "runtime", "streams", "ledger_sink", "lab")
SEEDS_MAX = 40
SEEDS_WITHOUT_BUG = 6

PROGRAM = """
import logging, sys
from lab.simulator.run import simulate
import ledger_sink
logging.getLogger("ledger_sink").setLevel(logging.CRITICAL)
print(ledger_sink.__file__)
for seed in map(int, sys.argv[1:]):
    wrong = simulate(seed).wrong
    if wrong:
        print(f"seed {seed}: {wrong[0]}")
        break
"""


@pytest.fixture
def copy(tmp_path):
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package
        )  # with what is compiled: it is told by the files' times
    return tmp_path


def simulated(copy: Path, seeds: Sequence[int]) -> list[str]:
    """What the first seed that fails says; nothing if none does."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, seeds)],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    where, *said = done.stdout.splitlines()
    assert where == str(copy / "ledger_sink" / "__init__.py")
    return said


def test_there_are_five_at_least():
    assert len(PATCHES) >= 5


@pytest.mark.parametrize("patch", PATCHES, ids=lambda path: path.stem)
def test_a_seeded_bug_is_found(copy, patch):
    applied = subprocess.run(
        ["patch", "--strip=1", "--fuzz=1", "--no-backup-if-mismatch", f"--input={patch}"],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    assert applied.returncode == 0, f"{patch.name} applies no more; make it anew:\n{applied.stdout}"
    known = [
        int(seed)
        for seed in re.findall(r"\AFound by seed (\d+)\.$", patch.read_text(), re.MULTILINE)
    ]
    found = simulated(copy, [*known, *range(1, SEEDS_MAX + 1)])
    assert found, f"{SEEDS_MAX} seeds find nothing wrong with {patch.stem}"
    print(f"{patch.stem}: {found[0][:200]}")


def test_without_a_bug_nothing_is_found(copy):
    assert simulated(copy, range(1, SEEDS_WITHOUT_BUG + 1)) == []
