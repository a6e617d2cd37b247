"""Providers that keep books of their own, and do after an error what their documents say.

A provider believes only answers. After an answer of success a bet stands for it; after an error, or
none at all, it sends the bet again a few times if it is one that does so, and then takes the bet back
until that succeeds. A win it sends until it succeeds. In the end its books and the ledger's must agree.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from lab.conformance.calls import CallOrder
from tests.acceptance.gateway.conftest import Client
from tests.acceptance.gateway.test_wallets import STAKE, WIN, bet, rollback, win

TIMEOUT_S: Final = 6.0
AGAIN_S: Final = 0.3

SUCCESS: Final = {
    "hub88": b'"status":"RS_OK"',
    "hundredhp": b'"balance":',
    "playngo": b"<statusCode>0</statusCode>",
    "pragmatic": b'"error":0,',
}
RETRIES: Final = {"hub88": 0, "hundredhp": 0, "playngo": 2, "pragmatic": 2}
"""How often a bet without success is sent again before it is taken back."""
IS_BACK: Final[Mapping[str, tuple[bytes, ...]]] = {
    "hundredhp": (b'"errCode":605', b'"errCode":608')
}
"""Errors that mean that nothing of the bet stands: it is unknown, or was taken back before."""
IS_PAID: Final[Mapping[str, tuple[bytes, ...]]] = {"hundredhp": (b'"errCode":609',)}


@dataclass
class ProviderModel:
    """One provider's books: the balance of each of its players, as its answers say."""

    client: Client
    provider: str
    rng: random.Random
    balances: dict[str, int]
    counts: Counter[str] = field(default_factory=Counter)

    async def play(self, player: str, number: int) -> None:
        """Play one bet to its end."""
        order = bet(self.provider, player, number)
        for _ in range(RETRIES[self.provider] + 1):
            answer = await self._send(order)
            if answer is not None and SUCCESS[self.provider] in answer:
                break
        else:
            await self._repeat(rollback(self.provider, player, number + 1, of=number), IS_BACK)
            self.counts["taken back"] += 1
            return
        self.balances[player] -= STAKE
        self.counts["accepted"] += 1
        if self.rng.random() < 0.5:
            await self._repeat(win(self.provider, player, number + 2, of=number), IS_PAID)
            self.balances[player] += WIN
            self.counts["won"] += 1

    async def _repeat(self, order: CallOrder, final: Mapping[str, tuple[bytes, ...]]) -> None:
        enough = (SUCCESS[self.provider], *final.get(self.provider, ()))
        while True:
            answer = await self._send(order)
            if answer is not None and any(word in answer for word in enough):
                return
            await asyncio.sleep(AGAIN_S)

    async def _send(self, order: CallOrder) -> bytes | None:
        self.counts["calls"] += 1
        try:
            async with asyncio.timeout(TIMEOUT_S):
                _, _, body = await self.client.call(
                    self.provider, order, sending=self.rng.getrandbits(64)
                )
        except (aiohttp.ClientError, TimeoutError, OSError):
            self.counts["no answer"] += 1
            return None
        return body
