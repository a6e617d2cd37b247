"""Drill of docs/howto/restore.md with a lost broker and no mirror: a new log begins with every balance."""

from __future__ import annotations

import json

import psycopg
import pytest
from msgspec.structs import replace

from ledger_sink.proof.seals import SignedCheckpoint, is_signature_valid, load_public_key
from pitboss.embedded.databases import create_database, drop_database
from pitboss.ops.checkpoints import read_published_checkpoints, write_key_pair
from pitboss.ops.topic_admin import create_topics
from replay.log.broker import BrokerLog
from schemas import codec
from schemas.events import WalletTransaction
from schemas.topics import TRANSACTIONS
from tests.faults.ledger_scene import PARTITIONS, PROVIDERS, Scene, new_scene
from tests.faults.test_rebind_drills import run_to_the_end, scene
from tests.faults.test_restore_drills import command, phase_events, play
from tests.support.mirror import lose_broker
from tests.support.restore_points import booked_meaning, booked_rows

__all__ = ["scene"]

pytestmark = [
    pytest.mark.integration,
    pytest.mark.faults,
    pytest.mark.prove,
    pytest.mark.timeout(900),
]

OPENING = "balance.opened"


def retried(phase: int, count: int) -> list[WalletTransaction]:
    """Calls that were answered before, sent again: further attempts of the same events."""
    events, _ = phase_events(phase, count)
    return [
        replace(one, attempt=replace(one.attempt, offset=one.attempt.offset + 1_000_000))
        for one in events
    ]


async def go_on(scene: Scene, phases: int) -> None:
    await scene.append(retried(1, 80))
    await play(scene, phases, 80)
    await run_to_the_end(scene, phases)


def log_of(runtime) -> list[WalletTransaction]:
    decode, log = codec.decoder(WalletTransaction), runtime.topic(TRANSACTIONS)
    with BrokerLog(runtime.broker) as source:
        return [
            decode(value or b"")
            for partition, bounds in source.bounds(log).items()
            for block in source.read(log, partition, *bounds)
            for value in block.values
        ]


def without_openings(booked: dict[str, list[str]]) -> dict[str, list[str]]:
    return {table: [row for row in rows if OPENING not in row] for table, rows in booked.items()}


async def test_a_ledger_goes_on_to_the_cent_behind_opening_balances(scene, private_stack, tmp_path):
    runtime = scene.runtime
    await play(scene, 1, 80)
    await run_to_the_end(scene, 1)
    seal_key, keys, kept = tmp_path / "seal", tmp_path / "keys.json", tmp_path / "kept"
    public = load_public_key(write_key_pair(seal_key).read_bytes())
    keys.write_text(json.dumps({"house": {"hmac_hex": "ab" * 32}}))
    keys.chmod(0o600)
    await command(runtime, "seal", "--key", str(seal_key), "--file", str(kept))
    before = booked_rows(runtime)
    await lose_broker(private_stack)
    await create_topics(
        runtime.broker, runtime.namespace, PROVIDERS, PARTITIONS, raw_partitions=PARTITIONS
    )
    proof = ("--seal-key", str(seal_key), "--checkpoints", str(kept))
    way = ("rebind", "--opening-balances", *proof, "--by", "ann", "--reason", "the broker is lost")
    signing = {"PITBOSS_KEYS_FILE": str(keys)}
    assert "no key of house" in await command(runtime, *way, code=2)
    with psycopg.connect(runtime.database_url) as connection:
        connection.execute(CHANGE, {"by": 100})
    assert "NOT_AS_SEALED" in await command(runtime, *way, code=2, settings=signing)
    with psycopg.connect(runtime.database_url) as connection:
        connection.execute(CHANGE, {"by": -100})
    dry = await command(runtime, *way, "--dry-run", settings=signing)
    assert log_of(runtime) == []
    found = await command(runtime, *way, settings=signing)
    assert booked_rows(runtime) == before
    assert dry["opening"]["wallets"] == found["opening"]["wallets"] == len(before["wallet"]) > 0
    check_proof(runtime, found["opening"], public, await read_published_checkpoints(runtime))
    # The normaliser reads the same records again: attempts that the ledger knows.
    await scene.append(log_of(runtime))
    await go_on(scene, 2)
    assert scene.rows(
        "SELECT outcome, reason, count(*)::int FROM entry WHERE operation = 'balance.opened'"
        " GROUP BY 1, 2"
    ) == [("INFORMATIONAL", "BALANCE_CONFIRMED", len(before["wallet"]))]
    assert without_openings(booked_meaning(runtime)) == await undisturbed_run(scene, private_stack)
    await command(runtime, "seal", "--key", str(seal_key))
    verified = await command(runtime, "verify", "--public-key", f"{seal_key}.pub")
    assert verified["holds"] is True


CHANGE = """
    UPDATE transfer SET amount_minor = amount_minor + %(by)s
     WHERE (player_id, version) = (SELECT player_id, version FROM transfer
                                    WHERE player_id IS NOT NULL ORDER BY player_id, version LIMIT 1)
"""


def check_proof(runtime, opening, public, checkpoints: list[SignedCheckpoint]) -> None:
    """Each balance of the log is signed and names the checkpoint, whose seals are those of the rows."""
    [signed] = checkpoints
    assert is_signature_valid(signed, public)
    assert signed.digest == opening["digest"]
    with psycopg.connect(runtime.database_url) as connection:
        last = connection.execute(
            "SELECT DISTINCT ON (part) part, number, next_offset, encode(hash, 'hex') FROM seal"
            " ORDER BY part, number DESC"
        ).fetchall()
        wallets = connection.execute(
            "SELECT player_id, currency, cash_minor, bonus_minor, held_minor FROM wallet ORDER BY 1"
        ).fetchall()
    assert [
        (one.partition, one.number, one.next_offset, one.hash) for one in signed.content().seals
    ] == last
    events = log_of(runtime)
    assert {(one.operation, one.signature, one.cause and one.cause.id) for one in events} == {
        (OPENING, "VALID", signed.digest)
    }
    stated = [
        (
            one.player_id,
            one.legs[0].currency,
            *(leg.amount and leg.amount.unscaled for leg in one.legs),
        )
        for one in events
    ]
    assert sorted(stated) == wallets


async def undisturbed_run(scene, stack):
    other = stack.runtime(f"{scene.runtime.namespace}_u")
    create_database(other)
    calm = await new_scene(other, scene.folder)
    await play(calm, 1, 80)
    await run_to_the_end(calm, 1)
    await go_on(calm, 2)
    booked = booked_meaning(other)
    drop_database(other)
    return booked
