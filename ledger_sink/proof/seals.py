"""Seals: hashes that chain what the ledger has booked, so that a later change of a row is found.

A seal covers the entries and transfers of a range of one log partition. It keeps a digest of each
row, in the order of the log, and a hash over them and over the seal before it. A checkpoint names
the last seal of every partition, continues the checkpoint before it, and is signed with Ed25519
(RFC 8032). An attacker with write access to the database can make new seals, but none that fit a
checkpoint that is stored elsewhere: on a topic, in a file, with an auditor.

This module reads no database and no clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from schemas.errors import UsageError

FORM: Final = 2
"""Number of the form of new seals: the columns of a row's digest, and the order of the rows."""

FORMS: Final = (1, 2)
"""The forms that can be verified. The second added what an entry has had since: whether its round
is closed, its group, whether it is billable, the time of its decision, and its contribution's rest.
"""

DIGEST_BYTES: Final = 16
"""Half of a SHA-256: finding another row with the same digest takes 2^128 tries."""

GENESIS_HASH: Final = bytes(32)
"""The predecessor hash of the first seal and the first checkpoint."""


class Seal(msgspec.Struct, frozen=True):
    """The digests of the rows of `[from_offset, next_offset)` of a partition, and their hash."""

    partition: int = msgspec.field(name="part")
    number: int
    form: int
    from_offset: int
    next_offset: int
    digests: bytes
    hash: bytes

    @property
    def rows(self) -> int:
        """Number of rows that it covers."""
        return len(self.digests) // DIGEST_BYTES


class SealReference(msgspec.Struct, frozen=True):
    """A partition's last seal, as a checkpoint names it; the hash in hex."""

    partition: int = msgspec.field(name="part")
    number: int
    next_offset: int
    hash: str


class Checkpoint(msgspec.Struct, frozen=True):
    """The last seals of all partitions at one time.

    `previous` is the hex SHA-256 of the checkpoint before it.
    """

    number: int
    at: str
    cluster_id: str
    database: str
    previous: str
    seals: tuple[SealReference, ...]


class SignedCheckpoint(msgspec.Struct, frozen=True):
    """A checkpoint's exact bytes, as text, and the hex signature over them."""

    checkpoint: str
    signature: str

    def content(self) -> Checkpoint:
        """Return the checkpoint. Raises msgspec.DecodeError for what is not a checkpoint."""
        return msgspec.json.decode(self.checkpoint, type=Checkpoint)

    @property
    def digest(self) -> str:
        """SHA-256 by which the next checkpoint names this one."""
        return hashlib.sha256(self.checkpoint.encode()).hexdigest()


def row_digest(table: str, row: Sequence[Any]) -> bytes:
    """Return the digest of a row: of its table's name and its columns as JSON.

    JSON distinguishes 1 from "1" and None from "".
    """
    return hashlib.sha256(msgspec.json.encode((table, *row))).digest()[:DIGEST_BYTES]


def seal_hash(seal: Seal, previous: bytes) -> bytes:
    """Return the hash that chains a seal to the one before it."""
    head = (
        seal.partition,
        seal.number,
        seal.form,
        seal.from_offset,
        seal.next_offset,
        previous.hex(),
    )
    return hashlib.sha256(msgspec.json.encode(head) + seal.digests).digest()


def new_seal(last: Seal | None, partition: int, next_offset: int, digests: Iterable[bytes]) -> Seal:
    """Return the seal that continues a partition's last one up to an offset, not included.

    `last` is None for the first seal.
    """
    number = last.number + 1 if last else 1
    begin = last.next_offset if last else 0
    seal = Seal(partition, number, FORM, begin, next_offset, b"".join(digests), b"")
    previous = last.hash if last else GENESIS_HASH
    return msgspec.structs.replace(seal, hash=seal_hash(seal, previous))


def sign_checkpoint(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> SignedCheckpoint:
    """Return a checkpoint in the form in which it is stored elsewhere."""
    body = msgspec.json.encode(checkpoint)
    return SignedCheckpoint(body.decode(), key.sign(body).hex())


def is_signature_valid(signed: SignedCheckpoint, key: Ed25519PublicKey) -> bool:
    """Return whether the holder of the private key has signed exactly this checkpoint."""
    try:
        key.verify(bytes.fromhex(signed.signature), signed.checkpoint.encode())
    except (ValueError, InvalidSignature):
        return False
    return True


def load_private_key(pem: bytes) -> Ed25519PrivateKey:
    """Return a key to sign with.

    Raises UsageError for anything but an unencrypted Ed25519 key in PEM.
    """
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(
            "the file does not hold an unencrypted Ed25519 private key in PEM:"
            " `pitboss ledger seal --new-key FILE` makes one"
        )
    return key


def load_public_key(pem: bytes) -> Ed25519PublicKey:
    """Return a key to verify with. Raises UsageError for anything but an Ed25519 key in PEM."""
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(
            "the file does not hold an Ed25519 public key in PEM:"
            " `pitboss ledger seal --new-key FILE` wrote FILE.pub"
        )
    return key
