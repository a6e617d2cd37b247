"""Restore drills: the steps of docs/howto/restore.md on real servers, against a run that was not disturbed."""

from __future__ import annotations

import asyncio
import json
import os
from functools import cache

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from pitboss.cli.main import cli
from pitboss.embedded.databases import drop_database
from pitboss.settings import worker_environment
from replay.log.broker import BrokerLog
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas import codec
from schemas.events import Outcome, WalletOutcome
from schemas.topics import OUTCOMES, UNRESOLVED
from tests.faults.ledger_scene import Scene, new_scene, traffic
from tests.support.ledger_events import deposit, house, leg
from tests.support.restore_points import booked_rows, restore_backup, take_backup

pytestmark = [pytest.mark.integration, pytest.mark.faults, pytest.mark.timeout(900)]


async def command(runtime, *arguments: str, code: int = 0, settings=()):
    environment = {**worker_environment(runtime), **dict(settings)}
    result = await asyncio.to_thread(
        CliRunner().invoke, cli, ["ledger", *arguments, "--json"], env=environment
    )
    assert result.exit_code == code, (result.output, result.stderr, result.exception)
    return json.loads(result.stdout) if result.stdout else result.stderr


def without_player(phase: int):
    """A deposit that the cashier opens, its notice without a player, and one that refers to nothing."""
    opened = house("deposit.opened", f"o{phase}", leg("INFORMATIONAL", 100), player=f"p-{phase}")
    found = deposit(f"n{phase}", 100, player=None, reference=("deposit.opened", f"o{phase}"))
    lost = deposit(f"l{phase}", 50, player=None, reference=("deposit.opened", f"never{phase}"))
    return opened, [found, lost]


UNKNOWN = "00000000-0000-5000-8000-000000000000"


def one_outcome(runtime, prefix: str) -> WalletOutcome:
    """An answer that was given to an event whose id begins so."""
    topic, decode = runtime.topic(OUTCOMES), codec.decoder(WalletOutcome)
    with BrokerLog(runtime.broker) as source:
        for partition, (begin, end) in source.bounds(topic).items():
            for block in source.read(topic, partition, begin, end):
                for value in block.values:
                    outcome = decode(value or b"")
                    if outcome.provider_tx_id.startswith(prefix) and outcome.outcome == "POSTED":
                        return outcome
    raise AssertionError(f"no answer to {prefix}")


async def give(runtime, outcome: WalletOutcome) -> None:
    settings = ProducerSettings(runtime.broker, "pitboss.test")
    async with BatchProducer(settings) as producer:
        value = codec.encoder(WalletOutcome)(outcome)
        await producer.send(runtime.topic(OUTCOMES), (outcome.player_id or "").encode(), value)


@cache
def phase_events(phase: int, count: int):
    """The same events for every run: attempts are numbered as they are made."""
    opened, notices = without_player(phase)
    return [*traffic(phase, count), opened], notices


EVENTS = int(os.environ.get("DRILL_EVENTS", "150"))
"""Bets of a phase. More of them make the figures of docs/howto/restore.md."""
HELD_BACK = 10
"""Events of a phase that come after its moment."""


async def play(scene: Scene, phase: int, count: int = EVENTS) -> None:
    events, notices = phase_events(phase, count)
    await scene.append(events)
    await scene.append(notices, UNRESOLVED)


async def settle(scene: Scene, phases: int, processes) -> None:
    """Wait until everything is booked and published, and no event waits for its player."""
    while scene.rows("SELECT count(*) FROM parked WHERE appended") != [(2 * phases,)]:
        assert all(process.poll() is None for process in processes), scene.logs()
        await asyncio.sleep(0.05)
    await scene.published(processes=processes)


