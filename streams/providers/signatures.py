"""Signature schemes over exact bytes. Comparisons take the same time wherever two secrets differ."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from schemas.errors import UsageError

RSA_BITS_MIN = 2048  # NIST SP 800-131A: shorter keys are disallowed


class RsaSha256:
    """RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 section 8.2), the signature in base64: Hub88's scheme."""

    def __init__(self, public_key_pem: str) -> None:
        """Load a public key. Raises UsageError for anything but an RSA key of 2048 bits or more."""
        try:
            key = load_pem_public_key(public_key_pem.encode())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise UsageError("the public key is not PEM (BEGIN PUBLIC KEY): check the keys file") from error
        if not isinstance(key, RSAPublicKey) or key.key_size < RSA_BITS_MIN:
            raise UsageError(f"the public key must be RSA of at least {RSA_BITS_MIN} bits: check the keys file")
        self._key = key
        self._padding = PKCS1v15()
        self._hash = SHA256()

    def matches(self, payload: bytes, signature_base64: bytes) -> bool:
        """Whether the holder of the private key signed exactly these bytes."""
        try:
            self._key.verify(b64decode(signature_base64, validate=True), payload, self._padding, self._hash)
        except (ValueError, InvalidSignature):  # binascii.Error is a ValueError
            return False
        return True


class HmacSha256:
    """HMAC with SHA-256 (RFC 2104) under a key given in hex, as Adyen's customer area shows it."""

    def __init__(self, key_hex: str) -> None:
        """Load a key. Raises UsageError for what is not hex, never showing it."""
        try:
            self._key = bytes.fromhex(key_hex)
        except ValueError:
            # `from None`: the original error quotes a part of the key.
            raise UsageError("the HMAC key is not hexadecimal: check the keys file") from None
        if not self._key:
            raise UsageError("the HMAC key is empty: check the keys file")

    def matches_hex(self, payload: bytes, signature_hex: bytes) -> bool:
        """Whether `signature_hex` (either case) signs these bytes."""
        expected = hmac.digest(self._key, payload, "sha256").hex().encode()
        return hmac.compare_digest(expected, signature_hex.lower())

    def matches_base64(self, payload: bytes, signature_base64: bytes) -> bool:
        """Whether `signature_base64` signs these bytes; compared as text, as Adyen's libraries do."""
        expected = b64encode(hmac.digest(self._key, payload, "sha256"))
        return hmac.compare_digest(expected, signature_base64)


def same_secret(given: bytes, expected: bytes) -> bool:
    """Whether a secret sent in the clear is the agreed one (Play'n GO's accessToken)."""
    return hmac.compare_digest(given, expected)
