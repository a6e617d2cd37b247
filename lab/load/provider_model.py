"""A provider's side of its calls: it sends, reads the answer, and does what its document says next.

How a call is written and how it travels is given, so that tests send orders and the demo bytes that
were signed before.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Final, Generic, TypeVar

from lab.conformance.reactions import AnswerVerdict, Reactions
from schemas.errors import Stalled

RequestT = TypeVar("RequestT")

AGAIN_S: Final = 0.3
"""How long a provider waits before it sends something again; twice as long after each further
error. Their documents name seconds to minutes, and nothing is learnt by waiting longer at first."""
AGAIN_MAX_S: Final = 10.0
GIVES_UP_S: Final = 240.0


class ProviderModel(Generic[RequestT]):
    """One provider: sends until an answer ends the matter.

    `send` returns the answer's body, None where there was none. Raises Stalled, which quotes the
    last answer, where nothing ends a matter within `GIVES_UP_S`.
    """

    def __init__(
        self,
        reactions: Reactions,
        send: Callable[[RequestT], Awaitable[bytes | None]],
        again_s: float = AGAIN_S,
    ) -> None:
        """Keep what the provider does, and how its requests are sent."""
        self._reactions = reactions
        self._send = send
        self._again_s = again_s
        self.counts: Counter[str] = Counter()

    async def ask(self, write: Callable[[int], RequestT]) -> AnswerVerdict:
        """Send a bet until it is accepted or refused, or as often as the provider does.

        `write` gets the number of the sending, from 0.
        """
        resends = self._reactions.resends
        started_s = asyncio.get_running_loop().time()
        for sending in count():
            answer = await self._send_once(write(sending))
            verdict = self._reactions.read_bet_answer(answer)
            if verdict is not AnswerVerdict.OPEN:
                return verdict
            if resends is not None and sending >= resends:
                return verdict
            await self._pause(sending, started_s, answer)
        raise AssertionError

    async def take_back(self, write: Callable[[int], RequestT]) -> None:
        """Send a rollback until nothing of its bet stands."""
        await self._insist(write, self._reactions.is_back)

    async def pay(self, write: Callable[[int], RequestT]) -> None:
        """Send a win, or anything else that is never refused, until it is booked."""
        await self._insist(write, self._reactions.is_paid)

    async def _insist(
        self, write: Callable[[int], RequestT], is_over: Callable[[bytes | None], bool]
    ) -> None:
        started_s = asyncio.get_running_loop().time()
        for sending in count():
            answer = await self._send_once(write(sending))
            if is_over(answer):
                return
            await self._pause(sending, started_s, answer)

    async def _send_once(self, request: RequestT) -> bytes | None:
        self.counts["calls"] += 1
        answer = await self._send(request)
        if answer is None:
            self.counts["no answer"] += 1
        return answer

    async def _pause(self, sending: int, started_s: float, answer: bytes | None) -> None:
        self.counts["sent again"] += 1
        if asyncio.get_running_loop().time() - started_s > GIVES_UP_S:
            raise Stalled(
                f"a call was not settled within {GIVES_UP_S:.0f} s; its last answer is "
                + ("silence" if answer is None else repr(answer[:300]))
            )
        await asyncio.sleep(min(AGAIN_MAX_S, self._again_s * 2.0 ** min(sending, 20)))
