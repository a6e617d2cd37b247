"""Secrets on disk: what is saved is loaded, the keyring holds no private part, a bad file says so."""

from __future__ import annotations

import json
import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from lab.sandbox.keys import SandboxKeys
from schemas.errors import UsageError


@pytest.fixture(scope="module")
def keys() -> SandboxKeys:
    return SandboxKeys.generate()


def test_saved_keys_sign_as_before(keys, tmp_path):
    path = tmp_path / "keys.json"
    keys.save(path)
    loaded = SandboxKeys.load(path)
    assert loaded.hub88_signature(b"x") == keys.hub88_signature(b"x")
    assert loaded.house_signature(b"x") == keys.house_signature(b"x")
    assert loaded.adyen_signature("x") == keys.adyen_signature("x")
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
    assert {name: set(entry) for name, entry in ring.items()} == {
        "hub88": {"public_key_pem"},
        "playngo": {"access_token"},
        "adyen": {"hmac_hex"},
        "house": {"hmac_hex"},
    }
    assert "PRIVATE" not in json.dumps(ring)
    public = serialization.load_pem_public_key(ring["hub88"]["public_key_pem"].encode())
    assert isinstance(public, RSAPublicKey)
    assert public.key_size == 2048


def test_secrets_are_not_in_the_printed_form(keys):
    assert keys.playngo_access_token not in repr(keys)
    assert repr(keys.adyen_hmac_key) not in repr(keys)


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
