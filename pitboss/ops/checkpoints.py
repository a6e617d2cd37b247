"""Signed checkpoints of the ledger's last seals, kept outside the reach of the database's owner."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from ledger_sink.proof.sealing import Connection, cluster_of, last_seals, seal_partitions
from ledger_sink.proof.seals import (
    Checkpoint,
    Seal,
    SignedCheckpoint,
    is_signature_valid,
    sign_checkpoint,
)
from pitboss.settings import Runtime
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.kafka.topic_reader import read_topics
from runtime.postgres.roles import Role, session_options, take_role_sync
from schemas.errors import Unavailable, UsageError
from schemas.topics import CHECKPOINTS, TRANSACTIONS


def connect(runtime: Runtime, *, read_only: bool) -> Connection:
    """Open a session of the ledger's database; a read-only one can change nothing.

    Raises Unavailable, RightsMissing.
    """
    role = Role.AUDITOR if read_only else Role.WRITER
    try:
        connection = psycopg.connect(
            runtime.database_url,
            autocommit=True,
            application_name="pitboss.audit",
            options=session_options(role),
        )
        return take_role_sync(connection, role)
    except psycopg.OperationalError as error:
        raise Unavailable(f"the ledger's database does not answer: {error}") from error


def write_key_pair(path: Path) -> Path:
    """Make an Ed25519 key pair and return the path of the public key, which is `path` plus `.pub`.

    The private key in `path` is readable by its owner only. Raises UsageError if either file
    exists: overwriting a key would end the chain of checkpoints that it signed.
    """
    key = Ed25519PrivateKey.generate()
    public = path.with_name(path.name + ".pub")
    if public.exists():
        raise UsageError(f"{public} exists: choose another name")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(f"{path} exists: choose another name") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return public


async def seal_and_publish(
    runtime: Runtime,
    connection: Connection,
    key: Ed25519PrivateKey,
    file: Path | None,
    now: datetime | None = None,
) -> tuple[list[Seal], SignedCheckpoint | None]:
    """Seal the booked rows and publish a signed checkpoint; None if no seal is new.

    Returns the seals that were made and the checkpoint. With `file` the checkpoint is appended
    there first. Raises Unavailable, SendFailed.
    """
    made = seal_partitions(connection, runtime.topic(TRANSACTIONS))
    earlier = await read_published_checkpoints(runtime)
    last = earlier[-1] if earlier else None
    seals = last_seals(connection)
    if not seals or (last is not None and last.content().seals == seals):
        return made, None
    at = (now or datetime.now(UTC)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    number, previous = (last.content().number + 1, last.digest) if last else (1, "")
    signed = sign_checkpoint(
        Checkpoint(number, at, cluster_of(connection), runtime.database, previous, seals), key
    )
    line = msgspec.json.encode(signed)
    if file is not None:
        with file.open("ab") as lines:
            lines.write(line + b"\n")
            lines.flush()
            os.fsync(lines.fileno())
    producer = BatchProducer(ProducerSettings(runtime.bootstrap_servers, "pitboss.audit"))
    async with producer:
        await producer.send_keyed(
            runtime.topic(CHECKPOINTS), [(runtime.database.encode(), line, (), None)]
        )
    return made, signed


async def read_published_checkpoints(runtime: Runtime) -> list[SignedCheckpoint]:
    """Return this ledger's checkpoints from their topic, oldest first.

    Raises Unavailable, UsageError.
    """
    return [
        _read(record.value, f"{record.topic}-{record.partition}@{record.offset}")
        async for record in read_topics(runtime.bootstrap_servers, [runtime.topic(CHECKPOINTS)])
        if record.key == runtime.database.encode() and record.value is not None
    ]


def read_checkpoint_file(file: Path) -> list[SignedCheckpoint]:
    """Return the checkpoints of a file, in its order.

    Raises UsageError for a line that is not a checkpoint.
    """
    lines = file.read_bytes().splitlines()
    return [_read(line, f"{file} line {number}") for number, line in enumerate(lines, 1) if line]


def _read(line: bytes, where: str) -> SignedCheckpoint:
    try:
        signed = msgspec.json.decode(line, type=SignedCheckpoint)
        signed.content()
    except msgspec.DecodeError as error:
        raise UsageError(f"{where} does not hold a checkpoint: {error}") from error
    return signed


def find_forgeries(checkpoints: Sequence[SignedCheckpoint], key: Ed25519PublicKey) -> list[str]:
    """Return what is wrong with checkpoints: not signed by the key, or not the next one."""
    wrong = []
    for before, signed in zip((None, *checkpoints), checkpoints, strict=False):
        content = signed.content()
        name = f"checkpoint {content.number} of {content.at}"
        if not is_signature_valid(signed, key):
            wrong.append(f"{name} is not signed by this key")
        elif (content.number, content.previous) != (
            (before.content().number + 1, before.digest) if before else (1, "")
        ):
            wrong.append(
                f"{name} does not continue the one before it: one is missing, or was put there"
            )
    return wrong
