"""Upgrades as docs/howto/upgrade.md orders them, and in the wrong order: readers of before wait, and nothing is lost.

A writer of the newer release appends events that its schema alone describes. A worker of this release waits at the
first of them; one that knows the schema takes over and goes on behind what was booked.
"""

from __future__ import annotations

import asyncio

import pytest

from pitboss.embedded.processes import poll
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas import codec
from schemas.events import WalletTransaction
from schemas.topics import TRANSACTIONS, UNRESOLVED
from tests.blast_radius.test_unbookable_event import OTHER, STUCK, is_booked
from tests.faults.ledger_scene import PATIENCE_S, Scene, new_scene, traffic
from tests.support import fraud_log
from tests.support.fraud_log import T0, append_bytes, burst, read_alerts, running_agent, settings_of
from tests.support.ledger_events import bet, deposit, house, leg
from tests.support.newer_release import POINT, encode_newer, upgraded

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

MINE = "SELECT provider_tx_id, outcome FROM entry WHERE provider_tx_id IN ({}) ORDER BY 1"
NAMES = "'after', 'before', 'newer', 'notice'"


@pytest.fixture
async def scene(runtime, tmp_path):
    return await new_scene(runtime, tmp_path)


async def append_of_both_releases(scene: Scene) -> None:
    """A normaliser that was upgraded too early writes among those that were not."""
    written = [
        (deposit("before", 7, player=STUCK), scene.encode),
        (deposit("newer", 2, player=STUCK), encode_newer),
        (deposit("after", 1, player=STUCK), scene.encode),
    ]
    notice = deposit("notice", 5, player=None, reference=("deposit.opened", "o"))
    async with BatchProducer(ProducerSettings(scene.runtime.broker, "test")) as producer:
        await producer.send_keyed(
            scene.runtime.topic(TRANSACTIONS),
            [(STUCK.encode(), encode(event), (), None) for event, encode in written],
        )
        unresolved = [(b"o", encode_newer(notice), (), None)]
        await producer.send_keyed(scene.runtime.topic(UNRESOLVED), unresolved)


async def waits(scene: Scene, name: str) -> bool:
    log = scene.folder / f"{name}.log"

    def is_said() -> bool:
        text = log.read_text()
        return "PARTITION_STUCK" in text and "upgrade this worker" in text

    return await asyncio.to_thread(poll, is_said, PATIENCE_S)


async def test_readers_of_before_wait_for_their_upgrade_and_the_log_is_booked_whole(scene):
    await scene.append(traffic(1, 60))
    opened = house("deposit.opened", "o", leg("INFORMATIONAL", 5), player=OTHER)
    with scene.worker("ledger-1") as ledger, scene.worker("resolve-1", role="resolve") as resolve:
        await scene.published(processes=[ledger, resolve])
        await append_of_both_releases(scene)
        await scene.append([opened, bet("elsewhere", 0, player=OTHER)])
        assert await is_booked(scene, "before"), scene.logs()
        assert await is_booked(scene, "elsewhere"), "other partitions go on"
        assert await waits(scene, "ledger-1"), scene.logs()
        assert await waits(scene, "resolve-1"), scene.logs()
        assert scene.rows(MINE.format(NAMES)) == [("before", "POSTED")]
        assert scene.rows("SELECT FROM parked") == []
        with (
            scene.worker("ledger-2", POINT) as successor,
            scene.worker("resolve-2", POINT, role="resolve") as other,
        ):
            for process in (ledger, resolve):
                process.terminate()
                assert await scene.ended(process) == 0, scene.logs()
            assert await is_booked(scene, "notice"), scene.logs()
            await scene.published(processes=[successor, other])
    booked = [(name, "POSTED") for name in ("after", "before", "newer", "notice")]
    assert scene.rows(MINE.format(NAMES)) == booked
    with upgraded():
        await scene.proven()


async def test_a_fraud_worker_of_before_waits_and_its_successor_raises_the_alert_of_both(
    runtime,
):
    await fraud_log.make_topics(runtime)
    fast = burst("fast", T0, 500)
    encode = codec.encoder(WalletTransaction)
    values = [*map(encode, fast[:250]), *map(encode_newer, fast[250:])]
    await append_bytes(runtime, [("fast", value) for value in values])
    async with running_agent(settings_of(runtime)) as app:

        async def is_waiting() -> bool:
            partitions = [one for intake in app.intakes for one in intake.status().values()]
            waiting = [str(one.waiting) for one in partitions]
            return any("PARTITION_STUCK" in one and "@250 " in one for one in waiting)

        await fraud_log.wait_until(is_waiting, "the worker of before waits")
    assert await fraud_log.read_all(runtime, TRANSACTIONS + ".dlt") == []
    assert await read_alerts(runtime) == []
    with upgraded():
        async with running_agent(settings_of(runtime)):
            await fraud_log.wait_until_processed(runtime)
    [alert] = await read_alerts(runtime)
    assert alert.observed == 500
    assert alert.evidence["duplicate_events"] == "0"
