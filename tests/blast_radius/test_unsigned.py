"""A provider without a key is booked only where the installation says so, and is named in every status."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from pitboss.cli.main import cli
from pitboss.settings import WorkerSettings, read_worker_settings, runtime_of, worker_environment
from pitboss.workers.checks import check_unsigned
from pitboss.workers.role_locks import hold_roles
from runtime.security import BrokerAddress
from schemas.errors import UsageError


def worker(**variables):
    return read_worker_settings(
        {f"PITBOSS_{name.upper()}": text for name, text in variables.items()}
    )


def test_on_given_servers_a_provider_without_a_key_is_refused_by_name():
    with pytest.raises(UsageError, match="hub88, playngo") as refused:
        check_unsigned(worker(), {"hub88", "playngo", "camt"}, are_ours=False)
    assert "--unsigned" in str(refused.value)
    assert "PITBOSS_UNSIGNED" in str(refused.value)


def test_those_that_are_named_are_booked_and_returned():
    given = worker(unsigned="hub88")
    assert check_unsigned(given, {"hub88", "camt"}, are_ours=False) == ["hub88"]
    with pytest.raises(UsageError, match=r"^playngo signs"):
        check_unsigned(given, {"hub88", "playngo"}, are_ours=False)
    everyone = worker(unsigned="all")
    assert "adyen" in check_unsigned(everyone, None, are_ours=False)


def test_a_key_is_enough(tmp_path):
    keys = tmp_path / "keys.json"
    keys.touch(mode=0o600)
    keys.write_text(json.dumps({"house": {"hmac_hex": "aa" * 32}}))
    assert check_unsigned(WorkerSettings(keys_file=keys), {"house"}, are_ours=False) == []


def test_the_embedded_servers_are_for_trials_and_need_no_key_unless_some_are_named():
    assert check_unsigned(worker(), {"hub88"}, are_ours=True) == ["hub88"]
    with pytest.raises(UsageError, match="hub88"):
        check_unsigned(worker(unsigned="playngo"), {"hub88"}, are_ours=True)


def test_a_name_that_is_not_a_provider_is_refused():
    with pytest.raises(UsageError, match="PITBOSS_UNSIGNED: no adapter is called 'hub8'"):
        worker(unsigned="hub8")


def test_a_worker_of_a_supervisor_is_not_asked_again():
    runtime = runtime_of(BrokerAddress("b:1"), "postgresql://u@h/d", "")
    assert worker_environment(runtime)["PITBOSS_UNSIGNED"] == "all"


def test_status_names_them(tmp_path, monkeypatch):
    monkeypatch.setenv("PITBOSS_HOME", str(tmp_path))
    for name in ("KAFKA", "DATABASE", "NAMESPACE", "KEYS_FILE"):
        monkeypatch.setenv(f"PITBOSS_{name}", "")
    with hold_roles(tmp_path, "", ["normalise"], workers=1, unsigned=["hub88", "playngo"]):
        shown = CliRunner().invoke(cli, ["status"])
        row = json.loads(CliRunner().invoke(cli, ["status", "--json"]).stdout)
    assert "warning: booked unchecked, without a key: hub88, playngo" in shown.stderr
    assert row["unsigned"] == ["hub88", "playngo"]
