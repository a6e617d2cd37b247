"""What `pitboss doctor` says of the settings, and `pitboss status` and `pause` before any server is asked."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from pitboss.cli.main import cli
from pitboss.ops.pauses import plan_changes
from pitboss.setting_table import SETTINGS
from runtime.kafka.control import ControlCommand, Pause


@pytest.fixture
def pitboss(tmp_path, monkeypatch):
    for setting in SETTINGS:
        monkeypatch.delenv(setting.variable, raising=False)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(cli, arguments, catch_exceptions=False)


def test_every_setting_is_shown_with_its_source(pitboss, tmp_path, monkeypatch):
    (tmp_path / "pitboss.toml").write_text("park_records_max = 5\n")
    monkeypatch.setenv("PITBOSS_CONFIG", "pitboss.toml")
    monkeypatch.setenv("PITBOSS_LOG_LEVEL", "debug")
    output = json.loads(pitboss("doctor", "--json").stdout)
    rows = {row["name"]: row for row in output["settings"]}
    assert [*rows] == [setting.name for setting in SETTINGS]
    assert rows["park_records_max"] == {
        "name": "park_records_max",
        "variable": "PITBOSS_PARK_RECORDS_MAX",
        "value": "5",
        "unit": "records",
        "default": "1000",
        "source": "pitboss.toml, line 1",
    }
    assert (rows["log_level"]["value"], rows["log_level"]["source"]) == (
        "DEBUG",
        "PITBOSS_LOG_LEVEL",
    )
    assert rows["home"]["value"] == str(tmp_path / ".pitboss")
    text = pitboss("doctor").stdout
    assert "5 records  (from pitboss.toml, line 1)" in text
    assert "(from PITBOSS_LOG_LEVEL)" in text


def test_a_file_with_a_mistake_is_one_failed_check(pitboss, tmp_path, monkeypatch):
    (tmp_path / "pitboss.toml").write_text("keysfile = 'x'\n")
    monkeypatch.setenv("PITBOSS_CONFIG", "pitboss.toml")
    sentence = "pitboss.toml, line 1: 'keysfile' is not a setting: did you mean 'keys_file'?"
    done = pitboss("doctor", "--json")
    [finding] = json.loads(done.stdout)["checks"]
    assert (done.exit_code, finding["is_ok"], finding["detail"]) == (1, False, sentence)
    other = pitboss("status")
    assert (other.exit_code, other.stderr) == (2, f"error: USAGE {sentence}\n")


@pytest.mark.parametrize(
    ("keys", "is_ok", "detail"),
    [
        ('{"hub-88": {}}', False, "did you mean 'hub88'?"),
        ('{"hub88": {}}', False, "needs 'public_key_pem'"),
        ("{", False, "cannot be read"),
        ('{"house": {"hmac_hex": "aabb"}}', True, "no key for"),
    ],
)
def test_the_keys_file_is_checked(pitboss, tmp_path, monkeypatch, keys, is_ok, detail):
    (tmp_path / "keys.json").touch(mode=0o600)
    (tmp_path / "keys.json").write_text(keys)
    monkeypatch.setenv("PITBOSS_KEYS_FILE", "keys.json")
    checks = json.loads(pitboss("doctor", "--json").stdout)["checks"]
    [finding] = [check for check in checks if check["name"] == "keys"]
    assert finding["is_ok"] is is_ok
    assert detail in finding["detail"]


def test_a_variable_that_is_not_a_setting_fails_the_check(pitboss, monkeypatch):
    monkeypatch.setenv("PITBOSS_KEYFILE", "keys.json")
    done = pitboss("doctor")
    assert done.exit_code == 1
    assert "FAIL  variable" in done.stdout
    assert "did you mean 'PITBOSS_KEYS_FILE'?" in done.stdout


@pytest.mark.parametrize("option", ["--by", "--reason"])
def test_a_pause_without_a_person_or_a_reason_is_refused(pitboss, option):
    given = {"--by": "ana", "--reason": "audit"} | {option: " "}
    done = pitboss("pause", "ledger", *(text for pair in given.items() for text in pair))
    assert done.exit_code == 2
    assert "is empty" in done.stderr


def test_only_what_changes_is_planned():
    anas = Pause("ledger", "2026-11-30T00:00:00Z", "ana", "audit")

    def plan(command):
        changes = plan_changes(
            command, ["ledger", "fraud"], {"ledger": anas}, actor="bo", reason="why", now_ms=0
        )
        return [(one.role, one.pause, one.message and one.message.component) for one in changes]

    bos = Pause("fraud", "1970-01-01T00:00:00Z", "bo", "why")
    assert plan(ControlCommand.PAUSE) == [("ledger", anas, None), ("fraud", bos, "fraud")]
    assert plan(ControlCommand.RESUME) == [("ledger", None, "ledger"), ("fraud", None, None)]


@pytest.mark.parametrize(
    ("target", "is_ok", "detail"),
    [
        ("archive", True, "archive holds 2 files"),
        ("nosuch://bucket/archive", False, "the archive nosuch://bucket/archive cannot be opened"),
    ],
)
def test_the_archive_is_checked_where_one_is_set(
    pitboss, tmp_path, monkeypatch, target, is_ok, detail
):
    assert "archive" not in [
        check["name"] for check in json.loads(pitboss("doctor", "--json").stdout)["checks"]
    ]
    folder = tmp_path / "archive" / "wallet.transactions.v1" / "p=00"
    folder.mkdir(parents=True)
    for suffix in ("json", "parquet"):
        (folder / f"000000000000-000000000007.{suffix}").touch()
    (folder / ".half-written.new").touch()
    monkeypatch.setenv("PITBOSS_ARCHIVE", target)
    done = pitboss("doctor", "--json")
    [finding] = [one for one in json.loads(done.stdout)["checks"] if one["name"] == "archive"]
    assert finding["is_ok"] is is_ok
    assert detail in finding["detail"]
    if not is_ok:
        assert done.exit_code == 1
        assert finding["way_out"] == "correct PITBOSS_ARCHIVE"
