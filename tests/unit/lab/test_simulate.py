"""The simulator passes some seeds, repeats a seed exactly, and reports failures."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from lab.simulator.run import EVENTS_MIN, FAULTS_MIN, simulate
from pitboss.cli.main import cli

SEEDS = 5


def run_simulate(*arguments: str):
    result = CliRunner().invoke(cli, ["simulate", "--json", *arguments])
    return result.exit_code, json.loads(result.stdout)


def test_nothing_is_lost_doubled_or_invented():
    code, summary = run_simulate("--seeds", str(SEEDS), "--start", "1")
    assert (code, summary["failures"], summary["failing_seeds"]) == (0, 0, [])
    assert summary["seeds"] == SEEDS
    assert summary["events_min"] >= EVENTS_MIN
    assert summary["faults_min"] >= FAULTS_MIN


@pytest.mark.prove
@pytest.mark.timeout(3_600)
def test_a_thousand_seeds():
    code, summary = run_simulate(
        "--seeds", "1000", "--start", "1", "--processes", str(os.cpu_count() or 1)
    )
    assert (code, summary["failures"], summary["failing_seeds"], summary["seeds"]) == (
        0,
        0,
        [],
        1000,
    )
    assert (summary["events_min"] >= EVENTS_MIN, summary["faults_min"] >= FAULTS_MIN) == (
        True,
        True,
    )


def test_a_seed_gives_the_same_run_to_the_last_step():
    """In two processes whose sets are ordered differently."""
    program = "from lab.simulator.run import simulate; print(simulate(3, print))"
    traces = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert traces[0] == traces[1]
    assert len(traces[0].splitlines()) > FAULTS_MIN


def test_another_seed_is_another_simulation():
    traces: list[list[str]] = [[], []]
    for seed, trace in enumerate(traces, 1):
        simulate(seed, trace.append)
    assert traces[0] != traces[1]


def test_a_failure_is_printed_with_the_command_that_repeats_it(monkeypatch):
    monkeypatch.setattr("lab.simulator.run.find_failures", find_cheese)
    result = CliRunner().invoke(cli, ["simulate", "--seeds", "2", "--start", "7", "--json"])
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert (summary["failures"], summary["failing_seeds"]) == (2, [7, 8])
    assert "the moon is made of cheese" in result.stderr
    assert "pitboss simulate --start 8 --seeds 1 --trace" in result.stderr


async def find_cheese(simulation):
    return ["the moon is made of cheese"]