@pytest.mark.prove
async def test_a_database_restored_to_three_earlier_moments(runtime, tmp_path):
    scene = await new_scene(runtime, tmp_path)
    backups = []
    with scene.worker("ledger-1") as ledger, scene.worker("resolve-1", role="resolve") as resolve:
        for phase in (1, 2, 3):
            events, notices = phase_events(phase, EVENTS)
            half = len(events) // 2
            await scene.append(events[:half])
            await scene.published(processes=(ledger, resolve))
            # While the workers are at it: a moment in the middle of the traffic.
            _, backup = await asyncio.gather(
                scene.append(events[half:-HELD_BACK]),
                asyncio.to_thread(take_backup, runtime, f"b{phase}"),
            )
            backups.append(backup)
            await scene.append(events[-HELD_BACK:])
            await scene.append(notices, UNRESOLVED)
        await settle(scene, 3, (ledger, resolve))
        for process in (ledger, resolve):
            process.terminate()
            assert await scene.ended(process) == 0, scene.logs()
    undisturbed = booked_rows(runtime)
    rebooked = []
    for backup in backups:
        restore_backup(runtime, backup)
        assert booked_rows(runtime) != undisturbed
        with scene.worker("refused-1") as refused:
            assert await scene.ended(refused) == 71, scene.logs()
        dry = await command(runtime, "recover", "--to-log", "--by", "ann", "--dry-run")
        assert booked_rows(runtime) != undisturbed
        done = await command(runtime, "recover", "--to-log", "--by", "ann")
        assert booked_rows(runtime) == undisturbed
        assert (done["finished"], done["outcomes"]["differing"]) == (True, 0)
        assert done["outcomes"]["never_given"] == 0
        assert done["outcomes"] == dry["outcomes"]
        assert done["events"] == dry["events"] >= HELD_BACK
        rebooked.append(done["events"])
        assert done["lost"] == 0
        assert done["rebooking"]["events_per_s"] > 0
        assert done["rebooking"]["cpu_s"] > 0
        print(f"{done['events']} events:", done["took_s"], "s,", done["rebooking"])
        assert done["parked"]["waiting"] == 0
        again = await command(runtime, "recover", "--to-log", "--by", "ann")
        assert again["events"] == 0
    assert rebooked == sorted({*rebooked}, reverse=True), "three moments, one after the other"
    with scene.worker("ledger-2") as ledger, scene.worker("resolve-2", role="resolve") as resolve:
        await play(scene, 4)
        await settle(scene, 4, (ledger, resolve))
    await scene.proven()
    for backup in backups:
        drop_database(backup)


@pytest.mark.prove
async def test_an_answer_that_is_another_one_now_stops_the_recovery(runtime, tmp_path):
    scene = await new_scene(runtime, tmp_path)
    with scene.worker("ledger-1") as ledger:
        await scene.append(traffic(1, 60))
        await scene.published(processes=[ledger])
        ledger.terminate()
        await scene.ended(ledger)
        backup = take_backup(runtime, "b1")
    with scene.worker("ledger-1") as ledger:
        await scene.append(traffic(2, 60))
        await scene.published(processes=[ledger])
        ledger.terminate()
        await scene.ended(ledger)
    undisturbed = booked_rows(runtime)
    told = one_outcome(runtime, "2-")
    await give(runtime, replace(told, outcome=Outcome.REFUSED_FUNDS.value, reason="FUNDS"))
    await give(runtime, replace(told, event_id=UNKNOWN, provider_tx_id="gone"))
    restore_backup(runtime, backup)
    found = await command(runtime, "recover", "--to-log", "--by", "ann", code=1)
    assert found["finished"] is False
    assert {one["change"] for one in found["outcomes"]["differences"]} == {
        "DIFFERENT",
        "NOT_IN_LOG",
    }
    [different] = [o for o in found["outcomes"]["differences"] if o["change"] == "DIFFERENT"]
    assert different["given"]["outcome"] == "REFUSED_FUNDS"
    assert different["booked"]["outcome"] == told.outcome
    with scene.worker("ledger-1") as refused:
        assert await scene.ended(refused) == 71, scene.logs()
    assert "is not finished" in scene.logs()
    done = await command(runtime, "recover", "--to-log", "--by", "ann", "--accept-differences")
    assert done["finished"] is True
    assert done["outcomes"]["differing"] == 2
    assert booked_rows(runtime) == undisturbed
    with scene.worker("ledger-1") as ledger:
        await scene.published(processes=[ledger])
    drop_database(backup)
