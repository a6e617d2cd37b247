"""Secrets that the simulated providers sign with, and the keyring that our normaliser checks by."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from schemas.errors import UsageError

_RSA_BITS = 2048
_PKCS1V15 = padding.PKCS1v15()
_SHA256 = hashes.SHA256()


@dataclass(frozen=True)
class SandboxKeys:
    """One set of secrets; the same keys and the same scenario make the same bytes.

    PKCS #1 v1.5 signs without randomness. RSA keys cannot be made from a seed, so a set is made
    once, saved and loaded again.
    """

    hub88_private_key: rsa.RSAPrivateKey = field(repr=False)
    playngo_access_token: str = field(repr=False)
    adyen_hmac_key: bytes = field(repr=False)
    house_hmac_key: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> SandboxKeys:
        """Make new secrets from the machine's randomness."""
        return cls(
            hub88_private_key=rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS),
            playngo_access_token=secrets.token_hex(16),
            adyen_hmac_key=secrets.token_bytes(32),
            house_hmac_key=secrets.token_bytes(32),
        )

    @classmethod
    def load(cls, path: Path) -> SandboxKeys:
        """Read what `save` wrote; raises UsageError if the file is missing or malformed."""
        try:
            stored = json.loads(path.read_bytes())
            private_key = serialization.load_pem_private_key(
                stored["hub88"]["private_key_pem"].encode(), None
            )
            if not isinstance(private_key, rsa.RSAPrivateKey):
                raise UsageError(
                    f"{path}: the hub88 key is not an RSA key;"
                    " delete the file to have new keys made"
                )
            return cls(
                hub88_private_key=private_key,
                playngo_access_token=stored["playngo"]["access_token"],
                adyen_hmac_key=bytes.fromhex(stored["adyen"]["hmac_hex"]),
                house_hmac_key=bytes.fromhex(stored["house"]["hmac_hex"]),
            )
        except OSError as error:
            raise UsageError(f"cannot read the sandbox keys: {error}") from error
        except (ValueError, KeyError, TypeError, AttributeError, UnsupportedAlgorithm) as error:
            raise UsageError(
                f"{path} holds no sandbox keys; delete the file to have new ones made"
            ) from error

    def save(self, path: Path) -> None:
        """Write all secrets, readable by the owner only; `load` reads them."""
        pem = self.hub88_private_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        stored = {**self.keyring(), "hub88": {"private_key_pem": pem.decode()}}
        path.touch(mode=0o600)
        path.chmod(0o600)
        path.write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")

    def keyring(self) -> Mapping[str, Mapping[str, str]]:
        """Return what the normaliser needs, shaped as the file that PITBOSS_KEYS_FILE names.

        Of the RSA key only the public half is in it.
        """
        public_pem = self.hub88_private_key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return {
            "hub88": {"public_key_pem": public_pem.decode()},
            "playngo": {"access_token": self.playngo_access_token},
            "adyen": {"hmac_hex": self.adyen_hmac_key.hex()},
            "house": {"hmac_hex": self.house_hmac_key.hex()},
        }

    def hub88_signature(self, body: bytes) -> bytes:
        """Sign the body as in `X-Hub88-Signature`; 0.2 to 0.3 ms a call.

        The signature is the base64 of RSA-SHA256 (PKCS #1 v1.5).
        """
        return base64.b64encode(self.hub88_private_key.sign(body, _PKCS1V15, _SHA256))

    def house_signature(self, body: bytes) -> bytes:
        """Return the hex of HMAC-SHA256 over the body, as in `x-house-signature`."""
        return hmac.digest(self.house_hmac_key, body, hashlib.sha256).hex().encode()

    def adyen_signature(self, signed_text: str) -> str:
        """Sign an item's joined fields as in `additionalData.hmacSignature`.

        The signature is the base64 of HMAC-SHA256.
        """
        return base64.b64encode(
            hmac.digest(self.adyen_hmac_key, signed_text.encode(), hashlib.sha256)
        ).decode()
