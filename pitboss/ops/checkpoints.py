"""Signed checkpoints of the ledger's last seals, kept outside the reach of the database's owner."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import msgspec
import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from ledger_sink.proof.sealing import (
    Connection,
    SealFault,
    cluster_of,
    find_lost_seals,
    find_unsealed,
    has_booked,
    last_seals,
    seal_partitions,
)
from ledger_sink.proof.seals import (
    Checkpoint,
    Seal,
    SignedCheckpoint,
    is_signature_valid,
    sign_checkpoint,
)
from pitboss.settings import Runtime
from runtime.connection_faults import unreachable_database
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.kafka.topic_reader import read_topics
from runtime.postgres.roles import Role, session_options, take_role_sync
from schemas.errors import Fatal, UsageError
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
        raise unreachable_database("the ledger's database", error) from error


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


class CheckpointsWentBack(Fatal):
    """What this sealer has published is not there any more, or the seals are not those it named."""

    code: ClassVar[str] = "CHECKPOINTS_WENT_BACK"


def remembered_file(key_file: Path) -> Path:
    """Return where a sealer keeps its last checkpoints: beside its key, out of others' reach."""
    return key_file.with_name(f"{key_file.name}.last")


async def seal_and_publish(
    runtime: Runtime,
    connection: Connection,
    key: Ed25519PrivateKey,
    file: Path | None,
    remembered: Path,
    now: datetime | None = None,
) -> tuple[list[Seal], SignedCheckpoint | None]:
    """Seal the booked rows and publish a signed checkpoint; None if no seal is new.

    Returns the seals that were made and the checkpoint. With `file` the checkpoint is appended
    there first. `remembered` keeps the digest of the last one, so that a topic that went back is
    not continued. Raises CheckpointsWentBack, Unavailable, SendFailed.
    """
    ledger = f"{cluster_of(connection)}/{runtime.database}"
    last = _last_of_ours(await read_published_checkpoints(runtime), key, ledger, remembered)
    made = seal_partitions(connection, runtime.topic(TRANSACTIONS))
    if last is not None and (lost := find_lost_seals(connection, last.content().seals)):
        number = last.content().number
        raise CheckpointsWentBack(
            f"checkpoint {number} names seals that the database does not have: {lost[0]};"
            " nothing was signed. `pitboss ledger verify` shows what was changed"
        )
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
    await _publish(runtime, signed, remembered)
    return made, signed


async def publish(runtime: Runtime, signed: SignedCheckpoint, key_file: Path) -> None:
    """Publish a checkpoint that was signed with a key. Raises SendFailed, Unavailable."""
    await _publish(runtime, signed, remembered_file(key_file))


async def _publish(runtime: Runtime, signed: SignedCheckpoint, remembered: Path) -> None:
    line = msgspec.json.encode(signed)
    producer = BatchProducer(ProducerSettings(runtime.broker, "pitboss.audit"))
    async with producer:
        await producer.send_keyed(
            runtime.topic(CHECKPOINTS), [(runtime.database.encode(), line, (), None)]
        )
    # Not before: a sealer that ends in between finds its checkpoint on the topic.
    _remember(remembered, f"{signed.content().cluster_id}/{runtime.database}", signed.digest)


def _last_of_ours(
    published: Sequence[SignedCheckpoint], key: Ed25519PrivateKey, ledger: str, remembered: Path
) -> SignedCheckpoint | None:
    """Return the checkpoint to continue: the last that this key has signed.

    Records of others on the topic are passed over. Raises CheckpointsWentBack where the chain is
    broken, or does not hold the one that is remembered.
    """
    public = key.public_key()
    ours = [signed for signed in published if is_signature_valid(signed, public)]
    if broken := find_forgeries(ours, public):
        raise CheckpointsWentBack(f"{broken[0]}; nothing was signed")
    digest = _read_remembered(remembered).get(ledger)
    if digest is not None and digest not in {signed.digest for signed in ours}:
        raise CheckpointsWentBack(
            f"the last checkpoint of this sealer (digest {digest[:16]}, kept in {remembered}) is"
            f" not on the topic, which has {len(ours)} of this key: it was emptied or set back."
            " Nothing was signed: find out who did it; only a new key begins a new chain"
        )
    if published and not ours:
        raise CheckpointsWentBack(
            f"the topic's {len(published)} checkpoints are signed by another key; nothing was"
            " signed: seal with that key, or take the topic to the archive and begin a new one"
        )
    return ours[-1] if ours else None


def _read_remembered(file: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return {}
    except msgspec.DecodeError as error:
        raise UsageError(f"{file} does not hold the sealer's last checkpoints: {error}") from error


def _remember(file: Path, ledger: str, digest: str) -> None:
    """Replace the file, whole or not at all."""
    content = msgspec.json.encode(_read_remembered(file) | {ledger: digest})
    beside = file.with_name(f"{file.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as written:
        written.write(content)
        written.flush()
        os.fsync(written.fileno())
    beside.replace(file)


async def read_published_checkpoints(runtime: Runtime) -> list[SignedCheckpoint]:
    """Return this ledger's checkpoints from their topic, oldest first.

    Raises Unavailable, UsageError.
    """
    return [
        _read(record.value, f"{record.topic}-{record.partition}@{record.offset}")
        async for record in read_topics(runtime.broker, [runtime.topic(CHECKPOINTS)])
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
    """Return what is wrong with checkpoints: not signed by the key, or not the next one.

    One that is not signed says nothing about the others, so they are not held against it.
    """
    wrong = []
    before: SignedCheckpoint | None = None
    for signed in checkpoints:
        content = signed.content()
        name = f"checkpoint {content.number} of {content.at}"
        if not is_signature_valid(signed, key):
            wrong.append(f"{name} is not signed by this key")
            continue
        if (content.number, content.previous) != (
            (before.content().number + 1, before.digest) if before else (1, "")
        ):
            wrong.append(
                f"{name} does not continue the one before it: one is missing, or was put there"
            )
        before = signed
    return wrong


def find_gaps(
    connection: Connection,
    topic: str,
    signed: Sequence[SignedCheckpoint],
    *,
    at_least: int,
    older_than_ms: int,
) -> list[SealFault]:
    """Return what the checkpoints of a ledger do not prove: too few of them, or rows without one.

    `signed` are those of the sealer's key, `at_least` how many of them there must be, and
    `older_than_ms` the time from which on rows may still be without a checkpoint.
    """
    if not has_booked(connection, topic):
        return []
    if not signed:
        return [SealFault("checkpoints", "no checkpoint of this ledger by this key was found")]
    count, faults = signed[-1].content().number, []
    if count < at_least:
        plural = "s" if count > 1 else ""
        what = f"{count} checkpoint{plural}, at least {at_least} were expected"
        faults.append(SealFault("checkpoints", what))
    references = signed[-1].content().seals
    return [*faults, *find_unsealed(connection, topic, references, older_than_ms)]
