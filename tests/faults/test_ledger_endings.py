"""What must not be gone on with ends the worker soon and by its name; its successor finds everything as it should be."""

from __future__ import annotations

import signal

import msgspec
import pytest

from schemas.errors import SendFailed
from schemas.events import Amount, Leg
from tests.faults.ledger_scene import new_scene, traffic
from tests.support.ledger_events import transaction

pytestmark = [pytest.mark.integration, pytest.mark.faults, pytest.mark.timeout(900)]


@pytest.fixture
async def scene(runtime, tmp_path):
    return await new_scene(runtime, tmp_path)


async def ends_soon_with(scene, process, code):
    """Of itself: what hangs on its way out is cut off after its time, and says so."""
    assert await scene.ended(process) == code, scene.logs()
    assert "cut off" not in scene.logs(), scene.logs()


async def test_a_publisher_that_fails_for_good_ends_the_worker_whatever_waits_for_it(scene):
    await scene.append(traffic(1))
    with scene.worker("ledger-1", "nothing can be sent") as process:
        await scene.published(processes=[process])
        scene.arm.touch()
        for phase in range(2, 5):
            await scene.append(traffic(phase))
        await ends_soon_with(scene, process, SendFailed.exit_code)
    scene.arm.unlink()
    with scene.worker("ledger-1") as process:
        await scene.published(processes=[process])
        process.send_signal(signal.SIGTERM)
        await ends_soon_with(scene, process, 0)
    await scene.proven()


async def test_amounts_and_ids_of_a_hostile_provider_stop_nobody(scene):
    """Signed and well-formed, and as bad as it can be; another player's money goes its way."""
    most = Amount(2**63 - 1, 2)
    hostile = [transaction("win", f"w{n}", Leg("WIN", most, "EUR"), player="p-1") for n in range(4)]
    hostile += [
        transaction(
            "bet", f"f{n}", Leg("BET", Amount(1, 2), "EUR", is_free=True), decide=True, player="p-1"
        )
        for n in range(3)
    ]
    hostile += [
        transaction("rollback", f"r{n}", Leg("ROLLBACK"), reference=("bet", f"f{n}"), player="p-1")
        for n in range(3)
    ]
    odd = ["\\N", "\\.", "a\tb", "'; DROP TABLE wallet; --", "🎰" * 128, "player:p-1:cash"]
    hostile += [
        transaction("win", text, Leg("WIN", Amount(1, 2), "EUR"), player=text, round_id=text)
        for text in odd
    ]
    with scene.worker("ledger-1") as process:
        for (
            event
        ) in hostile:  # each in a transaction of its own, so that nothing is still in memory
            await scene.append(
                [
                    event,
                    msgspec.structs.replace(
                        event, attempt=msgspec.structs.replace(event.attempt, offset=10**9)
                    ),
                ]
            )
            await scene.published(processes=[process])
        await scene.append(traffic(1))
        await scene.published(processes=[process])
        process.send_signal(signal.SIGTERM)
        assert await scene.ended(process) == 0, scene.logs()
    # The ordinary wins of p-1 behind them find no room either; which of those there are is for the traffic to say.
    refused = scene.rows(
        "SELECT provider_tx_id FROM entry WHERE reason = 'BALANCE_OUT_OF_RANGE' AND kind = 'WIN'"
    )
    assert {("w1",), ("w2",), ("w3",)} <= set(refused)
    assert ("w0",) not in refused
    await scene.proven()
