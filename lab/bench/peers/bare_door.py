"""The floor of `pitboss bench gateway`: an empty aiohttp handler before the bare hops.

A call's body is appended to the raw topic under a key of its own, and answered when a record with
that key comes out of the hops (`bare_hops.py`). Nothing is read, checked, or taken back.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Sequence
from itertools import count
from typing import Any, Final

import msgspec
import uvloop
from aiohttp import web
from aiokafka import AIOKafkaProducer

from lab.bench.load_generator import OutcomeStream
from runtime.kafka.partitioner import partition_for
from runtime.security import BrokerAddress

_ANSWER: Final = b'{"status":"RS_OK"}'


class BareDoorSettings(msgspec.Struct, frozen=True):
    """The one argument of this process, as JSON."""

    broker: BrokerAddress
    port: int
    raw: str
    outcomes: str


class BareDoor:
    """The handler, and the batches that its calls form."""

    def __init__(self, producer: AIOKafkaProducer, raw: str, partitions: int) -> None:
        """Send to so many partitions of `raw`."""
        self._producer = producer
        self._raw = raw
        self._partitions = partitions
        self._numbers = count()
        self._inbox: list[tuple[bytes, bytes]] = []
        self._has_more = asyncio.Event()
        self._waiting: dict[bytes, asyncio.Future[None]] = {}

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer a call when its record is through."""
        body = await request.read()
        # Of this process alone: outcomes of one before may still come.
        key = b"%d-%d" % (os.getpid(), next(self._numbers))
        waiting = self._waiting[key] = asyncio.get_running_loop().create_future()
        self._inbox.append((key, body))
        self._has_more.set()
        await waiting
        return web.Response(body=_ANSWER, content_type="application/json")

    def take(self, _: int, messages: Sequence[Any]) -> None:
        """Answer the calls of some outcomes."""
        for message in messages:
            waiting = self._waiting.pop(message.key(), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)

    async def send(self) -> None:
        """Send what has come, in ready batches, for ever."""
        while True:
            await self._has_more.wait()
            self._has_more.clear()
            records, self._inbox = self._inbox, []
            groups: defaultdict[int, Any] = defaultdict(self._producer.create_batch)
            for key, body in records:
                batch = groups[partition_for(key, self._partitions)]
                assert batch.append(timestamp=None, key=key, value=body) is not None, "a full batch"
            for partition, batch in groups.items():
                await self._producer.send_batch(batch, self._raw, partition=partition)


async def serve(settings: BareDoorSettings) -> None:
    """Serve until SIGTERM."""
    producer = AIOKafkaProducer(
        **settings.broker.aiokafka_options(), enable_idempotence=True, acks="all", linger_ms=0
    )
    await producer.start()
    partitions = len(await producer.partitions_for(settings.raw))
    door, loop = BareDoor(producer, settings.raw, partitions), asyncio.get_running_loop()
    is_over = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, is_over.set)
    async with OutcomeStream(settings.broker, settings.outcomes, door.take):
        sending = asyncio.ensure_future(door.send())
        server = web.Server(door.answer, access_log=None)
        listener = await loop.create_server(server, "127.0.0.1", settings.port, backlog=1_024)
        ended = asyncio.ensure_future(is_over.wait())
        await asyncio.wait([sending, ended], return_when=asyncio.FIRST_COMPLETED)
        listener.close()
        if sending.done():
            sending.result()  # it never ends but by an error
        sending.cancel()
    await producer.stop()


def main(argument: str) -> None:
    """Serve with settings as JSON."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(msgspec.json.decode(argument, type=BareDoorSettings)))


if __name__ == "__main__":
    main(sys.argv[1])
