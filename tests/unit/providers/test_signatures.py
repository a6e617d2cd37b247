"""Signature schemes against the vectors of their standards and of the providers that use them."""

from __future__ import annotations

import base64
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import UsageError
from streams.providers.signatures import (
    Hmac,
    HmacSha256,
    Md5OfSorted,
    RsaSha256,
    same_secret,
    window_verdict,
)

# RFC 2202 section 3 and RFC 4231 section 4.3: test case 2 of each.
_CASE_2 = (b"Jefe", b"what do ya want for nothing?")
_DIGESTS = {
    "sha1": "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
    "sha256": "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    "sha512": (
        "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
        "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
    ),
}


@pytest.mark.parametrize("digest", _DIGESTS)
def test_hmac_is_that_of_the_standard(digest) -> None:
    key, payload = _CASE_2
    signature = _DIGESTS[digest].encode()
    for one in (Hmac(key, digest), Hmac.from_hex(key.hex(), digest)):
        assert one.matches_hex(payload, signature)
        assert one.matches_hex(payload, signature.upper())
        assert one.matches_base64(payload, base64.b64encode(bytes.fromhex(_DIGESTS[digest])))
        assert not one.matches_hex(payload + b" ", signature)
        assert not one.matches_hex(payload, signature[:-1])
        assert not one.matches_base64(payload, signature)


@given(st.binary(max_size=40), st.binary(max_size=40), st.sampled_from(sorted(_DIGESTS)))
def test_no_random_bytes_are_a_signature_or_raise(payload, signature, digest) -> None:
    one = Hmac(b"k", digest)
    right = hmac.digest(b"k", payload, digest).hex().encode()
    assert one.matches_hex(payload, signature) == (signature.lower() == right)
    assert one.matches_base64(payload, signature) == (
        signature == base64.b64encode(bytes.fromhex(right.decode()))
    )


@pytest.mark.parametrize(
    "make", [lambda: Hmac(b"", "sha1"), lambda: HmacSha256(""), lambda: Md5OfSorted("")]
)
def test_an_empty_key_is_none(make) -> None:
    with pytest.raises(UsageError, match="empty"):
        make()


def test_a_key_that_is_no_hex_is_not_shown() -> None:
    with pytest.raises(UsageError) as refusal:
        Hmac.from_hex("hunter2", "sha256")
    assert "hunter2" not in str(refusal.value)
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize(
    "key", ["", "hunter2", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]
)
def test_a_key_that_is_no_rsa_key_is_not_shown(key) -> None:
    with pytest.raises(UsageError) as refusal:
        RsaSha256(key)
    assert "hunter2" not in str(refusal.value)


# Computed with md5sum(1) over the text that integrators build: sorted name=value joined by &, the secret behind.
_FORM = {
    "userId": "p-1001",
    "amount": "1.50",
    "gameId": "vs20demo",
    "providerId": "PragmaticPlay",
    "reference": "5f0a1b2c3d4e5f6a7b8c9d01",
    "roundDetails": "spin",
    "roundId": "7000001234",
    "timestamp": "1790000000123",
}
_HASH = "16301fb0a63e975ccf663cefb8917d5d"


def test_md5_over_sorted_fields() -> None:
    one = Md5OfSorted("testSecret1")
    assert one.matches(_FORM | {"hash": _HASH}, _HASH, "hash")
    assert one.matches(_FORM | {"hash": "another"}, _HASH.upper(), "hash")
    assert one.matches(_FORM | {"roundDetails": "sp\r\nin"}, _HASH, "hash")
    assert not one.matches(_FORM | {"amount": "1.51"}, _HASH, "hash")
    assert not one.matches(_FORM | {"more": ""}, _HASH, "hash")
    assert not Md5OfSorted("testSecret2").matches(_FORM, _HASH, "hash")


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4), st.text(max_size=40))
def test_md5_raises_for_no_text(fields, signature) -> None:
    assert not Md5OfSorted("s").matches(fields, signature, "hash")


def test_a_secret_is_the_same_or_not() -> None:
    assert same_secret(b"a", b"a")
    assert not same_secret(b"a", b"b")
    assert not same_secret("ж".encode(), b"a")


@pytest.mark.parametrize(
    ("signed_at", "verdict"),
    [
        (700_000, "VALID"),
        (699_999, "STALE"),
        (1_000_000, "VALID"),
        (1_300_000, "VALID"),
        (1_300_001, "STALE"),
    ],
)
def test_a_signature_grows_stale_on_either_side_of_its_window(signed_at, verdict) -> None:
    assert window_verdict(signed_at, 1_000_000, 300_000) == verdict
