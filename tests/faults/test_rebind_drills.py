"""Drills of docs/howto/restore.md with a lost broker: the ledger goes on from a mirror with other offsets."""

from __future__ import annotations

import json

import pytest

from pitboss.embedded.databases import create_database, drop_database
from pitboss.ops.checkpoints import write_key_pair
from pitboss.ops.topic_admin import create_topics
from replay.log.broker import BrokerLog
from runtime.kafka.group_admin import GroupAdmin
from runtime.kafka.partitioner import partition_for
from schemas.topics import BALANCES, OUTCOMES, TRANSACTIONS, UNRESOLVED, raw_topic
from streams.normalise.handler import NAME as NORMALISE
from tests.faults.ledger_scene import PARTITIONS, PROVIDERS, new_scene, traffic
from tests.faults.test_restore_drills import command, play, settle
from tests.support.dead_letter_scene import append as append_raw
from tests.support.dead_letter_scene import hub88, run_normaliser
from tests.support.mirror import Mirror, lose_broker
from tests.support.restore_points import (
    booked_meaning,
    booked_rows,
    given_answers,
    restore_backup,
    take_backup,
)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.faults,
    pytest.mark.prove,
    pytest.mark.timeout(900),
]

TOPICS = (TRANSACTIONS, UNRESOLVED, OUTCOMES, BALANCES)
WHO = ("--by", "ann")
HIGHER = partition_for(b"p-0", PARTITIONS)
LOWER = next(
    number
    for number in (partition_for(f"p-{n}".encode(), PARTITIONS) for n in range(1, 12))
    if number != HIGHER
)
"""Partitions whose offsets are higher and lower in the mirror."""
LATER = 10
"""Records of the lower one that the mirror never had: they were deleted before it began."""


@pytest.fixture
async def scene(private_stack, namespace, tmp_path):
    runtime = private_stack.runtime(namespace)
    create_database(runtime)
    scene = await new_scene(runtime, tmp_path)
    yield scene
    drop_database(runtime)


async def new_broker(scene, stack, mirror: Mirror) -> None:
    """A broker of another cluster with a mirror, whose offsets are others."""
    runtime = scene.runtime
    await lose_broker(stack)
    await create_topics(
        runtime.broker, runtime.namespace, PROVIDERS, PARTITIONS, raw_partitions=PARTITIONS
    )
    log = runtime.topic(TRANSACTIONS)
    padding = {(log, HIGHER): 700, (runtime.topic(UNRESOLVED), 0): 40}
    mirror.since(log, LOWER, LATER).copy_to(runtime, padding)


async def run_to_the_end(scene, phases: int) -> None:
    with scene.worker("ledger-1") as ledger, scene.worker("resolve-1", role="resolve") as resolve:
        await settle(scene, phases, (ledger, resolve))
        for process in (ledger, resolve):
            process.terminate()
            assert await scene.ended(process) == 0, scene.logs()


async def test_a_broker_is_lost_and_the_ledger_is_bound_to_a_mirror(scene, private_stack):
    runtime = scene.runtime
    await play(scene, 1, 80)
    await run_to_the_end(scene, 1)
    before = booked_rows(runtime)
    await play(scene, 2, 80)  # in the log and the mirror, and not booked yet
    mirror = Mirror.take(runtime, TOPICS)
    await new_broker(scene, private_stack, mirror)
    refused = await command(runtime, "recover", "--to-log", *WHO, code=2)
    assert "OTHER_CLUSTER" in refused
    dry = await command(runtime, "rebind", *WHO, "--dry-run")
    found = await command(runtime, "rebind", *WHO)
    assert booked_rows(runtime) == before
    bound = {(one["topic"], one["partition"]): one for one in found["partitions"]}
    first, second = (bound[runtime.topic(TRANSACTIONS), number] for number in (HIGHER, LOWER))
    assert first["position"] == first["mirrored"] == first["booked"] + 701
    assert second["mirrored"] == second["booked"] - LATER
    assert second["position"] >= second["booked"]
    assert [one["mirrored"] for one in dry["partitions"]] == [
        one["mirrored"] for one in found["partitions"]
    ]
    assert "SAME_CLUSTER" in await command(runtime, "rebind", *WHO, code=2)
    done = await command(runtime, "recover", "--to-log", *WHO)
    assert (done["finished"], done["outcomes"]["differing"]) == (True, 0)
    assert done["events"] > 80
    await play(scene, 3, 80)
    await run_to_the_end(scene, 3)
    undisturbed, given = await undisturbed_run(scene, private_stack)
    assert booked_meaning(runtime) == undisturbed
    assert given_answers(runtime) == given


