"""Providers of the tests: they place bets by orders, and keep books of their own.

What they do after an error or none at all is lab/load/provider_model.py's, by what their documents say.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from lab.conformance.calls import CallOrder
from lab.conformance.reactions import REACTIONS, AnswerVerdict
from lab.load.provider_model import ProviderModel
from tests.acceptance.gateway.conftest import Client
from tests.acceptance.gateway.test_wallets import STAKE, WIN, bet, rollback, win

TIMEOUT_S: Final = 6.0
PROVIDERS: Final = ("hub88", "hundredhp", "playngo", "pragmatic")


@dataclass
class PlayingProvider:
    """One provider's books: the balance of each of its players, as its answers say."""

    client: Client
    provider: str
    rng: random.Random
    balances: dict[str, int]
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._model = ProviderModel[CallOrder](REACTIONS[self.provider], self._send)
        self._model.counts = self.counts

    async def play(self, player: str, number: int) -> None:
        """Play one bet to its end."""
        order = bet(self.provider, player, number)
        verdict = await self._model.ask(same(order))
        if verdict is not AnswerVerdict.SUCCEEDED:
            # A refusal would be a fault here, since all players have money; taking back is right in any case.
            await self._model.take_back(
                same(rollback(self.provider, player, number + 1, of=number))
            )
            self.counts["taken back"] += 1
            return
        self.balances[player] -= STAKE
        self.counts["accepted"] += 1
        if self.rng.random() < 0.5:
            await self._model.pay(same(win(self.provider, player, number + 2, of=number)))
            self.balances[player] += WIN
            self.counts["won"] += 1

    async def _send(self, order: CallOrder) -> bytes | None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                _, _, body = await self.client.call(
                    self.provider, order, sending=self.rng.getrandbits(64)
                )
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None
        return body


def same(order: CallOrder) -> Callable[[int], CallOrder]:
    """The same order at every sending; its signature and request id differ."""
    return lambda _: order
