"""`pitboss ledger seal` and `verify`: tamper evidence for the ledger's rows, and its check."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import click
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger_sink.proof.sealing import SealFault, find_seal_faults, has_booked
from ledger_sink.proof.seals import (
    SignedCheckpoint,
    is_signature_valid,
    load_private_key,
    load_public_key,
)
from ledger_sink.store.database import LedgerDatabase
from pitboss.cli.ledger_queries import json_option, print_json
from pitboss.cli.option_types import FiniteFloat
from pitboss.cli.progress import StepProgress
from pitboss.embedded.state import resolve_runtime
from pitboss.settings import Runtime, read_settings
from replay.audit.checks import Check, check_tables
from runtime.postgres.roles import Role
from schemas.errors import UsageError
from schemas.topics import TRANSACTIONS

_CHECKING_MAX_S = 24 * 3600.0


@click.command()
@click.option(
    "--key",
    "key_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Private key, PEM.",
)
@click.option(
    "--new-key", type=click.Path(path_type=Path), help="Only make a key pair: FILE and FILE.pub."
)
@click.option(
    "--file",
    "checkpoints",
    type=click.Path(path_type=Path),
    help="Append the checkpoint here as well.",
)
@click.option(
    "--every-s", type=FiniteFloat(min=0.1), help="Repeat every so many seconds, until Ctrl-C."
)
@json_option
def seal(
    *,
    key_file: Path | None,
    new_key: Path | None,
    checkpoints: Path | None,
    every_s: float | None,
    as_json: bool,
) -> None:
    """Seal the booked rows; publish a signed checkpoint to audit.checkpoints.v1 and to a file.

    KEY.last, beside the key, keeps the last one: a topic that went back is not continued.
    """
    from pitboss.ops.checkpoints import (
        connect,
        remembered_file,
        seal_and_publish,
        write_key_pair,
    )

    if new_key is not None:
        click.echo(
            f"public key: {write_key_pair(new_key)};"
            f" keep {new_key} out of the reach of the database's owner"
        )
        return
    if key_file is None:
        raise UsageError("name the key to sign with: --key FILE; --new-key FILE makes one")
    key = load_private_key(key_file.read_bytes())
    runtime = resolve_runtime(read_settings())
    with connect(runtime, read_only=False) as connection:
        while True:
            made, signed = asyncio.run(
                seal_and_publish(runtime, connection, key, checkpoints, remembered_file(key_file))
            )
            number = signed.content().number if signed else None
            rows = sum(one.rows for one in made)
            if as_json:
                print_json({"seals": len(made), "rows": rows, "checkpoint": number})
            elif made or every_s is None:
                click.echo(
                    f"{rows} rows sealed"
                    + (f", checkpoint {number}" if signed else ", nothing new to sign")
                )
            if every_s is None:
                return
            time.sleep(every_s)


@click.command()
@click.option(
    "--public-key",
    "key_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Public key of the signer; without it the seals themselves are not proved.",
)
@click.option(
    "--file",
    "checkpoints",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Check the checkpoints of this file, not those on the topic.",
)
@click.option(
    "--at-least",
    default=0,
    type=click.IntRange(0),
    help="Checkpoints that there must be: the number of the last one that you have seen.",
)
@click.option(
    "--unsealed-max-s",
    default=300.0,
    show_default=True,
    type=FiniteFloat(0),
    help="Seconds for which a row may be booked and under no checkpoint.",
)
@json_option
def verify(
    *,
    key_file: Path | None,
    checkpoints: Path | None,
    at_least: int,
    unsealed_max_s: float,
    as_json: bool,
) -> None:
    """Check seals, checkpoints, sums, versions and positions; name each partition's first bad row.

    Changes nothing: its session is read-only. Exit code 1 if there is a fault, 3 if nothing is
    sealed. With --public-key it is a fault as well where checkpoints are missing or too old.
    """
    runtime = resolve_runtime(read_settings())
    key = load_public_key(key_file.read_bytes()) if key_file else None
    older_than_ms = int((time.time() - unsealed_max_s) * 1000)
    expected = ExpectedCheckpoints(key, checkpoints, at_least, older_than_ms)
    with StepProgress() as progress:
        found = asyncio.run(_verify(runtime, expected, progress))
    state = _state_of(found, has_key=key is not None)
    if as_json:
        print_json(
            {
                "state": state,
                "holds": state in ("AS_BOOKED", "AS_SEALED"),
                "faults": msgspec.to_builtins(found.faults),
                "looked_at": found.looked_at,
            }
        )
    else:
        for line in found.looked_at:
            click.echo(f"looked at: {line}", err=True)
        for fault in found.faults:
            click.echo(f"{fault.where}: {fault.what}")
        if not found.faults:
            click.echo(_SENTENCES[state])
    if state in _EXIT_CODES:
        raise SystemExit(_EXIT_CODES[state])


_SENTENCES: Final = {
    "AS_BOOKED": "every row is as it was booked",
    "AS_SEALED": "every row is as it was sealed; only --public-key shows whether the seals are the "
    "sealer's own",
    "NOT_SEALED": "not sealed: sums, versions and positions agree, and nothing shows whether a row "
    "was changed; `pitboss ledger seal` seals the ledger",
}
_EXIT_CODES: Final = {"FAULTS": 1, "NOT_SEALED": 3}


class ExpectedCheckpoints(NamedTuple):
    """The sealer's key, where its checkpoints are read, and what they must prove."""

    key: Ed25519PublicKey | None
    file: Path | None
    at_least: int
    older_than_ms: int


