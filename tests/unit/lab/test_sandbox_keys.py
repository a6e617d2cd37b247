"""Secrets on disk: what is saved is loaded, the keyring holds no private part, a bad file says so."""

from __future__ import annotations

import json
import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from lab.conformance.writers.find import find_writers
from lab.sandbox.keys import SandboxKeys, merge_keyrings, unknown_to
from pitboss.ops.operator_events import active_signing_key
from schemas.errors import UsageError
from streams.providers.keyring import check_keyring
from streams.providers.registry import DIALECTS


@pytest.fixture(scope="module")
def keys() -> SandboxKeys:
    return SandboxKeys.generate()


def test_saved_keys_sign_as_before(keys, tmp_path):
    path = tmp_path / "keys.json"
    keys.save(path)
    loaded = SandboxKeys.load(path)
    assert loaded.secrets == keys.secrets
    assert loaded.keyring() == keys.keyring()


@pytest.mark.parametrize("before", [None, 0o644])
def test_only_the_owner_may_read_the_file(keys, tmp_path, before):
    path = tmp_path / "keys.json"
    if before is not None:
        path.write_text("{}")
        path.chmod(before)
    keys.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_keyring_is_what_the_normaliser_needs_and_no_private_key(keys):
    ring = keys.keyring()
    names = {name: set(entry) for name, entry in ring.items()}
    assert names["hub88"] == {"public_key_pem"}
    assert names["playngo"] == {"access_token"}
    assert names["adyen"] == names["house"] == {"hmac_hex"}
    signing = {name for name, writer in find_writers().items() if writer.secret_names}
    assert set(names) == signing
    for name, material in ring.items():
        DIALECTS[name].reader(material)  # the names that the adapter asks for
    assert "PRIVATE" not in json.dumps(ring)
    public = serialization.load_pem_public_key(ring["hub88"]["public_key_pem"].encode())
    assert isinstance(public, RSAPublicKey)
    assert public.key_size == 2048


def test_an_installations_keys_and_the_sandboxs_make_a_keyring_that_takes_both(keys):
    """26 records of a feed became BAD_SIGNATURE: the installation had a key of its own (issue 12)."""
    own = {"house": {"hmac_hex": "aa" * 32}, "stripe": [{"id": "s", "secret": "whsec_x"}]}
    ours = {name: keys.keyring()[name] for name in ("house", "stripe", "hub88")}
    assert unknown_to(own, ours) == ["house", "stripe"]
    merged = merge_keyrings(own, ours, unknown_to(own, ours))
    assert unknown_to(merged, ours) == []
    assert merge_keyrings(merged, ours, ["house"])["house"] == merged["house"]
    check_keyring(merged, DIALECTS, "merged")
    # Operators' commands go on with the installation's key.
    signing_key = active_signing_key(merged, 1)
    assert signing_key is not None
    assert signing_key["hmac_hex"] == "aa" * 32
    assert unknown_to({"house": ours["house"]}, ours) == []
    assert unknown_to({}, ours) == []


def test_secrets_are_not_in_the_printed_form(keys):
    secrets = [secret for entry in keys.secrets.values() for secret in entry.values()]
    assert len(secrets) >= 4
    assert not [secret for secret in secrets if secret in repr(keys)]


def test_keys_of_before_a_provider_had_a_writer_are_completed(keys, tmp_path):
    path = tmp_path / "keys.json"
    SandboxKeys({"house": keys.of("house")}).save(path)
    loaded = SandboxKeys.load(path)
    with pytest.raises(UsageError, match="no secrets of hub88"):
        loaded.of("hub88")
    completed = loaded.complete()
    assert completed.of("house") == keys.of("house")
    assert set(completed.secrets) == set(keys.secrets)
    assert completed.complete() is completed


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"hub88": {"private_key_pem": "nonsense"}}', "\x00\xff"]
)
def test_a_file_without_keys_is_refused_with_its_name(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"broken\.json"):
        SandboxKeys.load(path)


def test_a_missing_file_is_refused_with_its_name(tmp_path):
    with pytest.raises(UsageError, match=r"none\.json"):
        SandboxKeys.load(tmp_path / "none.json")
