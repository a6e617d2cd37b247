"""Each patch beside this file is a bug, and the simulator must find it.

The patches are applied to a copy of the packages. Their contexts are short, so that they survive
changes of the lines around them. A patch that no longer applies fails its test and must be remade
for the present code. The seed in the first line of a patch is tried before all others, which saves
time; if it finds nothing after a change, the other seeds must.
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
    failures = simulate(seed).failures
    if failures:
        print(f"seed {seed}: {failures[0]}")
        break
"""


@pytest.fixture
def copy(tmp_path):
    for package in PACKAGES:
        # With the compiled files, which Python checks by the sources' times.
        shutil.copytree(ROOT / package, tmp_path / package)
    return tmp_path


def run_simulator(copy: Path, seeds: Sequence[int]) -> list[str]:
    """Return the first failure of the first seed that fails, or an empty list."""
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
    where, *failures = done.stdout.splitlines()
    assert where == str(copy / "ledger_sink" / "__init__.py")
    return failures


def test_there_are_at_least_five_bugs():
    assert len(PATCHES) >= 5


def apply_patch(patch: Path, where: Path, *options: str) -> None:
    # Without its whole context a patch may find another place, and be another bug.
    applied = subprocess.run(
        ["patch", "--strip=1", "--fuzz=0", "--no-backup-if-mismatch", *options, f"--input={patch}"],
        cwd=where,
        capture_output=True,
        text=True,
        check=False,
    )
    assert applied.returncode == 0, f"{patch.name} no longer applies, remake it:\n{applied.stdout}"


@pytest.mark.parametrize("patch", PATCHES, ids=lambda path: path.stem)
def test_a_seeded_bug_still_applies(patch):
    apply_patch(patch, ROOT, "--dry-run")


@pytest.mark.prove
@pytest.mark.parametrize("patch", PATCHES, ids=lambda path: path.stem)
def test_a_seeded_bug_is_found(copy, patch):
    apply_patch(patch, copy)
    known = [
        int(seed)
        for seed in re.findall(r"\AFound by seed (\d+)\.$", patch.read_text(), re.MULTILINE)
    ]
    found = run_simulator(copy, [*known, *range(1, SEEDS_MAX + 1)])
    assert found, f"{SEEDS_MAX} seeds do not find {patch.stem}"
    print(f"{patch.stem}: {found[0][:200]}")


@pytest.mark.prove
def test_without_a_bug_nothing_is_found(copy):
    assert run_simulator(copy, range(1, SEEDS_WITHOUT_BUG + 1)) == []
