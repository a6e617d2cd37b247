"""The process around an app: signals, exit codes, limits on hanging, and a throttle for its log."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import ExitStack
from typing import Any, Final

import uvloop

from runtime.kafka.app import PitbossApp
from runtime.kafka.memory_tuning import (
    IDLE_CHECK_S,
    IdleDetector,
    release_memory,
    resident_bytes,
    tune_memory,
)
from schemas.errors import PitbossError

logger = logging.getLogger(__name__)

STOP_TIMEOUT_S = 40.0
"""Longer than an intake's drain and a producer's flush; what still hangs is cut off, and repeated
by other workers."""

MB: Final = 1024 * 1024
STDERR: Final = 2
BLOCKED_S: Final = 120.0
"""How long code may block the event loop before the process is ended with its stacks printed."""

LOG_EVERY_S: Final = 10.0
LOG_TEMPLATES_MAX = 1_000
KAFKA_LIBRARIES: Final = ("aiokafka", "librdkafka")


def run_worker(
    create: Callable[[], PitbossApp] | Callable[[], Awaitable[PitbossApp]],
    *,
    rss_max_bytes: int = 0,
) -> int:
    """Run an app until SIGTERM, SIGINT or a crash, and return the exit code of the process.

    A signal drains: nothing more is read, batches in progress are finished and committed, clients
    are closed, and the code is 0. So does memory of more than `rss_max_bytes` that is not free (0:
    no limit): what starts the worker again starts it small. The code of a crash is that of its
    error.
    """
    for handler in logging.getLogger().handlers:
        handler.addFilter(LogThrottle())
    tune_memory()
    # libuv's loop, and TLS not in Python: a tenth less CPU a bet, and more with TLS (ADR 39).
    with ExitStack() as until_ended, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(create, until_ended, rss_max_bytes))


async def _run(create: Callable[[], Any], until_ended: ExitStack, rss_max_bytes: int) -> int:
    signalled = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signalled.set)
    try:
        app = create()
        if not isinstance(app, PitbossApp):
            app = await app
    except PitbossError as error:
        return _exit_code(error)
    heartbeat = asyncio.ensure_future(_postpone_stack_dump())
    memory = asyncio.ensure_future(_watch_memory(rss_max_bytes, signalled))
    drain = asyncio.ensure_future(signalled.wait())
    life = asyncio.ensure_future(_start_and_wait(app))
    await asyncio.wait([drain, life], return_when=asyncio.FIRST_COMPLETED)
    reason = app.crash_reason or (life.exception() if life.done() else None)
    code = _exit_code(reason) if reason else 0
    _limit_stop(code, until_ended)
    drain.cancel()
    life.cancel()
    await app.stop()
    heartbeat.cancel()
    memory.cancel()
    return code


async def _start_and_wait(app: PitbossApp) -> None:
    await app.start()
    await app.wait_until_stopped()


def _limit_stop(code: int, until_ended: ExitStack) -> None:
    # By a thread: mode's services ignore a cancellation and wait for the next service,
    # code that hangs may block the event loop, and what is left when all services are stopped may
    # hang as well.
    limit = threading.Timer(STOP_TIMEOUT_S, _cut_off, [code])
    limit.daemon = True
    limit.start()
    until_ended.callback(limit.cancel)


def _cut_off(code: int) -> None:
    logger.critical("still not stopped after %.0f s: cut off", STOP_TIMEOUT_S)
    logging.shutdown()
    os._exit(code or 1)


async def _postpone_stack_dump() -> None:
    # Code that never returns to the event loop stops the watchdog with everything else; only a
    # thread notices.
    try:
        while True:
            faulthandler.dump_traceback_later(BLOCKED_S, exit=True, file=STDERR)
            await asyncio.sleep(BLOCKED_S / 10)
    finally:
        faulthandler.cancel_dump_traceback_later()


async def _watch_memory(rss_max_bytes: int, drain: asyncio.Event) -> None:
    """Give memory back while the worker is idle, and drain it where it has too much."""
    detector = IdleDetector(time.process_time())
    while True:
        await asyncio.sleep(IDLE_CHECK_S)
        is_large = bool(rss_max_bytes) and resident_bytes() > rss_max_bytes
        if detector.observe(time.process_time()) or is_large:
            release_memory()
        if is_large and (size := resident_bytes()) > rss_max_bytes:
            logger.warning(
                "this worker has %d MB of memory, more than PITBOSS_WORKER_RSS_MAX_MB allows (%d):"
                " it drains, to be started again",
                size // MB,
                rss_max_bytes // MB,
            )
            drain.set()
            return


def _exit_code(error: BaseException) -> int:
    if isinstance(error, PitbossError):
        logger.critical("%s: %s", error.code, error)
        return error.exit_code
    logger.critical("unexpected: %r", error, exc_info=error)
    return 1


class LogThrottle(logging.Filter):
    """Filter that passes each message of a library once in a while, with a count of those dropped.

    Without a broker, both clients log the same message twenty times in each 100 ms, which would
    fill the logs. Messages are alike if logger, level and template are, and for librdkafka, whose
    template is always the same, the first argument, which names the event; others may differ.
    """

    def __init__(
        self, libraries: Collection[str] = KAFKA_LIBRARIES, every_s: float = LOG_EVERY_S
    ) -> None:
        """Throttle the loggers of `libraries` to one message of a kind in `every_s` seconds."""
        super().__init__()
        self._libraries = frozenset(libraries)
        self._every_s = every_s
        self._last: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to let the record through."""
        library = record.name.partition(".")[0]
        if library not in self._libraries:
            return True
        kind = (record.name, record.levelno, str(record.msg))
        if library == "librdkafka" and isinstance(record.args, tuple):
            kind = (record.name, record.levelno, str(record.args[0]))
        now = time.monotonic()
        last, dropped = self._last.get(kind, (-self._every_s, 0))
        if now - last < self._every_s:
            self._last[kind] = (last, dropped + 1)
            return False
        if len(self._last) >= LOG_TEMPLATES_MAX:
            self._last.clear()
        self._last[kind] = (now, 0)
        if dropped:
            record.msg, record.args = f"{record.getMessage()} (and {dropped} alike)", ()
        return True
