"""The archiver as a service of the worker process: a thread, with a pass every few seconds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection

from mode import Service

from replay.archive.archiver import Archiver
from runtime.certificates import ConnectionFault
from schemas.errors import Unavailable


class ArchiveService(Service):
    """Runs passes of an archiver until it is stopped; an error that is not retriable ends it."""

    def __init__(
        self,
        connect: Callable[[], tuple[Archiver, Callable[[], None]]],
        list_topics: Callable[[], Collection[str]],
        pause_s: float,
    ) -> None:
        """Take what connects (with what closes again), and how the topics are found."""
        super().__init__()
        self._connect = connect
        self._list_topics = list_topics
        self._pause_s = pause_s
        self._stopping = threading.Event()
        self.passes = 0
        """Passes that ended without an error since the start."""

    @Service.task
    async def _archive(self) -> None:
        while not self.should_stop:
            try:
                await asyncio.to_thread(self._run_passes)
            except ConnectionFault:
                raise  # no waiting mends a refused certificate or login
            except Unavailable as error:
                self.log.warning("%s; trying again", error)
                await self.sleep(self._pause_s)

    def _run_passes(self) -> None:
        archiver, close = self._connect()
        try:
            archiver.finish_planned()
            while not self._stopping.is_set():
                archiver.archive(self._list_topics(), self._stopping.is_set)
                self.passes += 1
                self._stopping.wait(self._pause_s)
        finally:
            close()

    async def on_stop(self) -> None:
        """End after the topic that is being looked at."""
        self._stopping.set()
