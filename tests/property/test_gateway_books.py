"""Whatever happens between two steps of a call, the provider's books and the ledger's agree in the end.

Providers, a gateway, a log and a ledger in one virtual time: acknowledgements and decisions come late, out of the order of
calls, or not before the gateway is killed. The log keeps what was sent, whether anyone hears of it or not. The ledger here
knows the few rules that matter for a bet (docs/reference/outcomes.md); tests/acceptance/gateway/test_kills.py plays the same
with the real ones.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.appender import PendingAppend, Place
from gateway.attempts import Attempts
from gateway.calls import CallDesk
from gateway.decisions.reading import CallRecord
from lab.conformance.calls import CallOrder
from lab.conformance.intents import Verb
from streams.providers.answers import Answers
from streams.providers.dialect import Draft
from streams.providers.registry import DIALECTS
from tests.support.examples import examples
from tests.support.virtual_time import VirtualLoop
from tests.unit.gateway.scene import AT_MS, SECRETS, Scene, outcome_of, signed_call

STAKE, START = 150, 10_000
PATIENCE_MS = 1_000
PROVIDER_TIMEOUT_S = 4.0
SUCCESS = b"<statusCode>0</statusCode>"


@dataclass
class World:
    """One partition of a raw topic, and the ledger that decides what is in it, record by record."""

    rng: Random
    log: list[CallRecord] = field(default_factory=list)
    scene: Scene | None = None
    decided: int = 0
    balance: int = START
    booked: dict[str, int] = field(default_factory=dict)
    """Offset of the attempt that moved the money, by transaction; -1 where nothing of it stands."""
    closed: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    sending: set[asyncio.Future[None]] = field(default_factory=set)
    answers: Answers = field(default_factory=lambda: Answers(DIALECTS, SECRETS))

    def start_gateway(self) -> None:
        """Forget all that the last one knew: what waits for it waits in vain."""
        self.scene = Scene(
            patience_ms=PATIENCE_MS, player_rate=1e9, player_burst=1e9, late_max=10**9
        )
        self.scene.desk._appender = Appender(self, self.scene)  # type: ignore[assignment]

    async def decide_all(self) -> None:
        while True:
            await asyncio.sleep(self.rng.choice((0.01, 0.05, 0.3, 1.5)))
            while self.decided < len(self.log):
                self._decide(self.log[self.decided])
                self.decided += 1
                if self.rng.random() < 0.3:
                    break

    def _decide(self, record: CallRecord) -> None:
        [draft] = self.answers.begin(record).items
        assert isinstance(draft, Draft)
        outcome, reason = self._book(record, draft)
        value = outcome_of(
            record.topic, record.offset, "p-1", outcome, reason,
            operation=draft.operation, balance_minor=self.balance,
        )  # fmt: skip
        assert self.scene is not None
        self.scene.attempts.deliver([value])

    def _book(self, record: CallRecord, draft: Draft) -> tuple[str, str]:
        tx_id, cancel = draft.provider_tx_id, dict(record.headers).get("cancel")
        if cancel is not None:
            attempt = int(cancel.rpartition(b"@")[2])
            if self.booked.get(tx_id) == attempt:
                self._take_back(tx_id)
                return "CANCELLED", "REVERSED"
            return "CANCELLED", "ATTEMPT_MOVED_NOTHING"
        if draft.operation == "cancelReserve":
            if self.booked.get(tx_id, -1) >= 0:
                self._take_back(tx_id)
                return "POSTED", "BOOKED"
            self.closed.add(tx_id)
            return ("POSTED", "ALREADY_CLOSED") if tx_id in self.booked else ("TOMBSTONED", "")
        if tx_id in self.closed:
            return "CANCELLED", "CONNECTOR_TIMED_OUT"
        if tx_id in self.booked:
            return "EXISTS", "BOOKED"
        self.booked[tx_id] = record.offset
        self.balance -= STAKE
        return "POSTED", "BOOKED"

    def _take_back(self, tx_id: str) -> None:
        self.booked[tx_id] = -1
        self.closed.add(tx_id)
        self.balance += STAKE


@dataclass
class Appender:
    """Sends at once or later, acknowledges later still, and hears nothing for a gateway that was killed."""

    world: World
    scene: Scene

    def append(self, topic: str, key: bytes, value: bytes | None, headers: Any) -> PendingAppend:
        pending = PendingAppend(key, value, headers)
        if self.world.scene is self.scene:  # a gateway that was killed does nothing more
            self.world.sending.add(asyncio.ensure_future(self._send(topic, pending)))
        return pending

    async def _send(self, topic: str, pending: PendingAppend) -> None:
        world, rng = self.world, self.world.rng
        await asyncio.sleep(rng.choice((0, 0, 0.01, 1.2)))
        if pending.place.done():
            world.counts["withdrawn"] += 1
            return
        pending.is_sent = True
        if world.scene is not self.scene and rng.random() < 0.5:
            return  # what a killed gateway had in its socket may arrive or not
        record = CallRecord(topic, pending.value or b"", pending.headers, AT_MS)
        record.set_place(0, len(world.log), AT_MS)
        world.log.append(record)
        await asyncio.sleep(rng.choice((0, 0.01, 0.4, 1.5)))
        if world.scene is self.scene:
            pending.settle(Place(0, record.offset, AT_MS))


@dataclass
class Provider:
    """Believes answers only: a bet stands after a success; after anything else it is taken back until that succeeds."""

    world: World
    accepted: int = 0

    async def play(self, number: int) -> None:
        bet = CallOrder(Verb.BET, "p-1", str(number), STAKE, round_id=str(number))
        for _ in range(self.world.rng.randint(1, 3)):
            if await self._succeeds(bet):
                self.accepted += 1
                return
        await self.take_back(number)

    async def play_once(self, number: int) -> None:
        """An answer is final for it, an error too; only without any it takes the bet back."""
        bet = CallOrder(Verb.BET, "p-1", str(number), STAKE, round_id=str(number))
        answer = await self._call(bet)
        if answer is None:
            await self.take_back(number)
        elif SUCCESS in answer:
            self.accepted += 1
        else:
            self.world.counts["final errors"] += 1

    async def play_twice_at_once(self, number: int) -> None:
        """A retry while the first call still waits: one success is enough for it to stand."""
        bet = CallOrder(Verb.BET, "p-1", str(number), STAKE, round_id=str(number))
        first = asyncio.ensure_future(self._succeeds(bet))
        await asyncio.sleep(self.world.rng.choice((0.005, 0.2, 0.99)))
        if any(await asyncio.gather(first, self._succeeds(bet))):
            self.accepted += 1
            self.world.counts["twice at once"] += 1
            return
        await self.take_back(number)

    async def take_back(self, number: int) -> None:
        bet_id = str(number)
        back = CallOrder(Verb.ROLLBACK, "p-1", bet_id, STAKE, round_id=bet_id, bet_id=bet_id)
        for _ in range(1_000):
            if await self._succeeds(back):
                self.world.counts["taken back"] += 1
                return
            await asyncio.sleep(0.2)
        raise AssertionError("a rollback never succeeds")

    async def _succeeds(self, order: CallOrder) -> bool:
        answer = await self._call(order)
        return answer is not None and SUCCESS in answer

    async def _call(self, order: CallOrder) -> bytes | None:
        scene = self.world.scene
        assert scene is not None
        call = asyncio.ensure_future(scene.desk.answer(*signed_call("playngo", order)))
        done, _ = await asyncio.wait([call], timeout=PROVIDER_TIMEOUT_S)
        if not done or self.world.scene is not scene:
            return None  # no answer, or its gateway was killed before it could send one
        return call.result().body


async def run(seed: int, kills: int) -> World:
    rng = Random(seed)
    world = World(rng)
    world.start_gateway()
    ledger = asyncio.ensure_future(world.decide_all())
    provider = Provider(world)
    ways = (provider.play, provider.play_once, provider.play_twice_at_once)
    playing = asyncio.gather(*[rng.choice(ways)(number) for number in range(100, 112)])
    for _ in range(kills):
        await asyncio.sleep(rng.uniform(0, 2))
        world.start_gateway()
        world.counts["kills"] += 1
    await playing
    await asyncio.sleep(60)
    ledger.cancel()
    assert world.decided == len(world.log)
    assert world.balance == START - STAKE * provider.accepted, (seed, world.counts)
    return world


def play(seed: int, kills: int) -> World:
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(run(seed, kills))
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


@given(st.integers(0, 2**32))
@examples(25)
def test_without_kills_the_books_agree(seed):
    play(seed, kills=0)


@given(st.integers(0, 2**32), st.integers(1, 4))
@examples(25)
def test_with_kills_of_the_gateway_the_books_agree(seed, kills):
    play(seed, kills)


def test_the_world_is_rough_enough():
    counts = sum((play(seed, kills=2).counts for seed in range(20)), Counter[str]())
    assert counts["withdrawn"] > 0
    assert counts["taken back"] > 10
    assert counts["final errors"] > 3
    assert counts["twice at once"] > 3
    assert counts["kills"] == 40


def disagrees(seed: int) -> bool:
    try:
        play(seed, seed % 3)
    except AssertionError:
        return True
    return False


async def no_cancel(*_: object) -> bool:
    return True


def test_without_the_cancel_the_books_disagree(monkeypatch):
    monkeypatch.setattr(CallDesk, "_take_back", no_cancel)
    assert any(map(disagrees, range(40)))


def test_without_joining_the_books_disagree(monkeypatch):
    monkeypatch.setattr(Attempts, "overlapping", lambda *_: [])
    assert any(map(disagrees, range(40)))
