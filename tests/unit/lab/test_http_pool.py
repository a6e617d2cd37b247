"""Kept connections: one request at a time, answers in pieces, and what becomes of broken ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from lab.load.http_pool import HttpPool

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[tuple[HttpPool, list[int]]]:
    """A server that hands each request's body to `serve`, and the ports that its clients came from."""
    peers: list[int] = []
    handlers: set[asyncio.Task[None] | None] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.current_task())
        peers.append(writer.get_extra_info("peername")[1])
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
                await serve(reader, writer, await reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.transport.abort()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    pool = HttpPool(server.sockets[0].getsockname()[1], timeout_s=5.0)
    try:
        yield pool, peers
    finally:
        pool.close()
        server.close()
        await asyncio.gather(*filter(None, handlers))


def request(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def answer(body: bytes, status: int = 200, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n%b\r\n%b" % (status, len(body), more, body)


async def echo(_: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> None:
    writer.write(answer(body))


async def test_calls_one_after_the_other_share_a_connection():
    async with serving(echo) as (pool, peers):
        for number in range(5):
            assert await pool.call(request(b"%d" % number)) == (200, b"%d" % number)
        assert len(peers) == 1


async def test_calls_at_the_same_time_have_connections_of_their_own():
    gate, arrived = asyncio.Event(), asyncio.Semaphore(0)

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> None:
        arrived.release()
        await gate.wait()
        await echo(reader, writer, body)

    async with serving(wait) as (pool, peers):
        calls = [asyncio.ensure_future(pool.call(request(b"%d" % n))) for n in range(4)]
        for _ in calls:
            await arrived.acquire()
        assert len(peers) == 4
        gate.set()
        assert [(await call).body for call in calls] == [b"0", b"1", b"2", b"3"]


async def test_above_so_many_connections_a_call_waits_for_one():
    gate, waiting = asyncio.Event(), asyncio.Semaphore(0)

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> None:
        waiting.release()
        await gate.wait()
        await echo(reader, writer, body)

    async with serving(wait) as (pool, peers):
        small = HttpPool(pool._port, 5.0, connections_max=2)
        calls = [asyncio.ensure_future(small.call(request(b"%d" % n))) for n in range(6)]
        for _ in range(2):
            await waiting.acquire()
        gate.set()
        assert [(await call).body for call in calls] == [b"%d" % n for n in range(6)]
        assert len(peers) == 2
        small.close()


async def test_a_connection_that_is_free_again_may_be_taken_before_its_last_call_goes_on():
    async with serving(echo) as (pool, peers):

        async def call_on(name: bytes) -> list[bytes]:
            return [(await pool.call(request(name))).body for _ in range(50)]

        names = [b"0", b"1", b"2"]
        assert await asyncio.gather(*map(call_on, names)) == [[name] * 50 for name in names]
        assert len(peers) <= 3


async def test_an_answer_may_come_byte_by_byte():
    async def dribble(_: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> None:
        for byte in answer(body * 3, status=503):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    async with serving(dribble) as (pool, _):
        assert await pool.call(request(b"abc")) == (503, b"abcabcabc")
        assert await pool.call(request(b"d")) == (503, b"ddd")


async def test_a_connection_that_the_server_closes_is_not_used_again():
    async def once(_: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> None:
        writer.write(answer(body, more=b"Connection: close\r\n"))
        writer.close()

    async with serving(once) as (pool, peers):
        for _ in range(3):
            assert (await pool.call(request(b"x"))).body == b"x"
        assert len(peers) == 3


async def test_a_connection_that_breaks_off_fails_its_call_alone():
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> None:
        if body == b"cut":
            writer.write(b"HTTP/1.1 200 OK\r\n")
            writer.transport.abort()
        else:
            await echo(reader, writer, body)

    async with serving(cut) as (pool, _):
        with pytest.raises(OSError, match="the connection ended"):
            await pool.call(request(b"cut"))
        assert (await pool.call(request(b"whole"))).body == b"whole"


async def test_silence_ends_by_the_time_out_and_its_answer_goes_to_no_later_call():
    pending: list[asyncio.StreamWriter] = []

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> None:
        if body == b"first":
            pending.append(writer)
        else:
            writer.write(answer(body))

    async with serving(hold) as (pool, _):
        pool._timeout_s = 0.05
        with pytest.raises(TimeoutError):
            await pool.call(request(b"first"))
        pool._timeout_s = 5.0
        pending[0].write(answer(b"first"))
        assert (await pool.call(request(b"second"))).body == b"second"


async def test_a_cancelled_call_gives_its_connection_up():
    arrived = asyncio.Event()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> None:
        arrived.set()
        if body != b"cancelled":
            writer.write(answer(body))

    async with serving(silent) as (pool, peers):
        call = asyncio.ensure_future(pool.call(request(b"cancelled")))
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await pool.call(request(b"next"))).body == b"next"
        assert len(peers) == 2


async def test_a_server_that_is_not_there_is_an_error():
    async with serving(echo) as (pool, _):
        pass
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await pool.call(request(b"x"))
