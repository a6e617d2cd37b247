"""Connections that cost nothing to the others: slow heads, silence, deafness, and too many of them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias

import pytest
import uvloop
from aiohttp import web

from gateway import connections
from gateway.connections import (
    FILES_FOR_THE_REST,
    ConnectionLimits,
    LimitedServer,
    find_connections_max,
    take_rest_slowly,
)
from pitboss.embedded.processes import poll

Test: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


def on_both_loops(test: Test) -> Callable[[Any], None]:
    """Run a test on asyncio's loop, and on uvloop's as gateways do: its types are others."""

    @pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
    def run(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(test())

    run.__name__ = test.__name__
    return run


REQUEST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi"


async def refuse(request: web.BaseRequest) -> web.Response:
    response = web.Response(status=413, body=b"no")
    response.force_close()
    take_rest_slowly(request)
    return response


@asynccontextmanager
async def serving(
    answer: bytes = b"ok", handler: Any = None, **limits: Any
) -> AsyncIterator[tuple[int, LimitedServer]]:
    async def handle(request: web.BaseRequest) -> web.Response:
        await request.read()
        return web.Response(body=answer)

    chosen = {
        "connections_max": 100,
        "head_timeout_s": 30.0,
        "idle_timeout_s": 30.0,
        "write_timeout_s": 30.0,
    } | limits
    server = LimitedServer(handler or handle, ConnectionLimits(**chosen), access_log=None)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1], server
    finally:
        listener.close()
        await server.shutdown(1.0)


PATIENCE_S = 60


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
    return head + await reader.readexactly(2)


async def read_to_the_end(reader: asyncio.StreamReader) -> bytes:
    """Read until the server closes; the kernel resets what is closed with bytes that nobody has read."""
    with suppress(ConnectionResetError):
        return await asyncio.wait_for(reader.read(), PATIENCE_S)
    return b""


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


@on_both_loops
async def test_requests_one_after_the_other_on_a_kept_connection():
    async with serving(head_timeout_s=0.05) as (port, server):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(REQUEST)
            assert (await read_answer(reader)).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(0.1)  # idle for longer than a head may take
        assert not server.limits.endings
        await close(writer)


@on_both_loops
async def test_a_head_that_comes_byte_by_byte_costs_its_sender_the_connection():
    async with serving(head_timeout_s=0.2) as (port, server):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        await read_answer(reader)
        sending = asyncio.ensure_future(send_slowly(writer, REQUEST))
        assert await read_to_the_end(reader) == b""
        sending.cancel()
        assert server.limits.endings == {"connection closed, its head came too slowly": 1}
        writer.close()


async def send_slowly(writer: asyncio.StreamWriter, data: bytes) -> None:
    for byte in data:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.05)


@on_both_loops
async def test_a_head_in_two_parts_is_a_request():
    async with serving(head_timeout_s=5.0) as (port, server):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST[:20])
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(REQUEST[20:])
        assert (await read_answer(reader)).endswith(b"ok")
        [connection] = server.connections
        assert connection._head_timer is None  # type: ignore[attr-defined]
        await close(writer)


@on_both_loops
async def test_silence_ends_a_connection():
    async with serving(idle_timeout_s=0.2) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await read_to_the_end(reader) == b""
        await close(writer)


@on_both_loops
async def test_what_takes_no_answer_is_closed():
    async with serving(bytes(1_000_000), write_timeout_s=0.5) as (port, server):
        deaf = socket.create_connection(("127.0.0.1", port))
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.setblocking(False)
        await asyncio.get_running_loop().sock_sendall(deaf, REQUEST * 20)
        assert await asyncio.to_thread(
            poll, lambda: bool(server.limits.endings), timeout_s=PATIENCE_S
        )
        assert server.limits.endings == {"connection closed, it took no answer": 1}
        deaf.close()


@on_both_loops
async def test_above_so_many_connections_the_next_is_refused_until_one_is_closed():
    async with serving(connections_max=2) as (port, server):
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for reader, writer in opened:
            writer.write(REQUEST)
            await read_answer(reader)
        reader, third = await asyncio.open_connection("127.0.0.1", port)
        third.write(REQUEST)
        assert await read_to_the_end(reader) == b""
        assert server.limits.endings == {"connection refused, too many are open": 1}
        await close(opened[0][1])
        assert await asyncio.to_thread(
            poll, lambda: server.open_connections == 1, timeout_s=PATIENCE_S
        )
        reader, fourth = await asyncio.open_connection("127.0.0.1", port)
        fourth.write(REQUEST)
        assert (await read_answer(reader)).endswith(b"ok")
        third.close()
        await close(fourth)
        await close(opened[1][1])


def test_the_rest_of_the_process_keeps_descriptors():
    assert find_connections_max(None, 20_000) == 20_000 - FILES_FOR_THE_REST
    assert find_connections_max(500, 20_000) == 500
    assert find_connections_max(50_000, 1_024) == 1_024 - FILES_FOR_THE_REST


REFUSED_BYTES = 3_000_000
REFUSED = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % REFUSED_BYTES


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop])
def run(request) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Run a coroutine on one of the two loops."""

    def run_on(coroutine: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(coroutine)

    return run_on


def test_the_rest_of_a_refused_body_waits_after_each_piece(run, monkeypatch):
    monkeypatch.setattr(connections, "REST_PAUSE_S", 3_600)

    async def send() -> None:
        async with serving(handler=refuse) as (port, server):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(REFUSED)
            assert (await read_answer(reader)).startswith(b"HTTP/1.1 413")
            [connection] = server.connections
            assert connection.transport is not None
            assert connection.transport.is_reading()
            writer.write(bytes(REFUSED_BYTES))
            is_reading = connection.transport.is_reading
            assert await asyncio.to_thread(poll, lambda: not is_reading(), PATIENCE_S)
            for _ in range(100):  # aiohttp takes the piece out of its buffer, and goes on
                await asyncio.sleep(0)
                assert not connection.transport.is_reading()
            writer.transport.abort()

    run(send())


def test_the_whole_rest_is_taken_piece_by_piece(run, monkeypatch):
    monkeypatch.setattr(connections, "REST_PAUSE_S", 0.001)

    async def send() -> None:
        async with serving(handler=refuse) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(REFUSED + bytes(REFUSED_BYTES))
            async with asyncio.timeout(PATIENCE_S):
                await writer.drain()
            assert (await read_to_the_end(reader)).endswith(b"\r\n\r\nno")
            writer.close()

    run(send())
