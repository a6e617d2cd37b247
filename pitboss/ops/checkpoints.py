"""Checkpoints: made from the ledger's last seals, signed, and put where the owner of the database
does not reach.
"""

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
    """A session of the ledger's database; a read-only one can change nothing.

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
    """Make an Ed25519 key pair: the private key in `path`, readable by its owner only, the public
    one beside it.

    Raises UsageError where a file is already there: a key that is lost ends the chain of what it
    signed.
    """
    key = Ed25519PrivateKey.generate()
    public = path.with_name(path.name + ".pub")
    if public.exists():
        raise UsageError(f"{public} is there already: choose another name")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(f"{path} is there already: choose another name") from None
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
    """Seal what is booked; publish a checkpoint of it, None where nothing was new.

    Raises Unavailable, SendFailed.
    """
    made = seal_partitions(connection, runtime.topic(TRANSACTIONS))
    told = await read_published_checkpoints(runtime)
    last = told[-1] if told else None
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
    """The checkpoints of this ledger on their topic, in its order.

    Raises Unavailable, UsageError.
    """
    return [
        _read(record.value, f"{record.topic}-{record.partition}@{record.offset}")
        async for record in read_topics(runtime.bootstrap_servers, [runtime.topic(CHECKPOINTS)])
        if record.key == runtime.database.encode() and record.value is not None
    ]


def read_checkpoint_file(file: Path) -> list[SignedCheckpoint]:
    """The checkpoints of a file, in its order. Raises UsageError for a line that is none."""
    lines = file.read_bytes().splitlines()
    return [_read(line, f"{file} line {number}") for number, line in enumerate(lines, 1) if line]


def _read(line: bytes, where: str) -> SignedCheckpoint:
    try:
        signed = msgspec.json.decode(line, type=SignedCheckpoint)
        signed.content()
    except msgspec.DecodeError as error:
        raise UsageError(f"{where} holds no checkpoint: {error}") from error
    return signed


def find_forgeries(told: Sequence[SignedCheckpoint], key: Ed25519PublicKey) -> list[str]:
    """Why some checkpoints are not to be believed: not signed by the key, or not the next of the
    one before.
    """
    wrong = []
    for before, signed in zip((None, *told), told, strict=False):
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
