"""An event of the log that the ledger cannot book: its partition waits, and every other one goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from pitboss.embedded.processes import poll
from runtime.kafka.partitioner import partition_for
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas.events import Leg
from schemas.topics import TRANSACTIONS
from tests.blast_radius.steady_bets import steady_bets
from tests.faults.ledger_scene import PARTITIONS, PATIENCE_S, Scene, new_scene, traffic
from tests.support.ledger_events import bet, deposit, transaction

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

STUCK = "p-1"
OTHER = next(
    player
    for player in (f"p-{n}" for n in range(2, 12))
    if partition_for(player.encode(), PARTITIONS) != partition_for(STUCK.encode(), PARTITIONS)
)


@pytest.fixture
async def scene(runtime, tmp_path):
    return await new_scene(runtime, tmp_path)


@asynccontextmanager
async def producer_of(scene: Scene) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """Append free bets of a player of another partition, through one connection."""
    settings = ProducerSettings(scene.runtime.bootstrap_servers, "steady")
    async with BatchProducer(settings) as producer:

        async def append(tx_id: str) -> None:
            record = (OTHER.encode(), scene.encode(bet(tx_id, 0, player=OTHER)), (), None)
            await producer.send_keyed(scene.runtime.topic(TRANSACTIONS), [record])

        yield append


async def is_booked(scene: Scene, tx_id: str) -> bool:
    def has_entry() -> bool:
        return bool(scene.rows(f"SELECT FROM entry WHERE provider_tx_id = '{tx_id}'"))

    return await asyncio.to_thread(poll, has_entry, PATIENCE_S)


async def test_a_bet_of_another_partition_is_answered_within_a_second_throughout(scene):
    await scene.append(traffic(1))
    with scene.worker("ledger-1") as process:
        await scene.published(processes=[process])

        async with (
            producer_of(scene) as append,
            steady_bets(scene.runtime, PARTITIONS, append) as bets,
        ):
            await bets.more(5)
            unknown = transaction("teleport", "t", Leg("TELEPORT"), player=STUCK)
            await scene.append(
                [deposit("before", 7, player=STUCK), unknown, bet("after", 1, player=STUCK)]
            )
            await bets.more(40)
        assert process.poll() is None, scene.logs()
        bets.assert_prompt()
        assert await is_booked(scene, "before"), scene.logs()
        assert scene.rows("SELECT FROM entry WHERE provider_tx_id IN ('t', 'after')") == []
