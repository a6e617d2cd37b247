"""`pitboss up`, `down` and `provision` at their edges: what they print as JSON, and where nothing is to be done."""

from __future__ import annotations

import json
import os

import pytest
from click.testing import CliRunner

from pitboss.cli.main import cli
from pitboss.embedded.processes import ProcessId
from pitboss.embedded.stack import ServerStatus, Stack
from pitboss.embedded.state import StackState
from runtime.security import BrokerAddress


@pytest.fixture
def pitboss(tmp_path, monkeypatch):
    for name in ("PITBOSS_KAFKA", "PITBOSS_DATABASE", "PITBOSS_NAMESPACE", "PITBOSS_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(cli, arguments, catch_exceptions=False)


def test_down_makes_nothing_where_nothing_ever_ran(pitboss, tmp_path):
    assert pitboss("down").stdout == "nothing was running\n"
    assert json.loads(pitboss("down", "--json").stdout)["stopped"] is False
    assert not [*tmp_path.iterdir()]
    (tmp_path / ".pitboss").mkdir()
    assert pitboss("down").stdout == "nothing was running\n"
    assert not [*(tmp_path / ".pitboss").iterdir()]


def test_up_tells_as_json_what_status_tells(pitboss, tmp_path, monkeypatch):
    process = ProcessId.of(os.getpid())
    assert process is not None
    state = StackState(
        BrokerAddress("127.0.0.1:1"),
        "postgresql://u:secret@127.0.0.1:2/postgres",
        kafka=process,
        postgres=process,
    )
    monkeypatch.setattr(Stack, "up", lambda *_, secure: state)
    monkeypatch.setattr(
        Stack,
        "status",
        lambda _: [ServerStatus("kafka", True, 7, "127.0.0.1:1", tmp_path / "kafka.log")],
    )
    done = pitboss("up", "--json")
    output = json.loads(done.stdout)
    assert output["servers"] == json.loads(pitboss("status", "--json").stdout)["servers"]
    assert output["servers"][0]["log"] == str(tmp_path / "kafka.log")
    assert output["home"] == str(tmp_path / ".pitboss")
    assert output["took_s"] >= 0
    assert "secret" not in done.stdout
    assert "secret" not in pitboss("up").stdout


@pytest.mark.parametrize("command", [("provision",), ("provision", "--dry-run"), ("run", "ledger")])
def test_a_database_that_is_away_is_named_as_such(pitboss, monkeypatch, command):
    monkeypatch.setenv("PITBOSS_KAFKA", "127.0.0.1:1")
    monkeypatch.setenv("PITBOSS_DATABASE", "postgresql://u@127.0.0.1:1/postgres")
    done = pitboss(*command)
    assert done.exit_code == 69
    # On a busy machine the seconds that it waits are told before.
    told = [line for line in done.stderr.splitlines() if not line.startswith("provisioning, ")]
    assert told[0].startswith("error: UNAVAILABLE the database server does not answer")
