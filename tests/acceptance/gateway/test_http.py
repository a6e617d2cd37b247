"""What a request may be, whoever sends it."""

from __future__ import annotations

import asyncio

import pytest

from tests.acceptance.gateway.conftest import Client
from tests.acceptance.gateway.test_wallets import bet

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/hub88/transaction/steal", 404),
        ("POST", "/nobody/transaction/bet", 404),
        ("GET", "/hub88/transaction/bet", 405),
        ("POST", "/brand/lucky/hub88/transaction/bet", 404),
    ],
)
async def test_paths_and_methods(client: Client, method: str, path: str, status: int):
    url = f"http://127.0.0.1:{client.door.port}{path}"
    async with client.session.request(method, url, data=b"{}") as response:
        assert response.status == status
        assert response.headers["server"] == "pitboss"


async def test_a_body_that_is_too_large_is_not_read(client: Client):
    request = client.request("hub88", bet("hub88", "p", 1))
    status, _, _ = await client.send("hub88", request._replace(body=b" " * 40_000))
    assert status == 413


async def test_a_body_that_never_ends_costs_its_sender_the_connection(client: Client):
    reader, writer = await asyncio.open_connection("127.0.0.1", client.door.port)
    writer.write(b"POST /playngo HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n<reserve>")
    answer = await asyncio.wait_for(reader.read(), 180)
    assert answer.startswith(b"HTTP/1.1 408 ")
    writer.close()
