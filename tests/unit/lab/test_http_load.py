"""The generator of `pitboss bench gateway`: closed and open loops over kept connections."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from itertools import repeat

import pytest
from aiohttp import web

from lab.bench.http_load import (
    HttpLoad,
    KeptConnection,
    book_first,
    close_loop,
    connected,
    find_body,
    offer,
)
from lab.bench.processes import BenchFailed

OK = b'{"status":"RS_OK"}'


def request(body: bytes) -> bytes:
    return b"POST /bet HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


async def run_loop(load: HttpLoad, in_flight: int, end_s: float) -> None:
    async with connected(load.port, in_flight) as connections:
        await close_loop(load, connections, end_s)


class Door:
    """A door that answers every call, late where its body says so, and counts them."""

    def __init__(self) -> None:
        self.in_progress = self.most = 0
        self.bodies: list[bytes] = []

    async def answer(self, call: web.BaseRequest) -> web.Response:
        self.in_progress += 1
        self.most = max(self.most, self.in_progress)
        body = await call.read()
        self.bodies.append(body)
        await asyncio.sleep(0.2 if body == b"late" else 0.001)
        self.in_progress -= 1
        return web.Response(body=b'{"status":"RS_ERROR"}' if body == b"wrong" else OK)


@asynccontextmanager
async def open_door() -> AsyncIterator[tuple[Door, int]]:
    door = Door()
    server = web.Server(door.answer, access_log=None)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        yield door, listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await server.shutdown(0.1)


async def test_a_closed_loop_keeps_so_many_calls_in_flight_and_sends_each_once():
    async with open_door() as (door, port):
        load = HttpLoad(port, deque(request(b"%d" % number) for number in range(40)))
        await run_loop(load, 4, time.perf_counter() + 60)
    assert door.most == 4
    assert sorted(map(int, door.bodies)) == list(range(40))
    assert len(load.calls) == 40
    assert not load.stock
    assert all(took_ms >= 1 for _, took_ms in load.calls)


async def test_a_closed_loop_goes_on_when_its_stock_is_used_up_and_ends_in_time():
    async with open_door() as (door, port):
        load = HttpLoad(port, deque([request(b"x")]), repeat(request(b"more")))
        await run_loop(load, 2, time.perf_counter() + 0.5)
    assert door.bodies.count(b"x") == 1
    assert set(door.bodies) == {b"x", b"more"}


async def test_an_open_loop_counts_the_wait_for_a_connection_as_the_call_s(monkeypatch):
    monkeypatch.setattr("lab.bench.http_load.OPEN_CONNECTIONS", 1)
    monkeypatch.setattr("lab.bench.http_load.OVERTIME", 1_000)
    async with open_door() as (door, port):
        load = HttpLoad(port, deque(map(request, (b"late", b"a", b"b"))))
        await offer(load, 100)
    assert door.bodies == [b"late", b"a", b"b"]
    took = [took_ms for _, took_ms in load.calls]
    # The second was due 10 ms after the first, whose answer took 200: it waited behind it.
    assert took[0] >= 200
    assert took[1] >= 180


async def test_an_open_loop_ends_though_a_side_cannot_keep_up(monkeypatch):
    monkeypatch.setattr("lab.bench.http_load.OPEN_CONNECTIONS", 1)
    async with open_door() as (_, port):
        load = HttpLoad(port, deque(request(b"late") for _ in range(20)))
        await offer(load, 200)  # 20 calls in 0.1 s, each of which takes 0.2 s
    assert 1 <= len(load.calls) <= 2
    assert len(load.calls) + len(load.unsent_ms) == 20
    # The last was due after 95 ms, and nothing was sent from 300 ms on.
    assert min(load.unsent_ms) == pytest.approx(205)


async def test_a_bet_that_is_not_booked_ends_the_measurement():
    async with open_door() as (_, port):
        load = HttpLoad(port, deque([request(b"wrong")]))
        with pytest.raises(BenchFailed, match="was not booked"):
            await run_loop(load, 1, time.perf_counter() + 60)


async def test_a_side_that_hangs_up_ends_the_measurement():
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            await reader.readuntil(b"\r\n\r\n")

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        with pytest.raises(BenchFailed, match="got no answer"):
            await run_loop(HttpLoad(port, deque([request(b"x")])), 1, time.perf_counter() + 60)


async def test_a_side_that_never_answers_ends_the_measurement(monkeypatch):
    monkeypatch.setattr("lab.bench.http_load.RETURN_WITHIN_S", 0.2)
    held = asyncio.Event()

    async def keep_silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            await held.wait()

    async with await asyncio.start_server(keep_silent, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        with pytest.raises(BenchFailed, match="did not come back"):
            await run_loop(HttpLoad(port, deque([request(b"x")])), 1, time.perf_counter() + 0.5)
        held.set()


async def test_the_first_bets_are_sent_until_one_is_booked():
    async with open_door() as (door, port):
        await book_first(port, [request(b"wrong"), request(b"fine"), request(b"unsent")])
        assert door.bodies == [b"wrong", b"fine"]
        with pytest.raises(BenchFailed, match="no bet was booked"):
            await book_first(port, [request(b"wrong")])


async def test_an_answer_may_come_in_any_pieces():
    async def answer_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            await reader.readuntil(b"\r\n\r\n")
            for piece in (b"HTTP/1.1 200 OK\r\nContent-Le", b"ngth: 4\r\n\r", b"\nab", b"cd"):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.01)

    async with await asyncio.start_server(answer_slowly, "127.0.0.1", 0) as listener:
        connection = await KeptConnection.open(listener.sockets[0].getsockname()[1])
        assert await connection.send(request(b"x")) == b"abcd"
        connection.close()


def test_the_body_of_an_answer_is_found_when_it_is_whole():
    whole = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nserver: x\r\n\r\nok"
    assert find_body(whole) == b"ok"
    assert find_body(whole[:-1]) is None
    assert find_body(whole[:-4]) is None
    assert find_body(b"") is None
