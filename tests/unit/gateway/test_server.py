"""The HTTP server on a desk without a broker: what is no provider's call is answered and counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

import aiohttp
import pytest

from gateway.server import GatewayServer
from lab.conformance.calls import CallOrder, make_intent, make_request
from lab.conformance.intents import Verb
from lab.conformance.writers.find import find_writers
from lab.conformance.writers.writer import Sending
from streams.providers.registry import DIALECTS
from tests.unit.gateway.scene import AT_MS, SECRETS, TABLE, Scene


@asynccontextmanager
async def listening(**settings: Any) -> AsyncIterator[tuple[Scene, str]]:
    scene = Scene(port=0, **settings)
    server = GatewayServer(scene.settings, TABLE, scene.desk, scene.stats)
    await server.on_start()
    try:
        yield scene, f"http://127.0.0.1:{server.port}"
    finally:
        await server.on_stop()


def notice() -> tuple[str, bytes]:
    writer, face = find_writers(("adyen",))["adyen"], DIALECTS["adyen"].face
    assert face is not None
    order = CallOrder(Verb.DEPOSIT, "p-1", "8815999999999999", 5_000, deposit_id="d-1", at_ms=AT_MS)
    request = make_request(
        writer, face, make_intent(writer, order), Sending(AT_MS), SECRETS["adyen"]
    )
    return request.path, request.body


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "ending"),
    [
        ("POST", "/hub88/transaction/steal", b"{}", 404, "refused, no such path"),
        ("GET", "/hub88/transaction/bet", b"", 405, "refused, no such method"),
        ("POST", "/hub88/transaction/bet", bytes(40_000), 413, "refused, its body is too large"),
        ("POST", "/adyen/notifications", bytes(10_000_000), 413, "refused, its body is too large"),
    ],
)
async def test_what_is_no_call_is_answered_and_counted(method, path, body, status, ending):
    async with listening() as (scene, url), aiohttp.ClientSession() as session:
        async with session.request(method, url + path, data=BytesIO(body)) as response:
            assert response.status == status
        assert scene.stats.endings == {ending: 1}
        assert not scene.appender.records


async def test_a_body_may_come_behind_its_head_and_in_pieces():
    path, body = notice()
    async with listening() as (scene, url):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        head = f"POST /adyen{path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode())
        for piece in (body[:20], body[20:]):
            await asyncio.sleep(0.05)
            writer.write(piece)
        answer = await asyncio.wait_for(reader.readuntil(b"[accepted]"), 10)
        assert answer.startswith(b"HTTP/1.1 200 ")
        [(_, _, kept, _)] = scene.appender.records
        assert kept == body
        writer.close()


async def test_a_body_that_comes_too_slowly_is_answered_and_counted():
    async with listening(body_timeout_s=0.1) as (scene, url):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(b"POST /playngo HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n<reserve>")
        answer = await asyncio.wait_for(reader.read(), 60)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert scene.stats.endings == {"refused, its body came too slowly": 1}
        writer.close()


async def test_a_call_is_answered_while_others_send_a_byte_now_and_then():
    path, body = notice()
    async with listening(head_timeout_s=30.0) as (scene, url), aiohttp.ClientSession() as session:
        port = int(url.rpartition(":")[2])
        slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
        for _, writer in slow:
            writer.write(b"POST /adyen/notif")
        for _ in range(3):
            headers = {"content-type": "application/json"}
            async with session.post(f"{url}/adyen{path}", data=body, headers=headers) as response:
                assert (response.status, await response.read()) == (200, b"[accepted]")
        assert scene.stats.endings == {"kept": 3}
        for _, writer in slow:
            writer.close()
