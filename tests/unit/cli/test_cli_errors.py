"""Files, addresses and numbers that the command line refuses: one line, and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from lab.sandbox.scenario import Scenario
from pitboss.cli.files import FileFailed, file_failure, naming_file
from pitboss.cli.main import cli
from pitboss.cli.option_types import RATE
from pitboss.embedded.checkup import run_checkup
from pitboss.settings import read_settings
from runtime.security import BrokerAddress
from schemas.errors import UsageError

ROOT = Path(__file__).parents[3]
DATABASE = "postgresql://u:secret@db:5432/postgres"


@pytest.fixture
def pitboss(tmp_path, monkeypatch):
    for name in ("PITBOSS_KAFKA", "PITBOSS_DATABASE", "PITBOSS_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PITBOSS_HOME", str(tmp_path / "home"))
    return lambda *arguments, **env: CliRunner(env=env).invoke(cli, arguments)


GENERATE = ("sandbox", "generate", "--events", "200")


@pytest.mark.parametrize(
    ("arguments", "home", "named"),
    [
        ((*GENERATE, "--out", "/nonexistent/x"), None, "/nonexistent/x: No such file or directory"),
        ((*GENERATE, "--out", "/dev/full"), None, "/dev/full: No space left on device"),
        (
            (*GENERATE, "--out", "x", "--keys", "/nonexistent/k"),
            None,
            "/nonexistent/k: No such file or directory",
        ),
        ((*GENERATE, "--out", "x"), "/proc/nope", "/proc/nope: No such file or directory"),
        (("up",), "/proc/nope", "/proc/nope: No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_had_is_named_on_one_line(
    pitboss, arguments, home, named, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    done = pitboss(*arguments, **({"PITBOSS_HOME": home} if home else {}))
    assert done.exit_code == FileFailed.exit_code == 1
    assert done.stderr.splitlines()[-1] == f"error: FILE_FAILED {named}"
    assert isinstance(done.exception, SystemExit)
    assert done.stdout == ""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_stdout_is_reported_once_with_the_exit_code(unbuffered):
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pitboss.cli.main", "schemas", "list"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            check=False,
            timeout=120,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert (done.returncode, done.stderr) == (
        1,
        "error: FILE_FAILED the output: No space left on device\n",
    )


def test_an_error_that_is_about_no_file_keeps_its_traceback():
    assert file_failure(ConnectionRefusedError(111, "Connection refused")) is None
    assert file_failure(BrokenPipeError(32, "Broken pipe")) is None


def test_who_writes_names_the_file_where_the_system_does_not(tmp_path):
    with pytest.raises(OSError) as full, naming_file(tmp_path):
        raise OSError(28, "No space left on device")
    assert str(file_failure(full.value)) == f"{tmp_path}: No space left on device"
    with pytest.raises(OSError) as other, naming_file(tmp_path):
        raise FileNotFoundError(2, "No such file or directory", "other")
    assert str(file_failure(other.value)) == "other: No such file or directory"


@pytest.mark.parametrize(
    "kafka",
    [
        "localhost:abc",
        ":::",
        "",
        "a:1,",
        ":9092",
        "a:65536",
        "a:",
        "http://a:1",
        "a b",
        "[::1",
        "[::1]9092",
    ],
)
def test_brokers_that_are_no_addresses_are_refused(kafka):
    with pytest.raises(UsageError, match="PITBOSS_KAFKA"):
        read_settings({"PITBOSS_KAFKA": kafka, "PITBOSS_DATABASE": DATABASE})


@pytest.mark.parametrize(
    "kafka",
    ["a", "a:1", "a_b.c-d:9092, b:2", "10.0.0.1:65535", "[::1]:9092", "[fe80::1%e0]", "::1"],
)
def test_brokers_that_the_client_takes_are_taken(kafka):
    settings = read_settings({"PITBOSS_KAFKA": kafka, "PITBOSS_DATABASE": DATABASE})
    assert settings.kafka == BrokerAddress(kafka)


@pytest.mark.parametrize(
    "url",
    [
        "//[::1/d",
        "//u:secret@[::1/d",
        "//u:secret@h:abc/d",
        "//u:secret@h:65536/d",
        "//u:secret@[zz]/d",
        "//u:sec/ret@h/d",
    ],
)
def test_a_database_that_is_no_url_is_refused_without_its_password(url):
    with pytest.raises(UsageError, match="PITBOSS_DATABASE") as refused:
        read_settings({"PITBOSS_KAFKA": "b:1", "PITBOSS_DATABASE": f"postgresql:{url}"})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["//u@[::1]:5432/d", "//u@a:1,b:2/d", "///d?host=/tmp", "//%2Ftmp/d", "//u@h:/d"]
)
def test_databases_that_the_client_takes_are_taken(url):
    assert read_settings({"PITBOSS_KAFKA": "b:1", "PITBOSS_DATABASE": f"postgresql:{url}"}).database


def test_a_command_says_so_in_one_line(pitboss):
    done = pitboss("topics", "check", PITBOSS_KAFKA=":::", PITBOSS_DATABASE=DATABASE)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "error: USAGE PITBOSS_KAFKA is ':::'" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("demo", "--rate", "nan"),
        ("demo", "--rate", "inf"),
        ("sandbox", "feed", "--rate", "nan"),
        ("sandbox", "feed", "--rate", "inf"),
        ("player", "block", "p", "--by", "a", "--reason", "b", "--wait", "nan"),
        ("ledger", "seal", "--every-s", "inf"),
        (*GENERATE, "--out", "x", "--start-ms", "999999999999999"),
        (*GENERATE, "--out", "x", "--start-ms", "-1"),
    ],
)
def test_a_number_that_is_none_is_refused_with_its_option(
    pitboss, arguments, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    done = pitboss(*arguments)
    assert done.exit_code == 2
    assert f"Invalid value for '{arguments[-2]}'" in done.stderr
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(("text", "rate"), [("0.5", 0.5), ("1e6", 1e6)])
def test_a_rate_is_any_number_above_nothing(text, rate):
    assert RATE(text) == rate
    with pytest.raises(click.BadParameter):
        RATE("0")


@pytest.mark.parametrize("start_ms", ["0", "32503680000000"])
def test_the_first_and_the_last_start_can_be_played(pitboss, tmp_path, start_ms):
    done = pitboss(*GENERATE, "--out", str(tmp_path / "x"), "--start-ms", start_ms)
    assert done.exit_code == 0, done.output


def test_too_few_events_are_counted_without_speeders_where_there_are_none():
    with pytest.raises(UsageError) as few:
        Scenario(seed=1, start_ms=0, events=1, speeders=0)
    assert "speeder" not in str(few.value)
    with pytest.raises(UsageError, match=r"2 speeders \(\d+ events each\)"):
        Scenario(seed=1, start_ms=0, events=700, speeders=2)


@pytest.mark.parametrize("home", ["/etc/passwd", "/etc/passwd/below", "/proc/nope"])
def test_the_doctor_sees_a_home_that_cannot_be_written(home):
    [finding] = [
        one for one in run_checkup(read_settings({"PITBOSS_HOME": home})) if one.name == "home"
    ]
    assert not finding.is_ok
    assert "no file can be made in /" in finding.detail
    assert "PITBOSS_HOME" in finding.way_out


@pytest.mark.parametrize(("there", "word"), [(True, "can be written"), (False, "can be made")])
def test_the_doctor_leaves_no_trace_of_trying(tmp_path, there, word):
    home = tmp_path if there else tmp_path / "a" / "b"
    [finding] = [
        one for one in run_checkup(read_settings({"PITBOSS_HOME": str(home)})) if one.name == "home"
    ]
    assert (finding.is_ok, finding.detail) == (True, f"{home} {word}")
    assert not [*tmp_path.iterdir()]
