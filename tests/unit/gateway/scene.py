"""A gateway's desk on an imitated broker and ledger, and signed calls for it."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.appender import AppendRefused, PendingAppend, Place
from gateway.attempts import Attempts
from gateway.calls import CallDesk
from gateway.decisions.call_trace import CallTrace
from gateway.decisions.reading import Received
from gateway.decisions.routes import Route, RouteTable
from gateway.decisions.sessions import PlayerSession, SessionKey
from gateway.settings import GatewaySettings
from gateway.stats import GatewayStats
from lab.conformance.calls import CallOrder, make_intent, make_request
from lab.conformance.writers.find import find_writers
from lab.conformance.writers.writer import Sending
from runtime.security import BrokerAddress
from schemas import codec
from schemas.errors import RejectCode
from schemas.events import Attempt, WalletOutcome
from streams.providers.answers import Answers
from streams.providers.registry import DIALECTS
from tests.support import virtual_time

AT_MS = 1_790_000_000_000
SECRETS = {
    "hundredhp": {"secret": "s" * 64},
    "pgsoft": {"secret_key": "s" * 64, "operator_token": "o" * 64},
    "playngo": {"access_token": "a" * 32},
    "pragmatic": {"secret": "s" * 64},
    "skylift": {"hmac_hex": "ab" * 32},
    "microgaming": {"login": "l" * 32, "password": "p" * 32},
    "adyen": {"hmac_hex": "cd" * 32},
    "sumsub": {"secret": "s" * 64},
}
"""All but those of key pairs, which cost a second to make."""
KEY = SessionKey(bytes(range(32)))
TABLE = RouteTable(DIALECTS)
TX7 = "019318f2-0000-7000-8000-00000000000"


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test whose desk's patience, rates and circuit go by the clock of a virtual loop.

    A patience of milliseconds ends when the test waits for it, however busy the machine is.
    """

    @virtual_time.in_virtual_time
    @functools.wraps(test)
    async def run(*arguments: Any, **named: Any) -> None:
        clock = SimpleNamespace(monotonic=asyncio.get_running_loop().time, time_ns=time.time_ns)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("gateway.calls.time", clock)
            await test(*arguments, **named)

    return run


class FakeAppender:
    """Acknowledges each record at once, unless it is held."""

    def __init__(self) -> None:
        self.records: list[tuple[str, bytes, bytes | None, dict[str, bytes | None]]] = []
        self.held: list[tuple[int, PendingAppend]] = []
        self.is_holding = False
        self.refuses = 0
        self.second = asyncio.Event()
        """Set by the second append: of a late call, that of its cancel."""

    def append(self, topic: str, key: bytes, value: bytes | None, headers: Any) -> PendingAppend:
        pending = PendingAppend(key, value, headers)
        if self.refuses:
            self.refuses -= 1
            pending.fail(AppendRefused(RejectCode.TOO_LARGE, "too large"))
            return pending
        offset = len(self.records)
        self.records.append((topic, key, value, dict(headers)))
        if len(self.records) == 2:
            self.second.set()
        if self.is_holding:
            self.held.append((offset, pending))
        else:
            pending.is_sent = True
            pending.settle(Place(0, offset, AT_MS + offset))
        return pending

    def release(self) -> None:
        for offset, pending in self.held:
            pending.settle(Place(0, offset, AT_MS + offset))
        self.held.clear()


class Scene:
    def __init__(self, **settings: Any) -> None:
        self.settings = GatewaySettings(BrokerAddress(""), **({"patience_ms": 5_000} | settings))
        self.appender = FakeAppender()
        self.attempts = Attempts()
        self.stats = GatewayStats()
        self.desk = CallDesk(
            self.settings,
            DIALECTS,
            Answers(DIALECTS, SECRETS),
            self.appender,  # type: ignore[arg-type]
            self.attempts,
            self.stats,
            KEY.read_token,
            ("hundredhp",),
        )

    def start(self, provider: str, order: CallOrder, **more: Any) -> asyncio.Task[Any]:
        return asyncio.ensure_future(self.desk.answer(*signed_call(provider, order, **more)))

    def decide(self, offset: int, outcome: str = "POSTED", reason: str = "BOOKED", **more: Any):
        topic, key, _, _ = self.appender.records[offset]
        self.attempts.deliver([outcome_of(topic, offset, key.decode(), outcome, reason, **more)])


def outcome_of(
    topic: str, offset: int, player: str, outcome: str, reason: str, **more: Any
) -> bytes:
    fields: dict[str, Any] = {
        "event_id": "00000000-0000-5000-8000-000000000001",
        "brand": "default",
        "provider": topic.split(".")[1],
        "operation": "bet",
        "provider_tx_id": "t",
        "attempt": Attempt(topic, 0, offset),
        "player_id": player,
        "outcome": outcome,
        "reason": reason,
        "message": "",
        "currency": "EUR",
        "scale": 2,
        "balance_minor": 9_850,
        "version": 1,
    }
    return codec.encoder(WalletOutcome)(WalletOutcome(**(fields | more)))


def signed_call(
    provider: str,
    order: CallOrder,
    *,
    secrets: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    nonce: int = 0,
    ends_s: int = 4_000_000_000,
    trace: CallTrace | None = None,
) -> tuple[Route, Received]:
    writer, face = find_writers((provider,))[provider], DIALECTS[provider].face
    assert face is not None
    token = KEY.make_token(PlayerSession(order.player, order.currency, ends_s))
    intent = make_intent(writer, order._replace(token=order.token or token, at_ms=AT_MS))
    request = make_request(
        writer, face, intent, Sending(AT_MS, nonce), secrets or SECRETS[provider]
    )
    route = TABLE.find(f"/{provider}{request.path}")
    assert route is not None
    sent = dict(request.headers) | dict(headers or {})
    return route, Received("POST", "", request.content_type, sent, request.body, AT_MS, trace)
