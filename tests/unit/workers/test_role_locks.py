"""A role runs once in a home, and the home knows which roles run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pitboss.cli.main import cli
from pitboss.settings import runtime_of
from pitboss.workers.role_locks import hold_roles, list_running
from pitboss.workers.supervisor import workers_for
from runtime.security import BrokerAddress
from schemas.errors import UsageError


def test_a_second_supervisor_of_a_role_is_refused_with_the_pid_of_the_first(tmp_path):
    with hold_roles(tmp_path, "ns", ["ledger", "drift"], workers=2, keys_file=Path("keys.json")):
        with (
            pytest.raises(UsageError, match=rf"drift runs already in .*pid {os.getpid()}.*WORKER"),
            hold_roles(tmp_path, "ns", ["drift"], workers=1),
        ):
            pass
        found = list_running(tmp_path, "ns")
        assert [(one.role, one.pid, one.workers) for one in found] == [
            ("drift", os.getpid(), 2),
            ("ledger", os.getpid(), 2),
        ]
        assert found[0].keys_file == str(Path.cwd() / "keys.json")
        # Another namespace, another role and a name of its own share nothing.
        with (
            hold_roles(tmp_path, "", ["drift"], workers=1),
            hold_roles(tmp_path, "ns", ["resolve"], workers=1),
            hold_roles(tmp_path, "ns", ["drift"], workers=1, worker_id="host/b"),
        ):
            assert [one.role for one in list_running(tmp_path, "ns")] == [
                *("drift", "drift", "ledger", "resolve")
            ]
    assert list_running(tmp_path, "ns") == []


def test_the_lock_of_a_killed_supervisor_is_free(tmp_path):
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from pitboss.workers.role_locks import hold_roles\n"
        "with hold_roles(Path(sys.argv[1]), '', ['ledger'], workers=1):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert [one.pid for one in list_running(tmp_path, "")] == [holder.pid]
        holder.kill()
        holder.wait()
    assert list_running(tmp_path, "") == []
    with hold_roles(tmp_path, "", ["ledger"], workers=1):
        assert [one.pid for one in list_running(tmp_path, "")] == [os.getpid()]


def test_two_supervisors_in_one_home_have_logs_of_their_own(tmp_path):
    runtime = runtime_of(BrokerAddress("b:1"), "postgresql://u@h/d", "ns")
    names = ["", "host/b"]
    logs = [
        worker.log.relative_to(tmp_path).as_posix()
        for name in names
        for worker in workers_for(["ledger"], runtime, home=tmp_path, log_prefix=name)
    ]
    assert logs == ["ns/log/ledger-1.log", "ns/log/host_b-ledger-1.log"]


@pytest.fixture
def pitboss(tmp_path, monkeypatch):
    for name in ("PITBOSS_KAFKA", "PITBOSS_DATABASE", "PITBOSS_NAMESPACE", "PITBOSS_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(cli, arguments, catch_exceptions=False)


def test_status_from_another_directory_names_the_home_it_looked_in(pitboss, tmp_path):
    done = pitboss("status")
    assert done.exit_code == 3
    assert f"home      {tmp_path / '.pitboss'}" in done.stdout
    assert "name its home in PITBOSS_HOME" in done.stderr
    assert not (tmp_path / ".pitboss").exists()
    assert "PITBOSS_HOME" in pitboss("topics", "check").stderr


def test_status_after_down_is_stopped_and_lists_the_workers_that_run(pitboss, tmp_path):
    home = tmp_path / ".pitboss"
    with hold_roles(home, "", ["ledger"], workers=3):
        lines = pitboss("status").stdout.splitlines()
    assert [line.split()[:3] for line in lines[1:3]] == [
        ["kafka", "is", "stopped"],
        ["postgres", "is", "stopped"],
    ]
    assert lines[3].split() == ["ledger", "runs", "3", "workers", "pid", str(os.getpid())]
    assert lines[4] == "no worker runs of: normalise, resolve, fraud, drift"
    done = pitboss("status")
    assert "no worker runs of: normalise, ledger, resolve, fraud, drift" in done.stdout
    assert done.stderr == "run `pitboss up` to start what does not run\n"
