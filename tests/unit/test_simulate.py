"""The simulator finds nothing wrong in some seeds, says the same twice, and can tell that something is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from lab.simulator.run import EVENTS_MIN, FAULTS_MIN, simulate
from pitboss.cli.main import cli

SEEDS = 12


def simulated(*arguments: str):
    result = CliRunner().invoke(cli, ["simulate", "--json", *arguments])
    return result.exit_code, json.loads(result.stdout)


def test_nothing_is_lost_doubled_or_made_up():
    code, said = simulated("--seeds", str(SEEDS), "--start", "1")
    assert (code, said["failures"], said["failing_seeds"]) == (0, 0, [])
    assert said["seeds"] == SEEDS
    assert said["events_min"] >= EVENTS_MIN
    assert said["faults_min"] >= FAULTS_MIN


@pytest.mark.prove
@pytest.mark.timeout(3_600)
def test_a_thousand_seeds():
    code, said = simulated(
        "--seeds", "1000", "--start", "1", "--processes", str(os.cpu_count() or 1)
    )
    assert (code, said["failures"], said["failing_seeds"], said["seeds"]) == (0, 0, [], 1000)
    assert (said["events_min"] >= EVENTS_MIN, said["faults_min"] >= FAULTS_MIN) == (True, True)


def test_a_seed_does_the_same_again_to_the_last_step():
    """In two processes whose sets and dictionaries are ordered differently."""
    program = "from lab.simulator.run import simulate; print(simulate(3, print))"
    told = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert len(told[0].splitlines()) > FAULTS_MIN


def test_another_seed_is_another_world():
    traces: list[list[str]] = [[], []]
    for seed, trace in enumerate(traces, 1):
        simulate(seed, trace.append)
    assert traces[0] != traces[1]


def test_what_does_not_hold_is_named_with_the_command_that_shows_it_again(monkeypatch):
    monkeypatch.setattr("lab.simulator.run.find_failures", lies)
    result = CliRunner().invoke(cli, ["simulate", "--seeds", "2", "--start", "7", "--json"])
    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert (said["failures"], said["failing_seeds"]) == (2, [7, 8])
    assert "the moon is made of cheese" in result.stderr
    assert "pitboss simulate --start 8 --seeds 1 --trace" in result.stderr


async def lies(world):
    return ["the moon is made of cheese"]
