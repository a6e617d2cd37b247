"""Plays a scenario over HTTP: its providers call the gateway, and do by its answers what they do.

Each record of a scenario is a call of its provider, signed as the provider signs, due at a steady
rate whatever became of earlier ones. What can only be sent once there is an answer waits for that:
a win for its bet, a payout for its withdrawal, a payment for the deposit that the cashier opened.
It is not sent where the bet does not stand. A rollback waits for nothing: a provider that has no
answer sends it. Retries and doubles of the scenario are calls of their own; what a provider sends
after an error is sent besides.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final, NamedTuple

from msgspec.structs import replace

from gateway.decisions.routes import base_path
from lab.conformance.books import ProviderBooks, moved_minor
from lab.conformance.calls import HttpRequest, encode_request, make_request, path_of
from lab.conformance.intents import DECIDED_VERBS, DEFAULT_BRAND, Identity, Intent, IntentLeg, Verb
from lab.conformance.reactions import REACTIONS, AnswerVerdict
from lab.conformance.writers.find import find_writers
from lab.conformance.writers.ids import Ids
from lab.conformance.writers.writer import Sending
from lab.load.http_pool import HttpPool
from lab.load.pacing import Timetable, send_on_time
from lab.load.provider_model import AGAIN_S, ProviderModel
from lab.sandbox.actions import Delivery, IntentRequest
from lab.sandbox.keys import SandboxKeys
from lab.sandbox.records import RawEvent
from schemas.errors import RejectCode
from streams.providers.dialect import Dialect
from streams.providers.registry import DIALECTS

IN_FLIGHT_MAX: Final = 256
"""Of calls without a rate: the next one follows when one of them is over."""


class PlannedCall(NamedTuple):
    """One call of a scenario: its bytes, and what they mean; no intents where it is poison."""

    provider: str
    request: bytes
    intents: tuple[Intent, ...]
    phase: int
    expected_reject: RejectCode | None


def plan_calls(deliveries: Sequence[Delivery], records: Sequence[RawEvent]) -> list[PlannedCall]:
    """Return the call of each delivery, given the record that it was written as."""
    return [
        PlannedCall(
            record.provider,
            _encode_record(record),
            delivery.request.intents if isinstance(delivery.request, IntentRequest) else (),
            record.phase,
            record.expected_reject,
        )
        for delivery, record in zip(deliveries, records, strict=True)
    ]


def _encode_record(record: RawEvent) -> bytes:
    """Return the request that its provider sends, by the URL of its brand."""
    headers = {name: value.decode() for name, value in record.headers}
    face = _dialect_of(record.provider).face
    assert face is not None, f"{record.provider} does not call over HTTP"
    path = headers["http-path"].removeprefix(f"/{record.provider}")
    if all(call.path != path for call in face.calls):
        message = f"no call of {record.provider} has the path {path!r}"
        raise ValueError(message)
    signed = tuple((name, headers[name]) for name in face.signature_headers if name in headers)
    request = HttpRequest(path, headers["content-type"], signed, record.value)
    base = base_path(record.provider, headers.get("brand", DEFAULT_BRAND))
    return encode_request(base + path, request)


def _dialect_of(provider: str) -> Dialect:
    return DIALECTS[provider]


@dataclass
class _Sendings:
    """What is known of all sendings of one bet."""

    in_flight: int = 0
    verdicts: set[AnswerVerdict] = field(default_factory=set)
    is_taken_back: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class ScenarioCaller:
    """The providers of one scenario."""

    def __init__(
        self,
        calls: Sequence[PlannedCall],
        keys: SandboxKeys,
        pool: HttpPool,
        on_due: Callable[[int, float], None],
        on_settled: Callable[[float, float], None],
        again_s: float = AGAIN_S,
    ) -> None:
        """Send nothing yet.

        `on_due` gets the index of each call and when it is due, before it is sent; `on_settled`
        when what waits for a decision was due and when it was settled. Both are in seconds of
        `time.monotonic`.
        """
        self._calls = calls
        self._on_due = on_due
        self._on_settled = on_settled
        self._rollbacks = _RollbackWriter(keys)
        self._pool = pool
        self._models: dict[str, ProviderModel[bytes]] = {
            provider: ProviderModel(REACTIONS[provider], self._send, again_s)
            for provider in {call.provider for call in calls}
        }
        intents = [intent for call in calls for intent in call.intents]
        self._intents: Mapping[Identity, Intent] = {one.identity: one for one in intents}
        self._rolled_back = {intent.reference for intent in intents if intent.verb is Verb.ROLLBACK}
        self._ended: dict[Identity, asyncio.Future[None]] = {}
        self._due_s: dict[Identity, float] = {}
        self._sendings: dict[Identity, _Sendings] = {}
        self.books = ProviderBooks()
        self.counts: Counter[str] = Counter()

    async def play(self, phase: int, rate: float | None, on_sent: Callable[[int], None]) -> None:
        """Send the calls of a phase at so many a second, and return when all are settled.

        Without a rate a call is due when it is sent. `on_sent` gets the number of calls sent in
        this phase. Raises Stalled where a call is never settled.
        """
        indexes = [index for index, call in enumerate(self._calls) if call.phase == phase]
        self._expect_ends(indexes)
        try:
            async with asyncio.TaskGroup() as tasks:
                if rate is None:
                    await self._send_in_turn(tasks, indexes, on_sent)
                else:
                    await self._send_on_time(tasks, indexes, rate, on_sent)
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from group

    def count_all(self) -> Counter[str]:
        """Return what happened, over all providers."""
        total = self.counts.copy()
        for model in self._models.values():
            total.update(model.counts)
        return total

    def _expect_ends(self, indexes: Iterable[int]) -> None:
        loop = asyncio.get_running_loop()
        for index in indexes:
            for intent in self._calls[index].intents:
                if intent.verb is not Verb.ROLLBACK and intent.identity not in self._ended:
                    self._ended[intent.identity] = loop.create_future()

    async def _send_on_time(
        self,
        tasks: asyncio.TaskGroup,
        indexes: Sequence[int],
        rate: float,
        on_sent: Callable[[int], None],
    ) -> None:
        timetable = Timetable(rate, time.monotonic())

        async def send(first: int, after: int) -> None:
            for place in range(first, after):
                tasks.create_task(self._settle(indexes[place], timetable.due_s(place)))

        await send_on_time(timetable, len(indexes), send, on_sent)

    async def _send_in_turn(
        self, tasks: asyncio.TaskGroup, indexes: Sequence[int], on_sent: Callable[[int], None]
    ) -> None:
        free = asyncio.Semaphore(IN_FLIGHT_MAX)

        async def settle(index: int) -> None:
            try:
                await self._settle(index, time.monotonic())
            finally:
                free.release()

        for sent, index in enumerate(indexes, 1):
            await free.acquire()
            tasks.create_task(settle(index))
            on_sent(sent)

    async def _settle(self, index: int, due_s: float) -> None:
        """Send one call, and whatever its provider sends after it."""
        call = self._calls[index]
        self._on_due(index, due_s)
        if not call.intents:
            await self._send(call.request)
            return
        first = call.intents[0]
        for intent in call.intents:
            self._due_s.setdefault(intent.identity, due_s)
        if first.verb is not Verb.ROLLBACK:
            for reference in self._references_of(call):
                await self._ended[reference]
                if not self.books.stands(reference):
                    self.counts["not sent, since its bet does not stand"] += 1
                    self._end(call)
                    return
                # Not before its bet was due: one that others overtook is late by the scenario.
                due_s = max(due_s, self._due_s[reference])
        model = self._models[call.provider]
        if first.verb in DECIDED_VERBS:
            await self._settle_bet(model, call, first)
        elif first.verb is Verb.ROLLBACK and first.reference is not None:
            await model.take_back(lambda _: call.request)
            self.books.note_taken_back(first.reference)
        else:
            await model.pay(lambda _: call.request)
            self._book(call.intents)
        self._end(call)
        face = _dialect_of(call.provider).face
        if face is not None and face.waits:
            self._on_settled(due_s, time.monotonic())

    async def _settle_bet(
        self, model: ProviderModel[bytes], call: PlannedCall, bet: Intent
    ) -> None:
        """Send a bet, and end it by all of its answers: a scenario may send it more than once."""
        sendings = self._sendings.setdefault(bet.identity, _Sendings())
        if sendings.is_taken_back:
            self.counts["not sent, since its bet is taken back"] += 1
            await sendings.ended.wait()
            return
        sendings.in_flight += 1
        sendings.ended.clear()
        sendings.verdicts.add(await model.ask(lambda _: call.request))
        sendings.in_flight -= 1
        if sendings.in_flight:
            await sendings.ended.wait()
            return
        if AnswerVerdict.SUCCEEDED in sendings.verdicts:
            self._book(call.intents)
        elif sendings.verdicts == {AnswerVerdict.OPEN} and bet.identity not in self._rolled_back:
            sendings.is_taken_back = True
            self.counts["taken back after an error"] += 1
            rollback = self._rollbacks.write(bet)
            await model.take_back(lambda _: rollback)
            self.books.note_taken_back(bet.identity)
        sendings.ended.set()

    def _references_of(self, call: PlannedCall) -> set[Identity]:
        """Return the earlier calls of this scenario that a call follows."""
        own = {intent.identity for intent in call.intents}
        return {
            intent.reference
            for intent in call.intents
            if intent.reference in self._ended and intent.reference not in own
        }

    def _end(self, call: PlannedCall) -> None:
        """Let those go on that wait for this call."""
        for intent in call.intents:
            ended = self._ended.get(intent.identity)
            if ended is not None and not ended.done():
                ended.set_result(None)

    def _book(self, intents: Iterable[Intent]) -> None:
        for intent in intents:
            referred = None if intent.reference is None else self._intents.get(intent.reference)
            self.books.note_accepted(intent.identity, moved_minor(intent, referred))

    async def _send(self, request: bytes) -> bytes | None:
        try:
            return (await self._pool.call(request)).body
        except OSError:  # TimeoutError is one
            return None


class _RollbackWriter:
    """Writes the rollbacks that no scenario plans: those of bets whose answers were errors."""

    def __init__(self, keys: SandboxKeys) -> None:
        self._keys = keys
        self._rng = Random("rollbacks")
        self._ids = Ids(self._rng)

    def write(self, bet: Intent) -> bytes:
        """Return the signed request that takes a bet back."""
        provider = bet.provider
        writer, face = find_writers((provider,))[provider], _dialect_of(provider).face
        assert face is not None, f"{provider} does not call over HTTP"
        at_ms = time.time_ns() // 1_000_000
        tx_id = writer.draw_follow_up_id(self._ids, Verb.ROLLBACK, at_ms, bet)
        identity = (bet.brand, provider, writer.says[Verb.ROLLBACK], tx_id)
        [leg] = bet.legs
        rollback = replace(
            bet,
            verb=Verb.ROLLBACK,
            identity=identity,
            legs=(IntentLeg("ROLLBACK", leg.minor, leg.currency, leg.is_free, leg.campaign),),
            reference=bet.identity,
            round_closed=True,
            at_ms=at_ms,
        )
        sending = Sending(at_ms, self._rng.getrandbits(128))
        request = make_request(writer, face, rollback, sending, self._keys.of(provider))
        path = base_path(provider, bet.brand) + path_of(face, identity[2])
        return encode_request(path, request)
