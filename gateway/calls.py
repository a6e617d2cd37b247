"""What becomes of a call: read, appended, decided, answered; or taken back.

A bet is never accepted and then reversed, and never refused and then booked. Its answer is the
decision of the ledger. Where that does not come in time, a cancel is appended and acknowledged
before the provider gets its error; whatever the ledger decides of the attempt then, nothing of it
stands. While a transaction waits, the same one sent again is not another attempt: it waits too, and
gets the same answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from gateway.appender import (
    AppendRefused,
    AppendUncertain,
    Place,
    RawAppender,
)
from gateway.attempts import Attempts, WaitingCall
from gateway.decisions.call_trace import DECIDED, JOINED, KEPT, CallTrace
from gateway.decisions.limits import Circuit, FairTurns, Places, TokenBuckets
from gateway.decisions.reading import (
    CallRecord,
    FindSession,
    ReadCall,
    Received,
    acknowledge,
    cancel_headers,
    read_call,
    waits_for_outcome,
)
from gateway.decisions.routes import Route
from gateway.questions import AnsweredVersions, QuestionDesk
from gateway.settings import GatewaySettings
from gateway.stats import GatewayStats
from schemas.errors import PitbossError
from schemas.events import WalletOutcome
from streams.providers.answers import Answers
from streams.providers.dialect import Dialect, Reply

_LOG = logging.getLogger(__name__)

TURN_SHARE: Final = 0.5
"""Of the patience, kept for the decision."""

_AGAIN_S: Final = 0.2
"""How long a cancel waits to be sent again, where it is not known whether it was appended."""


class CallDesk:
    """Answers calls; one a process."""

    def __init__(
        self,
        settings: GatewaySettings,
        dialects: Mapping[str, Dialect],
        answers: Answers,
        appender: RawAppender,
        attempts: Attempts,
        stats: GatewayStats,
        find_session: FindSession,
        providers: Collection[str],
        questions: QuestionDesk | None = None,
        versions: AnsweredVersions | None = None,
    ) -> None:
        """Take what a call needs; nothing is started. `providers` are those that are served.

        `versions` notes every answer, for `questions` to agree with.
        """
        self._settings = settings
        self._dialects = dialects
        self._answers = answers
        self._appender = appender
        self._attempts = attempts
        self._stats = stats
        self._find_session = find_session
        self._questions = questions
        self._versions = AnsweredVersions() if versions is None else versions
        self._open: set[WaitingCall] = set()
        self._places = Places(settings.in_flight_max, providers)
        self._players = TokenBuckets(settings.player_rate, settings.player_burst)
        self._providers = (
            None
            if settings.provider_rate is None
            else TokenBuckets(settings.provider_rate, max(1.0, settings.provider_rate))
        )
        self._turns = FairTurns[asyncio.Future[bool]](settings.undecided_max, settings.weights)
        self._circuit = Circuit(settings.late_max, settings.trial_s)
        self._idle = asyncio.Event()
        self._idle.set()
        self.is_draining = False
        """Whether new calls are answered as unavailable."""

    async def answer(self, route: Route, received: Received) -> Reply:
        """Return the answer to one call, in the words of its provider."""
        self._stats.calls[route.provider] += 1
        if self.is_draining:
            return self._refuse(route, received, "refused while stopping")
        key = (route.provider, route.brand)
        if self._providers is not None and not self._providers.take(key, time.monotonic()):
            return self._refuse(route, received, "refused, above the rate of its provider")
        if not self._places.take(route.provider):
            return self._refuse(route, received, "refused, too many calls in flight")
        self._idle.clear()
        try:
            if self._questions is not None and route.call.asks:
                reply = await self._questions.answer(route, received)
                if reply is not None:
                    return reply
            return await self._answer(route, received)
        except Exception:  # noqa: BLE001 - a provider gets its own error whatever fails here
            _LOG.exception("%s: a call failed", route.path)
            return self._refuse(route, received, "failed")
        finally:
            self._places.give_back(route.provider)
            if not self._places.held:
                self._idle.set()

    def count_denied(self, provider: str, why: str) -> None:
        """Count a call from where its provider does not call; it is not read."""
        self._stats.calls[provider] += 1
        self._stats.endings[f"refused, {why}"] += 1

    async def drain(self) -> None:
        """Refuse new calls, and return when those in progress are answered.

        When the time is nearly over, what is still undecided is taken back.
        """
        self.is_draining = True
        timeout_s, share_s = self._settings.drain_timeout_s, self._settings.cancel_share_s
        try:
            async with asyncio.timeout(timeout_s - share_s):
                await self._idle.wait()
        except TimeoutError:
            for waiting in list(self._open):
                waiting.expire()
            try:
                async with asyncio.timeout(share_s):
                    await self._idle.wait()
            except TimeoutError:
                _LOG.warning("stopping with %d calls that have no answer", self._places.held)

    async def _answer(self, route: Route, received: Received) -> Reply:
        patience_ms = self._settings.patience_ms or route.face.patience_ms
        deadline = asyncio.get_running_loop().time() + patience_ms / 1000
        call = read_call(
            route, received, self._answers, self._find_session, self._settings.connector
        )
        if call.reply is not None:
            self._end(received.trace, f"refused, {call.refusal}")
            return call.reply
        if not waits_for_outcome(route, call):
            return await self._keep(route, call, deadline)
        if (why := self._limit_of(route, call)) is not None:
            self._end(call.trace, why)
            return self._unavailable(call)
        while others := self._attempts.overlapping(call.drafts):
            if len(others) == 1 and others[0].asks_the_same(call):
                return await self._join(others[0], call)
            ending = [other.finished for other in others]
            await asyncio.wait(ending, timeout=deadline - asyncio.get_running_loop().time())
            if asyncio.get_running_loop().time() >= deadline:
                self._end(call.trace, "unavailable, behind another attempt")
                return self._unavailable(call)
        return await self._decide(route.provider, call, deadline)

    def _limit_of(self, route: Route, call: ReadCall) -> str | None:
        """Return why a call that its provider signed is not tried now; None where it is.

        Only bets are limited by player: a win or a rollback that is refused comes again.
        """
        now_s = time.monotonic()
        if call.is_decided:
            key = (route.provider, route.brand, call.record.key)
            if not self._players.take(key, now_s):
                return "refused, above the rate of a player"
        return None if self._circuit.lets_in(now_s) else "refused, the circuit is open"

    async def _keep(self, route: Route, call: ReadCall, deadline: float) -> Reply:
        """Append a call that is not waited for, and acknowledge it."""
        waiting = WaitingCall(call)
        place = await self._append(waiting, deadline)
        if place is None:
            self._end(call.trace, "unavailable, not appended")
            return self._unavailable(call)
        self._end(call.trace, KEPT)
        # Of a wallet's call that cannot be read, its provider must know that.
        is_answered = route.face.waits and call.pending.is_complete
        return call.pending.reply() if is_answered else acknowledge(call)

    async def _join(self, first: WaitingCall, call: ReadCall) -> Reply:
        """Wait for the answer to the first attempt of the same transaction."""
        outcomes = await asyncio.shield(first.finished)
        if call.trace is not None:
            call.trace.first = first.call.trace
        if outcomes is None:
            self._end(call.trace, "joined, unavailable")
            return self._unavailable(call)
        record = first.call.record
        call.record.set_place(record.partition, record.offset, record.timestamp)
        for outcome in outcomes:
            call.pending.add(outcome)
        self._versions.note_outcomes(outcomes)
        self._end(call.trace, JOINED, outcomes)
        return call.pending.reply()

    async def _decide(self, provider: str, call: ReadCall, deadline: float) -> Reply:
        waiting = WaitingCall(call)
        outcomes: Sequence[WalletOutcome] | None = None
        self._attempts.begin(waiting)
        self._open.add(waiting)
        try:
            if not await self._wait_for_turn(provider, waiting, deadline):
                self._end(call.trace, "unavailable, its turn did not come")
                return self._unavailable(call)
            try:
                outcomes = await self._try(waiting, deadline)
            finally:
                self._pass_turn_on()
            return self._unavailable(call) if outcomes is None else call.pending.reply()
        finally:
            self._open.discard(waiting)
            self._attempts.end(waiting, outcomes)

    async def _try(self, waiting: WaitingCall, deadline: float) -> Sequence[WalletOutcome] | None:
        """Append a call and wait for its outcomes; None where nothing is decided, or stands."""
        self._attempts.begin_append(waiting)
        if await self._append(waiting, deadline) is None:
            self._end(waiting.call.trace, "unavailable, not appended")
            return None
        self._attempts.expect(waiting)
        if not await self._settle(waiting, deadline):
            return None
        self._versions.note_outcomes(waiting.outcomes)
        self._end(waiting.call.trace, DECIDED, waiting.outcomes)
        return waiting.outcomes

    async def _wait_for_turn(self, provider: str, waiting: WaitingCall, deadline: float) -> bool:
        """Return whether the call may be appended; False where half of its time is over before.

        What gets its turn with hardly any time left would only be appended to be taken back.
        """
        if self._turns.take(provider):
            return True
        loop = asyncio.get_running_loop()
        deadline -= (deadline - loop.time()) * TURN_SHARE
        turn: asyncio.Future[bool] = loop.create_future()
        waiting.turn = turn
        self._turns.line_up(provider, turn)
        timer = loop.call_at(deadline, waiting.expire)
        try:
            return await turn
        finally:
            timer.cancel()
            self._turns.leave(provider, turn)

    def _pass_turn_on(self) -> None:
        while (turn := self._turns.give_back()) is not None:
            if not turn.done():  # its time may have ended in this very round of the loop
                turn.set_result(True)
                return

    async def _append(self, waiting: WaitingCall, deadline: float) -> Place | None:
        """Append a call's record; None where it is not in the log, or that is not known.

        It may take longer than the deadline: what was sent cannot be taken back before its place is
        known.
        """
        record = waiting.call.record
        assert record.key is not None
        append = self._appender.append(record.topic, record.key, record.value, record.headers)
        waiting.append = append
        timer = asyncio.get_running_loop().call_at(deadline, append.withdraw)
        try:
            place = await append.place
        except PitbossError as error:
            if isinstance(error, AppendRefused | AppendUncertain):
                _LOG.warning("%s", error)
            return None
        finally:
            timer.cancel()
        record.set_place(*place)
        return place

    async def _settle(self, waiting: WaitingCall, deadline: float) -> bool:
        """Wait for the decision, and return whether there is one; otherwise nothing stands.

        What the ledger may refuse is taken back. A win or a rollback is booked when its turn comes,
        and its provider sends it again.
        """
        timer = asyncio.get_running_loop().call_at(deadline, waiting.expire)
        try:
            if await waiting.decided:
                self._circuit.note_decided()
                return True
        finally:
            timer.cancel()
        self._circuit.note_late(time.monotonic())
        if not waiting.call.is_decided:
            self._end(waiting.call.trace, "unavailable, not decided in time")
            return False
        if await self._take_back(waiting.call.record):
            self._end(waiting.call.trace, "taken back")
            return False
        # Neither error nor success is true before the ledger has decided.
        waiting.decided = asyncio.get_running_loop().create_future()
        return waiting.call.pending.is_complete or await waiting.decided

    async def _take_back(self, record: CallRecord) -> bool:
        """Append the cancel of an attempt; return False where the broker refuses that record."""
        headers = cancel_headers(record)
        while True:
            cancel = self._appender.append(record.topic, record.key or b"", record.value, headers)
            try:
                await cancel.place
            except AppendRefused as error:
                _LOG.warning("a cancel is refused, so its attempt is waited for: %s", error)
                return False
            except PitbossError as error:
                _LOG.warning("a cancel is sent again: %s", error)
                await asyncio.sleep(_AGAIN_S)
            else:
                return True

    def _end(
        self, trace: CallTrace | None, ending: str, outcomes: Sequence[WalletOutcome] = ()
    ) -> None:
        """Count how a call ends, and note it in its trace."""
        self._stats.endings[ending] += 1
        if trace is not None:
            trace.ending = ending
            trace.outcomes = [one.outcome for one in outcomes]

    def _refuse(self, route: Route, received: Received, ending: str) -> Reply:
        self._end(received.trace, ending)
        record = CallRecord(route.topic, received.body, [], received.at_ms)
        return self._dialects[route.provider].answer_unavailable(record)

    @staticmethod
    def _unavailable(call: ReadCall) -> Reply:
        return call.pending.dialect.answer_unavailable(call.record)


def now_ms() -> int:
    """Return this machine's clock, epoch ms: the time of a receipt."""
    return time.time_ns() // 1_000_000
