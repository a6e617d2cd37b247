"""A disk that fills up is told before it is full, and the servers come back when there is space again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from pitboss.cli.main import cli
from pitboss.embedded.free_space import disk_samples
from pitboss.embedded.processes import poll
from pitboss.embedded.stack import ServerStatus, Stack
from pitboss.settings import read_settings
from runtime.telemetry.catalogue import BY_NAME
from tests.support.stack_faults import kill_server

PATIENCE_S = 180


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def full_disk(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 10**12, 700 * 1024**2))


@pytest.fixture
def pitboss(monkeypatch, tmp_path):
    for name in ("PITBOSS_KAFKA", "PITBOSS_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PITBOSS_HOME", str(tmp_path))
    answering = [
        ServerStatus(name, True, 7, "127.0.0.1:1", tmp_path / "log")
        for name in ("kafka", "postgres")
    ]
    monkeypatch.setattr(Stack, "status", lambda _: answering)
    return lambda *arguments: CliRunner().invoke(cli, arguments, catch_exceptions=False)


def test_status_ends_with_1_and_says_how_much_is_free(pitboss, full_disk):
    done = pitboss("status")
    assert done.exit_code == 1
    assert "only 0.7 GB free at " in done.stderr
    assert "PITBOSS_DISK_FREE_MIN_MB" in done.stderr
    shown = json.loads(pitboss("status", "--json").stdout)
    assert shown["disk"]["free_mb"] == 700
    assert not shown["disk"]["is_enough"]


def test_the_threshold_is_a_setting_for_status_and_doctor(pitboss, full_disk, monkeypatch):
    def disk_check():
        checks = json.loads(pitboss("doctor", "--json").stdout)["checks"]
        return next(check["is_ok"] for check in checks if check["name"] == "disk")

    assert not disk_check()
    monkeypatch.setenv("PITBOSS_DISK_FREE_MIN_MB", "500")
    assert disk_check()
    assert pitboss("status").exit_code == 0


def test_workers_show_what_is_free_and_what_should_be(full_disk, monkeypatch):
    monkeypatch.setenv("PITBOSS_DISK_FREE_MIN_MB", "500")
    samples = {name: value for name, _, value in disk_samples(read_settings())}
    assert samples == {
        "pitboss.disk.free": 700 * 1024**2,
        "pitboss.disk.free.min": 500 * 1024**2,
    }
    assert {name for name in samples if name not in BY_NAME} == set()


@pytest.mark.integration
@pytest.mark.faults
@pytest.mark.prove
def test_run_starts_a_server_that_has_ended(private_stack, namespace):
    home = private_stack.settings.home
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PITBOSS_")},
        "PITBOSS_HOME": str(home),
        "PITBOSS_NAMESPACE": namespace,
    }
    command = [sys.executable, "-m", "pitboss.cli.main", "run", "resolve", "--provider", "hub88"]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stderr is not None
            for line in running.stderr:
                if "resolve-1 started" in line:
                    break
            for server in (private_stack.kafka, private_stack.postgres):
                kill_server(server)
                assert poll(server.is_ready, PATIENCE_S), server
        finally:
            running.terminate()
            _, errors = running.communicate(timeout=PATIENCE_S)
    assert "ended: kafka; starting again" in errors
    assert "ended: postgres; starting again" in errors
    private_stack.down()
    assert private_stack.kafka.process() is None
