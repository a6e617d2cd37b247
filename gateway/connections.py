"""Connections of the HTTP server, each within limits that keep it from costing the others anything.

aiohttp bounds what it reads ahead on a connection. What it leaves open is closed here: a head that
comes byte by byte, a connection that sends nothing, an other side that takes no answer, and more
connections than there is room for. The rest of a body that was refused is taken slowly.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

REST_PAUSE_S: Final = 0.1
"""Between two pieces of a body that was refused, of 256 KiB at most: its sender is to read the
answer, and what is thrown away is not to keep a core busy."""
FILES_FOR_THE_REST: Final = 256
"""Descriptors that are not connections of callers: the broker's, files, and those that start."""


@dataclass
class ConnectionLimits:
    """Limits of every connection, and the counts of those that they ended."""

    connections_max: int
    head_timeout_s: float
    idle_timeout_s: float
    write_timeout_s: float
    endings: Counter[str] = field(default_factory=Counter)


class LimitedServer(web.Server):
    """An HTTP server whose connections are within limits."""

    def __init__(self, handler: Any, limits: ConnectionLimits, **options: Any) -> None:
        """Serve `handler`; `options` are aiohttp's."""
        super().__init__(handler, keepalive_timeout=limits.idle_timeout_s, **options)
        self.limits = limits
        self._options = {"keepalive_timeout": limits.idle_timeout_s} | {
            name: option for name, option in options.items() if name != "request_factory"
        }

    def __call__(self) -> RequestHandler:
        """Make the protocol of a new connection."""
        return _LimitedConnection(self, self._loop, **self._options)

    @property
    def open_connections(self) -> int:
        """Number of connections that are open."""
        return len(self._connections)


class _LimitedConnection(RequestHandler):
    __slots__ = ("_head_timer", "_is_refused", "_limits", "_rest_timer", "_server")

    def __init__(
        self, server: LimitedServer, loop: asyncio.AbstractEventLoop, **options: Any
    ) -> None:
        super().__init__(server, loop=loop, **options)
        self._server = server
        self._limits = server.limits
        self._head_timer: asyncio.TimerHandle | None = None
        self._rest_timer: asyncio.TimerHandle | None = None
        self._is_refused = False

    def take_rest_slowly(self) -> None:
        """Take the rest of a request that is refused in pieces, with a pause after each."""
        self._is_refused = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._server.open_connections >= self._limits.connections_max:
            self._limits.endings["connection refused, too many are open"] += 1
            self._manager = None  # aiohttp knows nothing of it then
            cast("asyncio.Transport", transport).abort()  # uvloop's derives from nothing
            return
        own: socket.socket | None = transport.get_extra_info("socket")
        if own is not None:
            # Also while the other side's window is closed: tcp(7).
            write_timeout_ms = round(self._limits.write_timeout_s * 1_000)
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, write_timeout_ms)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        for timer in (self._head_timer, self._rest_timer):
            if timer is not None:
                timer.cancel()
        if isinstance(exc, TimeoutError):
            self._limits.endings["connection closed, it took no answer"] += 1
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_refused and data and self._rest_timer is None:
            self._pause_transport_reading()
            self._rest_timer = self._loop.call_later(REST_PAUSE_S, self._take_more)
        waiter = self._waiter
        if waiter is None or waiter.done():
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None
        elif self._head_timer is None:
            # A part of a head: the rest has so much time, however it is cut.
            self._head_timer = self._loop.call_later(
                self._limits.head_timeout_s, self._end_slow_head
            )

    def _take_more(self) -> None:
        self._rest_timer = None
        if not self._reading_paused:
            self._resume_transport_reading()

    def _resume_transport_reading(self) -> None:
        # aiohttp goes on whenever its buffer is empty, and that of a refused body always is.
        if self._rest_timer is None:
            super()._resume_transport_reading()

    def _end_slow_head(self) -> None:
        self._head_timer = None
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            self._limits.endings["connection closed, its head came too slowly"] += 1
            self.force_close()


def take_rest_slowly(request: web.BaseRequest) -> None:
    """Take the rest of a request that is refused so slowly that it costs the others nothing."""
    if isinstance(request.protocol, _LimitedConnection):
        request.protocol.take_rest_slowly()


def allow_open_files() -> int:
    """Let the process open as many files as the system allows it, and return how many those are.

    Without a free descriptor nothing is accepted from anyone, and the usual limit is 1,024.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def find_connections_max(setting: int | None, files: int) -> int:
    """Return how many connections there may be: as the setting says, as far as files allow it."""
    room = max(1, files - FILES_FOR_THE_REST)
    return room if setting is None else min(setting, room)
