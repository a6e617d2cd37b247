"""`pitboss ledger seal` and `verify`: tamper evidence for the ledger's rows, and its check."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger_sink.proof.sealing import SealFault, find_seal_faults
from ledger_sink.proof.seals import SignedCheckpoint, load_private_key, load_public_key
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
    """Seal the booked rows; publish a signed checkpoint to audit.checkpoints.v1 and to a file."""
    from pitboss.ops.checkpoints import connect, seal_and_publish, write_key_pair

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
            made, signed = asyncio.run(seal_and_publish(runtime, connection, key, checkpoints))
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
    help="Public key of the signer; without it checkpoints are not checked.",
)
@click.option(
    "--file",
    "checkpoints",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Check the checkpoints of this file, not those on the topic.",
)
@json_option
def verify(*, key_file: Path | None, checkpoints: Path | None, as_json: bool) -> None:
    """Check seals, checkpoints, sums, versions and positions; name each partition's first bad row.

    Changes nothing: its session is read-only. Exit code 1 if there is a fault.
    """
    runtime = resolve_runtime(read_settings())
    key = load_public_key(key_file.read_bytes()) if key_file else None
    with StepProgress() as progress:
        faults, looked_at = asyncio.run(_verify(runtime, key, checkpoints, progress))
    if as_json:
        print_json(
            {"holds": not faults, "faults": msgspec.to_builtins(faults), "looked_at": looked_at}
        )
    else:
        for line in looked_at:
            click.echo(f"looked at: {line}", err=True)
        for fault in faults:
            click.echo(f"{fault.where}: {fault.what}")
        if not faults:
            click.echo("every row is as it was booked")
    if faults:
        raise SystemExit(1)


async def _verify(
    runtime: Runtime,
    key: Ed25519PublicKey | None,
    checkpoints: Path | None,
    progress: StepProgress,
) -> tuple[list[SealFault], list[str]]:
    """Return the faults, and what was looked at as lines of text."""
    from pitboss.ops.checkpoints import (
        find_forgeries,
        read_checkpoint_file,
        read_published_checkpoints,
    )

    faults: list[SealFault] = []
    known: list[SignedCheckpoint] = []
    if key is not None:
        known = (
            read_checkpoint_file(checkpoints)
            if checkpoints
            else await read_published_checkpoints(runtime)
        )
        faults += [SealFault("checkpoints", wrong) for wrong in find_forgeries(known, key)]
    with progress.wait("checking the seals"):
        seal_faults, sealed = _check_seals(runtime, known)
    with progress.wait("checking sums, versions and positions"):
        checks = await _check_tables(runtime)
    faults += seal_faults
    faults += [SealFault(check.name, check.detail) for check in checks if not check.holds]
    return faults, [sealed, f"{len(known)} checkpoints", f"{checks[0].detail}"]


def _check_seals(
    runtime: Runtime, known: Sequence[SignedCheckpoint]
) -> tuple[list[SealFault], str]:
    from pitboss.ops.checkpoints import connect

    with connect(runtime, read_only=True) as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        contents = [signed.content() for signed in known]
        faults = list(find_seal_faults(connection, runtime.topic(TRANSACTIONS), contents))
        [(seals, sealed)] = connection.execute(
            "SELECT count(*), coalesce(sum(length(digests) / 16), 0) FROM seal"
        ).fetchall()
    return faults, f"{sealed} rows under {seals} seals"


async def _check_tables(runtime: Runtime) -> Sequence[Check]:
    database = LedgerDatabase(
        runtime.database_url, "pitboss.audit", role=Role.AUDITOR, silence_max_s=_CHECKING_MAX_S
    )
    try:
        return await check_tables(database)
    finally:
        await database.close()


AUDIT: tuple[click.Command, ...] = (seal, verify)
