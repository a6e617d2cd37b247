"""Whatever is killed between two steps of a call, provider and ledger agree in the end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from ledger_sink.store.database import LedgerDatabase
from pitboss.embedded.processes import poll
from pitboss.embedded.stack import Stack
from pitboss.ops.provision import deprovision
from pitboss.settings import Runtime
from tests.acceptance.gateway.conftest import Client, Door, listens, open_door
from tests.acceptance.gateway.provider_model import PROVIDERS, PlayingProvider
from tests.acceptance.gateway.test_wallets import frozen_ledger, fund
from tests.support.fix_stack import SEED
from tests.support.stack_faults import kill_until_port_is_free, restart_server

pytestmark = [pytest.mark.integration, pytest.mark.faults, pytest.mark.prove]

PATIENCE_MS = 1_200
PLAYERS, BETS = 3, 8
START_MINOR = 10_000


@pytest.fixture
def fragile(private_stack: Stack, namespace: str, tmp_path: Path) -> Iterator[Door]:
    runtime = private_stack.runtime(namespace)
    with open_door(runtime, tmp_path, (PATIENCE_MS,)) as door:
        yield door
    deprovision(runtime)


async def fund_patiently(client: Client, player: str) -> None:
    """The workers may just have started: the same message is sent until it is decided."""
    async with asyncio.timeout(180):
        while True:
            with suppress(AssertionError):
                await fund(client, player)
                return


async def balances(runtime: Runtime) -> dict[str, int]:
    database = LedgerDatabase(runtime.database_url, "pitboss.test")
    try:
        rows = await database.query(
            "SELECT player_id, cash_minor + bonus_minor + held_minor FROM wallet"
        )
    finally:
        await database.close()
    return dict(rows)


async def strike(door: Door, stack: Stack, what: str) -> None:
    """Kill or freeze one thing, and have it back."""
    if what == "gateway":
        door.gateways[0].kill()
        door.gateways[0].start()
        assert await asyncio.to_thread(poll, partial(listens, door.port), timeout_s=180)
    elif what in {"ledger", "normalise"}:
        door.workers[what].kill()  # its supervisor starts it again
    elif what == "frozen ledger":
        with frozen_ledger(door):
            await asyncio.sleep(PATIENCE_MS / 1000 * 1.5)
    else:
        server = stack.kafka if what == "broker" else stack.postgres
        await asyncio.to_thread(kill_until_port_is_free, server)
        await asyncio.to_thread(restart_server, stack, server)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("round_number", [1, 2, 3])
async def test_books_agree_whatever_is_killed(
    fragile: Door, private_stack: Stack, round_number: int
):
    rng = random.Random(f"{SEED}:{round_number}")
    strikes = ["gateway", "ledger", "normalise", "frozen ledger", "gateway", "broker", "database"]
    rng.shuffle(strikes)
    async with aiohttp.ClientSession() as session:
        client = Client(fragile, session)
        models = []
        for provider in PROVIDERS:
            players = [f"{provider}-{n}" for n in range(PLAYERS)]
            for player in players:
                await fund_patiently(client, player)
            models.append(
                PlayingProvider(client, provider, rng, dict.fromkeys(players, START_MINOR))
            )

        async def play(model: PlayingProvider, index: int, player: str) -> None:
            for number in range(BETS):
                await model.play(player, 1_000 * (index + 1) + number * 10)
                await asyncio.sleep(rng.uniform(0, 0.8))

        playing = asyncio.gather(
            *[
                play(model, index, player)
                for model in models
                for index, player in enumerate(model.balances)
            ]
        )
        struck = []
        for what in strikes:
            await asyncio.sleep(rng.uniform(0.2, 1.2))
            await strike(fragile, private_stack, what)
            struck.append(what)
        await playing
        found = await balances(fragile.runtime)
    expected = {player: amount for model in models for player, amount in model.balances.items()}
    counts = {model.provider: dict(model.counts) for model in models}
    print(f"seed {SEED}:{round_number}: {struck}; {counts}")
    assert {player: found[player] for player in expected} == expected
    assert sum(model.counts["no answer"] + model.counts["taken back"] for model in models) > 0
