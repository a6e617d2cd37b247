"""Signature schemes over exact bytes.

Comparisons take the same time wherever two secrets differ.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping
from hashlib import md5
from typing import Literal, Self, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from schemas.errors import UsageError
from schemas.events import SignatureVerdict

RSA_BITS_MIN = 2048  # NIST SP 800-131A: shorter keys are disallowed

Digest: TypeAlias = Literal["sha1", "sha256", "sha512"]


class RsaSha256:
    """RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 section 8.2), its signature in base64.

    This is Hub88's scheme.
    """

    def __init__(self, public_key_pem: str) -> None:
        """Load a public key. Raises UsageError for anything but an RSA key of 2048 bits or more."""
        try:
            key = load_pem_public_key(public_key_pem.encode())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise UsageError(
                "the public key is not PEM (BEGIN PUBLIC KEY): check the keys file"
            ) from error
        if not isinstance(key, RSAPublicKey) or key.key_size < RSA_BITS_MIN:
            raise UsageError(
                f"the public key must be RSA of at least {RSA_BITS_MIN} bits: check the keys file"
            )
        self._key = key
        self._padding = PKCS1v15()
        self._hash = SHA256()

    def matches(self, payload: bytes, signature_base64: bytes) -> bool:
        """Return whether the holder of the private key signed exactly these bytes."""
        try:
            self._key.verify(
                b64decode(signature_base64, validate=True), payload, self._padding, self._hash
            )
        except (ValueError, InvalidSignature):  # binascii.Error is a ValueError
            return False
        return True


class Hmac:
    """HMAC (RFC 2104) with SHA-1, SHA-256 or SHA-512.

    The signature is in hex or base64, as the provider writes it.
    """

    def __init__(self, key: bytes, digest: Digest) -> None:
        """Keep a key as bytes. Raises UsageError for an empty one: anyone could sign with it."""
        if not key:
            raise UsageError("the HMAC key is empty: check the keys file")
        self._key = key
        self._digest = digest

    @classmethod
    def from_hex(cls, key_hex: str, digest: Digest) -> Self:
        """Load a key that is given in hex.

        Raises UsageError for what is not hex, never showing it.
        """
        return cls(_bytes_of(key_hex), digest)

    def matches_hex(self, payload: bytes, signature_hex: bytes) -> bool:
        """Return whether `signature_hex` (either case) signs these bytes."""
        expected = hmac.digest(self._key, payload, self._digest).hex().encode()
        return hmac.compare_digest(expected, signature_hex.lower())

    def matches_base64(self, payload: bytes, signature_base64: bytes) -> bool:
        """Return whether `signature_base64` signs these bytes.

        It is compared as text, as Adyen's libraries do.
        """
        expected = b64encode(hmac.digest(self._key, payload, self._digest))
        return hmac.compare_digest(expected, signature_base64)


class HmacSha256(Hmac):
    """HMAC with SHA-256 under a key given in hex, as Adyen's customer area shows it."""

    def __init__(self, key_hex: str) -> None:
        """Load a key. Raises UsageError for what is not hex, never showing it."""
        super().__init__(_bytes_of(key_hex), "sha256")


def _bytes_of(key_hex: str) -> bytes:
    try:
        return bytes.fromhex(key_hex)
    except ValueError:
        # `from None`: the original error quotes a part of the key.
        raise UsageError("the HMAC key is not hexadecimal: check the keys file") from None


class Md5OfSorted:
    """MD5 over the sorted fields of a form, with the secret behind them: Pragmatic Play's scheme.

    The other fields are hashed as name=value, sorted by name, joined by &. It is weak: MD5 is not
    an HMAC, and everyone who has the secret can sign. Values are hashed as they are after decoding
    the form, without carriage returns and line feeds.
    """

    def __init__(self, secret: str) -> None:
        """Keep the secret. Raises UsageError for an empty one."""
        if not secret:
            raise UsageError("the secret is empty: check the keys file")
        self._secret = secret

    def matches(self, fields: Mapping[str, str], signature_hex: str, field: str) -> bool:
        """Return whether `signature_hex` signs the other fields of a form.

        The signature is the value of `field`, in either case.
        """
        text = (
            "&".join(f"{name}={fields[name]}" for name in sorted(fields) if name != field)
            + self._secret
        )
        payload = text.replace("\r", "").replace("\n", "").encode("utf-8", "surrogatepass")
        expected = md5(payload, usedforsecurity=False).hexdigest()
        return hmac.compare_digest(
            expected.encode(), signature_hex.lower().encode("utf-8", "surrogatepass")
        )


def same_secret(given: bytes, expected: bytes) -> bool:
    """Return whether a secret sent in the clear is the agreed one (Play'n GO's accessToken)."""
    return hmac.compare_digest(given, expected)


def window_verdict(signed_at: int, seen_at: int, window_ms: int) -> str:
    """Return VALID, or STALE for a right signature whose time is outside the window.

    `signed_at` may be `window_ms` from `seen_at`; all are epoch ms. `seen_at` is `fields.seen_at`,
    never a clock of ours: read again, a record gets the same verdict. A stale event is booked all
    the same, since only the provider can have signed it and its identity keeps it from counting
    twice; the normaliser reports it to risk.
    """
    late = abs(seen_at - signed_at) > window_ms
    return (SignatureVerdict.STALE if late else SignatureVerdict.VALID).value