class Verification(NamedTuple):
    """The faults, what was looked at as lines of text, and whether rows are booked and sealed."""

    faults: list[SealFault]
    looked_at: list[str]
    is_sealed: bool


def _state_of(found: Verification, *, has_key: bool) -> str:
    if found.faults:
        return "FAULTS"
    if not found.is_sealed:
        return "NOT_SEALED"
    return "AS_BOOKED" if has_key else "AS_SEALED"


async def _verify(
    runtime: Runtime, expected: ExpectedCheckpoints, progress: StepProgress
) -> Verification:
    """Compare the ledger with its seals and checkpoints, and its tables with each other."""
    from pitboss.ops.checkpoints import (
        find_forgeries,
        read_checkpoint_file,
        read_published_checkpoints,
    )

    faults: list[SealFault] = []
    known: list[SignedCheckpoint] = []
    if expected.key is not None:
        known = (
            read_checkpoint_file(expected.file)
            if expected.file
            else await read_published_checkpoints(runtime)
        )
        faults += [SealFault("checkpoints", wrong) for wrong in find_forgeries(known, expected.key)]
    with progress.wait("checking the seals"):
        seal_faults, sealed, is_sealed = _check_seals(runtime, known, expected)
    with progress.wait("checking sums, versions and positions"):
        checks = await _check_tables(runtime)
    faults += seal_faults
    faults += [SealFault(check.name, check.detail) for check in checks if not check.holds]
    looked_at = [sealed, f"{len(known)} checkpoints", f"{checks[0].detail}"]
    return Verification(faults, looked_at, is_sealed)


def _check_seals(
    runtime: Runtime, known: Sequence[SignedCheckpoint], expected: ExpectedCheckpoints
) -> tuple[list[SealFault], str, bool]:
    """Return the faults, what was looked at, and whether what is booked is sealed at all."""
    from pitboss.ops.checkpoints import connect, find_gaps

    topic, key = runtime.topic(TRANSACTIONS), expected.key
    with connect(runtime, read_only=True) as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        contents = [signed.content() for signed in known]
        faults = list(find_seal_faults(connection, topic, contents))
        # Checkpoints of another key are named as such already.
        if key is not None and (not known or any(is_signature_valid(one, key) for one in known)):
            ours = [signed for signed in known if is_signature_valid(signed, key)]
            limits = {"at_least": expected.at_least, "older_than_ms": expected.older_than_ms}
            faults += find_gaps(connection, topic, ours, **limits)
        is_booked = has_booked(connection, topic)
        [(seals, sealed)] = connection.execute(
            "SELECT count(*), coalesce(sum(length(digests) / 16), 0) FROM seal"
        ).fetchall()
    return faults, f"{sealed} rows under {seals} seals", bool(seals) or not is_booked


async def _check_tables(runtime: Runtime) -> Sequence[Check]:
    database = LedgerDatabase(
        runtime.database_url, "pitboss.audit", role=Role.AUDITOR, silence_max_s=_CHECKING_MAX_S
    )
    try:
        return await check_tables(database)
    finally:
        await database.close()
