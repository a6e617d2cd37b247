"""Every role composes without a server, with something to read and a listener for commands."""

from __future__ import annotations

import json

import pytest

from pitboss.setting_files import read_keyring
from pitboss.settings import Runtime, WorkerSettings
from pitboss.workers import ROLES
from pitboss.workers.__main__ import main
from pitboss.workers.compose import compose
from pitboss.workers.retirement_watch import RetirementWatch
from runtime.dead_letters.park_store import ParkStore
from runtime.kafka.control import Control
from runtime.security import BrokerAddress
from schemas.errors import UsageError

RUNTIME = Runtime(BrokerAddress("127.0.0.1:1"), "postgresql://user@127.0.0.1:1/pitboss_t", "t")


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_composes_with_one_intake_of_its_namespace_and_a_control(role):
    app = compose(role, RUNTIME, WorkerSettings(worker_id=f"{role}-1"))
    [intake] = app.intakes
    assert intake.settings.group.startswith("t.")
    assert intake.settings.group_instance_id == f"{role}-1"
    assert any(isinstance(service, Control) for service in app._supervised)


def test_a_normaliser_watches_for_versions_that_go():
    app = compose("normalise", RUNTIME, WorkerSettings())
    assert any(isinstance(service, RetirementWatch) for service in app._supervised)


def test_a_normaliser_has_a_park_table_only_where_that_was_configured(tmp_path):
    def stores(settings: WorkerSettings) -> list[ParkStore]:
        services = compose("normalise", RUNTIME, settings)._supervised
        return [service for service in services if isinstance(service, ParkStore)]

    keys = tmp_path / "keys.json"
    keys.touch(mode=0o600)
    keys.write_text(json.dumps({"playngo": {"access_token": "secret"}}))
    assert stores(WorkerSettings(keys_file=keys)) == []
    [store] = stores(WorkerSettings(keys_file=keys, park_providers=frozenset({"playngo"})))
    assert store._url == RUNTIME.database_url
    assert len(stores(WorkerSettings(park_providers=frozenset()))) == 1
    with pytest.raises(UsageError, match="hub88"):
        stores(WorkerSettings(keys_file=keys, park_providers=frozenset({"playngo", "hub88"})))


def test_a_wrong_role_is_answered_with_all_roles(capsys):
    assert main(["teleport"]) == UsageError.exit_code
    assert "normalise, ledger, resolve, fraud" in capsys.readouterr().err
    assert main([]) == UsageError.exit_code


@pytest.mark.parametrize("content", [b"", b"[]", b"{"])
def test_a_keys_file_that_is_none_is_named(tmp_path, content):
    keys = tmp_path / "keys.json"
    keys.touch(mode=0o600)
    keys.write_bytes(content)
    with pytest.raises(UsageError, match="keys"):
        read_keyring(WorkerSettings(keys_file=keys))
    with pytest.raises(UsageError, match="nowhere"):
        read_keyring(WorkerSettings(keys_file=tmp_path / "nowhere"))
