"""Callers that behave badly, in a process of their own: `python -m … NAME PORT PATH` until it is killed.

They say `ready` when all of them are connected.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress

from gateway.connections import allow_open_files

CONNECTIONS = 10_000
OPENED_AT_ONCE = 200
BODY_BYTES = 10_000_000


async def send_a_byte_a_second(port: int, path: str) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    with closing(writer), suppress(OSError):
        for character in f"POST {path} HTTP/1.1\r\nhost: {'x' * 1_000}":
            writer.write(character.encode())
            await writer.drain()
            await asyncio.sleep(1)


async def never_read(port: int, path: str) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as deaf, suppress(OSError):
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.setblocking(False)
        await loop.sock_connect(deaf, ("127.0.0.1", port))
        await loop.sock_sendall(deaf, f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode() * 100_000)
        await asyncio.Event().wait()


async def send_large_bodies(port: int, path: str) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    with closing(writer), suppress(OSError):
        writer.write(
            f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {BODY_BYTES}\r\n\r\n".encode()
        )
        for _ in range(BODY_BYTES // 100_000):
            writer.write(bytes(100_000))
            await writer.drain()


CALLERS: dict[str, tuple[int, Callable[[int, str], Awaitable[None]]]] = {
    "a byte a second": (200, send_a_byte_a_second),
    "no reading": (50, never_read),
    "large bodies": (10, send_large_bodies),
}
"""How many of a kind there are, and what each does again and again."""


async def repeat(call: Callable[[int, str], Awaitable[None]], port: int, path: str) -> None:
    while True:
        with suppress(OSError):
            await call(port, path)


async def main(name: str, port: int, path: str) -> None:
    allow_open_files()
    kept = []
    if name == "many connections":
        for _ in range(CONNECTIONS // OPENED_AT_ONCE):
            opening = [asyncio.open_connection("127.0.0.1", port) for _ in range(OPENED_AT_ONCE)]
            kept += await asyncio.gather(*opening)
    number, call = CALLERS.get(name, (0, never_read))
    calling = [asyncio.ensure_future(repeat(call, port, path)) for _ in range(number)]
    print("ready", flush=True)
    await asyncio.gather(*calling, asyncio.Event().wait())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
