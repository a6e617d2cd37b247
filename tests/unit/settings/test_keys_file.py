"""The keys file against the registry: unknown names, unusable keys, and live providers that nothing checks."""

from __future__ import annotations

import json
import logging

import pytest

from pitboss.setting_files import read_keyring
from pitboss.settings import Runtime, WorkerSettings, read_worker_settings
from pitboss.workers.__main__ import main
from pitboss.workers.checks import check_worker_settings, format_unchecked
from pitboss.workers.compose import compose
from runtime.security import BrokerAddress
from schemas.errors import UsageError, suggest
from streams.providers.keyring import requires_key, unchecked_providers
from streams.providers.registry import DIALECTS

UNSIGNED = {"camt", "uof", "lga_report"}
KEYS = {"house": {"hmac_hex": "aa" * 32}, "playngo": {"access_token": "secret"}}


@pytest.fixture
def worker(tmp_path):
    file = tmp_path / "keys.json"

    def write(keys: object) -> WorkerSettings:
        file.touch(mode=0o600)
        file.write_text(json.dumps(keys))
        return WorkerSettings(keys_file=file)

    return write


@pytest.mark.parametrize("typo", ["hub-88", "Hub88", "hub_88", "hub8", "hubb88"])
def test_a_name_that_is_not_a_provider_is_refused_with_the_nearest(worker, typo):
    with pytest.raises(
        UsageError, match=rf"keys\.json: '{typo}' is not a provider: did you mean 'hub88'\?"
    ):
        read_keyring(worker({**KEYS, typo: {"public_key_pem": "secret"}}))


def test_a_name_that_is_near_no_provider_is_refused_with_the_way_to_all_of_them(worker):
    with pytest.raises(UsageError, match="'qwerty' is not a provider: `pitboss providers list`"):
        read_keyring(worker({"qwerty": {}}))


@pytest.mark.parametrize("entry", [{}, [], "secret", {"hmac_hex": "secret"}])
def test_a_key_that_cannot_be_used_is_refused_before_a_worker_starts(worker, entry):
    with pytest.raises(UsageError) as refused:
        check_worker_settings(worker({"house": entry}))
    assert "secret" not in str(refused.value)


def test_a_key_that_cannot_be_used_is_named_by_its_file_and_provider(worker):
    """It was "the public key is not PEM" (issue 12)."""
    given = worker({**KEYS, "hub88": {"public_key_pem": "secret"}})
    with pytest.raises(UsageError, match=rf"^PITBOSS_KEYS_FILE {given.keys_file}: hub88: .*PEM"):
        check_worker_settings(given)
    runtime = Runtime(BrokerAddress("127.0.0.1:1"), "postgresql://user@127.0.0.1:1/pitboss_t", "t")
    with pytest.raises(UsageError, match=rf"{given.keys_file}: hub88: .*PEM"):
        compose("normalise", runtime, given)


@pytest.mark.parametrize("name", ["keys_file", "currencies_file"])
def test_a_missing_file_that_the_toml_names_is_reported_with_its_line(tmp_path, name):
    config = tmp_path / "pitboss.toml"
    config.write_text(f'log_level = "INFO"\n{name} = "none.json"\n')
    given = read_worker_settings({"PITBOSS_CONFIG": str(config)})
    with pytest.raises(
        UsageError, match=rf"^{config}, line 2: {name} {tmp_path}/none\.json cannot"
    ):
        check_worker_settings(given)
    given = read_worker_settings({f"PITBOSS_{name.upper()}": "none.json"})
    with pytest.raises(UsageError, match=rf"^PITBOSS_{name.upper()} none\.json cannot be read"):
        check_worker_settings(given)


def test_live_providers_that_sign_and_have_no_key_are_named(worker):
    assert {name for name in DIALECTS if not requires_key(DIALECTS[name])} == UNSIGNED
    assert set(unchecked_providers({}, DIALECTS)) == set(DIALECTS) - UNSIGNED
    lacking = check_worker_settings(worker(KEYS))
    assert set(lacking) == set(DIALECTS) - UNSIGNED - set(KEYS)
    assert "hub88" in format_unchecked(lacking)
    assert format_unchecked([]) == ""


async def test_a_normalise_worker_logs_them_at_its_start(worker, caplog):
    runtime = Runtime(BrokerAddress("127.0.0.1:1"), "postgresql://user@127.0.0.1:1/pitboss_t", "t")
    with caplog.at_level(logging.WARNING):
        compose("normalise", runtime, worker(KEYS))
    [line] = [
        record.getMessage() for record in caplog.records if "no key for" in record.getMessage()
    ]
    assert "hub88" in line
    assert "playngo" not in line


def test_a_worker_with_a_wrong_setting_ends_with_its_sentence(monkeypatch, caplog):
    monkeypatch.setenv("PITBOSS_PARK_RECORDS_MAX", "many")
    assert main(["normalise"]) == UsageError.exit_code
    assert (
        "USAGE: PITBOSS_PARK_RECORDS_MAX is 'many': give a whole number of records" in caplog.text
    )


def test_the_nearest_name_is_always_the_same():
    assert suggest("hub88", {"hub88", "house"}) == ": did you mean 'hub88'?"
    assert suggest("", {"hub88"}) == suggest("qwerty", {"hub88"}) == ""
    assert {suggest("ab", names) for names in (["a-b", "a_b"], ["a_b", "a-b"])} == {
        ": did you mean 'a-b'?"
    }