async def test_what_is_in_the_way_of_a_binding_changes_nothing_and_the_normaliser_goes_on_behind_it(
    scene, private_stack, tmp_path
):
    """Without its offsets it would make attempts of answered calls once more, under other places."""
    runtime, raw = scene.runtime, scene.runtime.topic(raw_topic("hub88"))
    seal_key, keys = tmp_path / "seal", tmp_path / "keys.json"
    write_key_pair(seal_key)
    keys.write_text(json.dumps({"house": {"hmac_hex": "ab" * 32}}))
    keys.chmod(0o600)
    await play(scene, 1, 80)
    await run_to_the_end(scene, 1)
    await command(runtime, "seal", "--key", str(seal_key))
    before = booked_rows(runtime)
    await new_broker(scene, private_stack, Mirror.take(runtime, TOPICS))
    opening = ("rebind", "--opening-balances", "--seal-key", str(seal_key), "--reason", "lost")
    refused = await command(
        runtime, *opening, *WHO, code=2, settings={"PITBOSS_KEYS_FILE": str(keys)}
    )
    assert "NOT_EMPTY" in refused, "a mirror is no empty log"
    [place] = await append_raw(runtime, [hub88("bet", "answered before", "p-1")])
    assert place == f"{raw}-1@0"
    for more in ("--dry-run",), ():
        refused = await command(runtime, "rebind", *WHO, *more, code=2)
        assert f"RAW_OFFSETS_MISSING: the group {runtime.group(NORMALISE)} has no" in refused
        assert f"{raw}-1 on this cluster" in refused
    assert booked_rows(runtime) == before
    GroupAdmin(runtime.broker).set_offsets(runtime.group(NORMALISE), raw, {1: 1})
    await command(runtime, "rebind", *WHO)
    await command(runtime, "recover", "--to-log", *WHO)
    await append_raw(runtime, [hub88("bet", "sent since", "p-1")])
    await run_normaliser(runtime, 1)
    with scene.worker("ledger-1") as ledger:
        await scene.published(processes=[ledger])
    assert scene.rows(
        "SELECT provider_tx_id FROM entry WHERE provider_tx_id IN ('answered before', 'sent since')"
    ) == [("sent since",)]


async def undisturbed_run(scene, stack):
    """Return what a ledger booked and answered to which nothing happened, of the same events."""
    other = stack.runtime(f"{scene.runtime.namespace}_u")
    create_database(other)
    calm = await new_scene(other, scene.folder)
    await play(calm, 1, 80)
    await run_to_the_end(calm, 1)
    await play(calm, 2, 80)
    await play(calm, 3, 80)
    await run_to_the_end(calm, 3)
    booked, given = booked_meaning(other), given_answers(other)
    drop_database(other)
    return booked, given


async def test_both_are_restored_to_different_moments(scene, private_stack):
    runtime = scene.runtime
    log = runtime.topic(TRANSACTIONS)
    phases = [traffic(phase, 80) for phase in (1, 2, 3)]
    await scene.append(phases[0])
    with scene.worker("ledger-1") as ledger:
        await scene.published(processes=[ledger])
        early = take_backup(runtime, "early")
        await scene.append(phases[1])
        await scene.published(processes=[ledger])
        with BrokerLog(runtime.broker) as source:
            cut = {number: end for number, (_, end) in source.bounds(log).items()}
        await scene.append(phases[2])
        await scene.published(processes=[ledger])
        late = take_backup(runtime, "late")
        ledger.terminate()
        assert await scene.ended(ledger) == 0, scene.logs()
    undisturbed = booked_meaning(runtime)
    mirror = Mirror.take(runtime, TOPICS).until(log, cut)
    await new_broker(scene, private_stack, mirror)
    restore_backup(runtime, late)
    refused = await command(runtime, "rebind", *WHO, code=2)
    assert "LOG_ENDS_EARLIER" in refused
    restore_backup(runtime, early)
    await command(runtime, "rebind", *WHO)
    found = await command(runtime, "recover", "--to-log", *WHO, code=1)
    differences = found["outcomes"]["differences"]
    assert found["lost"] == found["outcomes"]["differing"] == len(differences) > 0
    assert {one["change"] for one in differences} == {"NOT_IN_LOG"}
    assert all(one["provider_tx_id"].startswith("3-") for one in differences)
    await command(runtime, "recover", "--to-log", *WHO, "--accept-differences")
    with scene.worker("ledger-1") as ledger:
        await scene.append(phases[2])  # senders append again what the log has lost
        await scene.published(processes=[ledger])
    assert booked_meaning(runtime) == undisturbed
    for backup in (early, late):
        drop_database(backup)
