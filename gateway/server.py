"""The HTTP server: one handler for all paths, limits on what a request may be, and a calm stop."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web
from aiohttp.web_exceptions import HTTPRequestEntityTooLarge
from mode import Service

from gateway.call_traces import CallTraces
from gateway.calls import CallDesk, now_ms
from gateway.connections import (
    ConnectionLimits,
    LimitedServer,
    allow_open_files,
    find_connections_max,
    take_rest_slowly,
)
from gateway.decisions.access import FORWARDED_FOR, Caller, find_denial
from gateway.decisions.reading import Received
from gateway.decisions.routes import Route, RouteTable
from gateway.settings import GatewaySettings
from gateway.stats import GatewayStats
from gateway.tls import TlsContexts, names_of
from schemas.errors import UsageError
from streams.providers.dialect import Reply
from streams.providers.http_face import RECORD_BYTES_MAX

_LOG = logging.getLogger(__name__)

HEADER_BYTES_MAX: Final = 8_190
BACKLOG: Final = 1_024
LINGERING_S: Final = 1.0
"""How long the rest of a body is taken that was answered before its end: its sender reads then."""
_SERVER: Final = "pitboss"

_NOT_FOUND: Final = Reply(404, "text/plain", b"no provider calls this path\n")
_NOT_ALLOWED: Final = Reply(403, "text/plain", b"not from here\n")
_NO_METHOD: Final = Reply(405, "text/plain", b"POST only\n")
_TOO_LARGE: Final = Reply(413, "text/plain", b"the body is too large\n")
_TOO_SLOW: Final = Reply(408, "text/plain", b"the body came too slowly\n")
_ENDINGS: Final = {
    _NOT_FOUND: "refused, no such path",
    _NO_METHOD: "refused, no such method",
    _TOO_LARGE: "refused, its body is too large",
    _TOO_SLOW: "refused, its body came too slowly",
}
"""How calls are counted that come to no provider's answer."""


class GatewayServer(Service):
    """Service that listens, and stops calmly: no new calls, answers to those in progress."""

    def __init__(
        self,
        settings: GatewaySettings,
        table: RouteTable,
        desk: CallDesk,
        stats: GatewayStats,
        **kwargs: Any,
    ) -> None:
        """Prepare without listening."""
        super().__init__(**kwargs)
        self._settings = settings
        self._table = table
        self._desk = desk
        self._stats = stats
        self._listener: asyncio.Server | None = None
        self._server: LimitedServer | None = None
        self._contexts: TlsContexts | None = None
        self.on_answered: Callable[[str, int, float], None] | None = None
        """Called with the provider, the status and the seconds of each answered call."""
        self.traces: CallTraces | None = None
        """Traces of the calls; None where telemetry makes none."""
        self.port = settings.port
        """The port that is listened on, once started."""

    async def on_start(self) -> None:
        """Listen. Raises UsageError where the address cannot be had."""
        loop = asyncio.get_running_loop()
        server = LimitedServer(
            self._handle,
            self._limit_connections(),
            request_factory=self._make_request,
            access_log=None,
            lingering_time=LINGERING_S,
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
        )
        host, port, tls = self._settings.host, self._settings.port, self._settings.tls
        self._contexts = None if tls is None else TlsContexts(tls)
        context = None if self._contexts is None else self._contexts.listening
        try:
            self._listener = await loop.create_server(
                server,
                host,
                port,
                backlog=BACKLOG,
                ssl=context,
                ssl_handshake_timeout=None if context is None else self._settings.body_timeout_s,
            )
        except OSError as error:
            raise UsageError(
                f"the gateway cannot listen on {host}:{port}: {error}; set another "
                "PITBOSS_GATEWAY_HOST or PITBOSS_GATEWAY_PORT"
            ) from error
        self._server = server
        listening: socket.socket = self._listener.sockets[0]
        self.port = listening.getsockname()[1]
        _LOG.info("listening on %s:%d", host, self.port)

    async def on_stop(self) -> None:
        """Take no more connections, answer what is in progress, and close."""
        if self._listener is None or self._server is None:
            return
        self._listener.close()
        self._server.pre_shutdown()
        await self._desk.drain()
        await self._server.shutdown(1.0)

    @property
    def contexts(self) -> TlsContexts:
        """The contexts of TLS, once started with it."""
        assert self._contexts is not None, "this server speaks plain HTTP"
        return self._contexts

    def _limit_connections(self) -> ConnectionLimits:
        settings = self._settings
        return ConnectionLimits(
            find_connections_max(settings.connections_max, allow_open_files()),
            settings.head_timeout_s,
            settings.idle_timeout_s,
            settings.write_timeout_s,
            self._stats.endings,
        )

    def _make_request(
        self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any
    ) -> web.BaseRequest:
        loop = asyncio.get_running_loop()
        return web.BaseRequest(
            message, payload, protocol, writer, task, loop, client_max_size=RECORD_BYTES_MAX
        )

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        began_s = time.perf_counter()
        path, _, query = request.raw_path.partition("?")
        route = self._table.find(path)
        reply = _NOT_FOUND if route is None else await self._reply_to(request, route, query)
        if (ending := _ENDINGS.get(reply)) is not None:
            self._stats.endings[ending] += 1
        if self.on_answered is not None and route is not None:
            self.on_answered(route.provider, reply.status, time.perf_counter() - began_s)
        response = web.Response(
            body=reply.body,
            status=reply.status,
            headers={"Content-Type": reply.content_type, "Server": _SERVER},
        )
        if self._desk.is_draining or reply in (_TOO_LARGE, _TOO_SLOW, _NOT_ALLOWED):
            response.force_close()
            take_rest_slowly(request)
        return response

    async def _reply_to(self, request: web.BaseRequest, route: Route, query: str) -> Reply:
        if (denial := self._find_denial(request, route.provider)) is not None:
            self._desk.count_denied(route.provider, denial)
            return _NOT_ALLOWED
        if request.method != "POST":
            return _NO_METHOD
        at_ms = now_ms()
        trace = None if self.traces is None else self.traces.begin()
        body = await self._read_body(request, route.face.body_bytes_max)
        if isinstance(body, Reply):
            return body
        headers = request.headers
        content_type = headers.get("Content-Type", "")
        received = Received("POST", query, content_type, headers, body, at_ms, trace)
        reply = await self._desk.answer(route, received)
        if trace is not None and self.traces is not None:
            self.traces.finish(trace, route, reply.status)
        return reply

    def _find_denial(self, request: web.BaseRequest, provider: str) -> str | None:
        rules = self._settings.access
        if provider not in rules.providers:
            return None
        transport = request.transport
        if transport is None:
            return "gone"
        peer = transport.get_extra_info("peername")
        names = names_of(transport.get_extra_info("peercert"))
        caller = Caller(str(peer[0]) if peer else "", names)
        return find_denial(rules, provider, caller, request.headers.getall(FORWARDED_FOR, []))

    async def _read_body(self, request: web.BaseRequest, bytes_max: int) -> bytes | Reply:
        """Return the body, or the answer to one that is too large or comes too slowly."""
        if (request.content_length or 0) > bytes_max:
            return _TOO_LARGE
        content = request.content
        try:
            if content.is_eof():  # nearly always: it came together with its head
                body = content.read_nowait()
            else:
                async with asyncio.timeout(self._settings.body_timeout_s):
                    body = await request.read()
        except TimeoutError:
            return _TOO_SLOW
        except HTTPRequestEntityTooLarge:
            return _TOO_LARGE
        return body if len(body) <= bytes_max else _TOO_LARGE
