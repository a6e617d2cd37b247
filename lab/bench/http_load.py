"""Load over HTTP: kept connections that send bets in a closed or in an open loop.

It shares the machine with what it measures, so it is cheap: requests are bytes that were made
ahead, and of an answer only its length and one word are looked at.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import Any, Final, Self, cast

from lab.bench.processes import BenchFailed

RETURN_WITHIN_S: Final = 60.0
"""A call that takes longer is lost."""
OPEN_CONNECTIONS: Final = 200
"""Of an open loop; a call that falls due while all are taken waits, which counts."""
OVERTIME: Final = 3
"""So many times as long as planned an open loop may take; what is not sent by then has waited."""
_BOOKED: Final = b'"RS_OK"'
_LENGTH: Final = b"content-length:"


@dataclass
class HttpLoad:
    """What is loaded and with what, and what came back: when a call ended, and the ms it took."""

    port: int
    stock: deque[bytes]
    more: Iterator[bytes] = field(default_factory=lambda: iter(()))
    """What a closed loop sends when its stock is used up; to make one costs time."""
    calls: list[tuple[float, float]] = field(default_factory=list)
    unsent_ms: list[float] = field(default_factory=list)
    """How long the calls of an open loop had waited that it did not come to."""


class KeptConnection(asyncio.Protocol):
    """A connection that is kept, with one request at a time."""

    def __init__(self) -> None:
        """Wait to be connected."""
        self._transport: asyncio.Transport
        self._data = b""
        self._answer: asyncio.Future[bytes] | None = None

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect to a port of this machine. Raises OSError."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, "127.0.0.1", port)
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's derives from nothing

    def data_received(self, data: bytes) -> None:
        """Settle the call when its answer is whole."""
        self._data += data
        body = find_body(self._data)
        if body is not None and self._answer is not None and not self._answer.done():
            self._data = b""
            self._answer.set_result(body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the call that waits."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError(f"closed by the side: {exc}"))

    async def send(self, request: bytes) -> bytes:
        """Send a request and return the body of its answer. Raises OSError."""
        if self._transport.is_closing():
            raise ConnectionResetError("closed by the side")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    async def book(self, request: bytes) -> None:
        """Send a bet. Raises BenchFailed unless it was booked."""
        try:
            body = await self.send(request)
        except OSError as error:
            raise BenchFailed(f"a bet got no answer: {error}") from error
        if _BOOKED not in body:
            raise BenchFailed(f"a bet was not booked: {body[:200]!r}")

    def close(self) -> None:
        """Close it."""
        self._transport.close()


def find_body(data: bytes) -> bytes | None:
    """Return the body of an answer with a content-length; None while it is not whole."""
    head, end, body = data.partition(b"\r\n\r\n")
    _, found, rest = head.lower().partition(_LENGTH)
    if not end or not found:
        return None
    return body if len(body) >= int(rest.partition(b"\r")[0]) else None


async def book_first(port: int, requests: Sequence[bytes]) -> None:
    """Send bets one after the other until one is booked. Raises BenchFailed where none is."""
    body = b""
    with closing(await KeptConnection.open(port)) as connection:
        for request in requests:
            body = await connection.send(request)
            if _BOOKED in body:
                return
    raise BenchFailed(f"no bet was booked: {body[:200]!r}")


@asynccontextmanager
async def connected(port: int, count: int) -> AsyncIterator[list[KeptConnection]]:
    """Open so many connections, and close them at the end. Raises OSError."""
    opened = await asyncio.gather(*[KeptConnection.open(port) for _ in range(count)])
    try:
        yield opened
    finally:
        for connection in opened:
            connection.close()


async def close_loop(load: HttpLoad, connections: Sequence[KeptConnection], end_s: float) -> None:
    """Keep a call in flight on each connection until a time of `perf_counter`.

    It ends earlier where none are left.
    """
    lasts_s = end_s - time.perf_counter()
    await _run_all([_call_on(load, connection, end_s) for connection in connections], lasts_s)


async def offer(load: HttpLoad, rate: float) -> None:
    """Send the whole stock at a steady rate; each call counts from when it was due.

    A side that cannot keep up gets no more calls when the loop is far over its time.
    """
    count = len(load.stock)
    async with connected(load.port, min(OPEN_CONNECTIONS, count)) as connections:
        begin_s = time.perf_counter()
        end_s = begin_s + OVERTIME * count / rate
        due = deque(begin_s + number / rate for number in range(count))
        loops = [_call_when_due(load, connection, due, end_s) for connection in connections]
        await _run_all(loops, end_s - begin_s)
    load.unsent_ms = [(end_s - due_s) * 1_000 for due_s in due]


async def _run_all(loops: Sequence[Coroutine[Any, Any, None]], lasts_s: float) -> None:
    tasks = [*map(asyncio.ensure_future, loops)]
    try:
        async with asyncio.timeout(lasts_s + RETURN_WITHIN_S):
            await asyncio.gather(*tasks)
    except TimeoutError as error:
        raise BenchFailed("calls did not come back in time") from error
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _call_on(load: HttpLoad, connection: KeptConnection, end_s: float) -> None:
    while (began_s := time.perf_counter()) < end_s:
        request = load.stock.popleft() if load.stock else next(load.more, None)
        if request is None:
            break
        await connection.book(request)
        now_s = time.perf_counter()
        load.calls.append((now_s, (now_s - began_s) * 1_000))


async def _call_when_due(
    load: HttpLoad, connection: KeptConnection, due: deque[float], end_s: float
) -> None:
    """Take the next due time whenever the connection is free; the wait counts from then."""
    while due and time.perf_counter() < end_s:
        due_s, request = due.popleft(), load.stock.popleft()
        wait_s = due_s - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        await connection.book(request)
        now_s = time.perf_counter()
        load.calls.append((now_s, (now_s - due_s) * 1_000))
