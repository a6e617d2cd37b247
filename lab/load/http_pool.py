"""Calls over kept HTTP connections, by a generator that shares its machine with what it loads.

A connection carries one request at a time. The one that was free last is used next, and another is
opened where none is free. A pool has so many and not more, as the HTTP clients of providers have:
what is above waits for one. Requests are bytes that were made before: a call costs its generator
two system calls and little more.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final, NamedTuple, cast

CONNECTIONS_MAX: Final = 10_000

_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSES: Final = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_STATUS: Final = slice(9, 12)
"""Of the status line, as in `HTTP/1.1 200 OK`."""


class HttpAnswer(NamedTuple):
    """The answer to one call."""

    status: int
    body: bytes


class HttpPool:
    """Kept connections to one server."""

    def __init__(
        self,
        port: int,
        timeout_s: float,
        connections_max: int = CONNECTIONS_MAX,
        host: str = "127.0.0.1",
    ) -> None:
        """Prepare without connecting.

        A call fails that takes longer than `timeout_s` after it has its connection.
        """
        self._may_call = asyncio.Semaphore(connections_max)
        self._host = host
        self._port = port
        self._timeout_s = timeout_s
        self._free: list[_PooledConnection] = []
        self._open: set[_PooledConnection] = set()

    async def call(self, request: bytes) -> HttpAnswer:
        """Send a request and return its answer.

        Raises OSError where the connection is refused or breaks off, and TimeoutError.
        """
        async with self._may_call:
            while self._free:
                connection = self._free.pop()
                if connection.is_usable:
                    break
            else:
                connection = await self._connect()
            return await connection.call(request, self._timeout_s)

    def close(self) -> None:
        """Close all connections; calls that are in flight fail."""
        for connection in list(self._open):
            connection.abort()

    async def _connect(self) -> _PooledConnection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._timeout_s):
            _, connection = await loop.create_connection(
                lambda: _PooledConnection(self._free, self._open), self._host, self._port
            )
        return connection


class _PooledConnection(asyncio.Protocol):
    def __init__(self, free: list[_PooledConnection], opened: set[_PooledConnection]) -> None:
        self._free = free
        self._opened = opened
        self._buffer = b""
        self._answer: asyncio.Future[HttpAnswer] | None = None
        self._transport: asyncio.Transport
        self.is_usable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's derives from nothing
        self._opened.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_usable = False
        self._opened.discard(self)
        self._fail(ConnectionResetError(f"the connection ended: {exc or 'closed by the server'}"))

    async def call(self, request: bytes, timeout_s: float) -> HttpAnswer:
        loop = asyncio.get_running_loop()
        # Of this call alone: when it goes on, the connection may already carry the next one.
        answer: asyncio.Future[HttpAnswer] = loop.create_future()
        self._answer = answer
        timer = loop.call_later(timeout_s, self._expire, answer)
        self._transport.write(request)
        try:
            return await answer
        except asyncio.CancelledError:
            self.abort()  # the answer to come is not the next call's
            raise
        finally:
            timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer = data if not self._buffer else self._buffer + data
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            return
        head = self._buffer[: end + 2]
        length = _LENGTH.search(head)
        if length is None:
            self._fail(ConnectionError(f"an answer without a length: {head[:200]!r}"))
            self.abort()
            return
        body = self._buffer[end + len(_HEAD_END) :]
        if len(body) < int(length[1]):
            return
        self._buffer = b""
        if _CLOSES.search(head):
            self.is_usable = False
            self._transport.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(HttpAnswer(int(head[_STATUS]), body))
            if self.is_usable:
                self._free.append(self)

    def abort(self) -> None:
        self.is_usable = False
        self._transport.abort()

    def _expire(self, answer: asyncio.Future[HttpAnswer]) -> None:
        if not answer.done():
            answer.set_exception(TimeoutError("no answer came in time"))
            self.abort()

    def _fail(self, error: OSError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
