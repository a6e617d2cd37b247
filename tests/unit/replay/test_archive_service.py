"""The archiver as a service: it ends between two topics, and tries again while a server is away."""

from __future__ import annotations

import asyncio
import threading

import pytest

from replay.archive.service import ArchiveService
from runtime.certificates import LoginRefused, UnknownAuthority
from schemas.errors import Unavailable


class Scripted:
    """An archiver that waits in its first topic until it is let go."""

    def __init__(self) -> None:
        self.topics: list[str] = []
        self.entered, self.let_go = threading.Event(), threading.Event()

    def finish_planned(self) -> int:
        return 0

    def archive(self, topics, should_stop) -> int:
        for topic in sorted(topics):
            if should_stop():
                break
            self.topics.append(topic)
            self.entered.set()
            assert self.let_go.wait(60)
        return 0


async def test_a_stop_ends_between_two_topics_and_closes():
    archiver, closed = Scripted(), threading.Event()
    service = ArchiveService(lambda: (archiver, closed.set), lambda: ["b", "a", "c"], 30)  # type: ignore[arg-type,return-value]
    await service.start()
    await asyncio.to_thread(archiver.entered.wait, 60)
    stopping = asyncio.ensure_future(service.stop())
    assert await asyncio.to_thread(service._stopping.wait, 60)
    archiver.let_go.set()
    await asyncio.wait_for(stopping, 60)
    assert archiver.topics == ["a"]
    assert await asyncio.to_thread(closed.wait, 60)


async def test_a_server_that_is_away_is_tried_again():
    archiver, attempts = Scripted(), []
    archiver.let_go.set()

    def connect():
        attempts.append(1)
        if len(attempts) < 3:
            raise Unavailable("no broker answers")
        return archiver, lambda: None

    service = ArchiveService(connect, lambda: ["a"], 0.01)
    await service.start()
    await asyncio.to_thread(archiver.entered.wait, 60)
    await asyncio.wait_for(service.stop(), 60)
    assert len(attempts) == 3


async def test_passes_are_counted_when_they_have_ended():
    archiver = Scripted()
    service = ArchiveService(lambda: (archiver, lambda: None), lambda: ["a"], 0.01)  # type: ignore[arg-type,return-value]
    await service.start()
    await asyncio.to_thread(archiver.entered.wait, 60)
    assert service.passes == 0
    archiver.let_go.set()
    async with asyncio.timeout(60):
        while service.passes < 2:  # noqa: ASYNC110 - a plain number
            await asyncio.sleep(0.01)
    await service.stop()


@pytest.mark.parametrize("fault", [UnknownAuthority("the broker's"), LoginRefused("of ours")])
async def test_what_no_waiting_mends_ends_it(fault):
    def connect():
        raise fault

    service = ArchiveService(connect, lambda: ["a"], 0.01)
    await service.start()
    await asyncio.wait_for(service.wait_until_stopped(), 60)
    assert service.crash_reason is fault
