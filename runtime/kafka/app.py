"""A Faust app that runs agents on batches, and the process around it.

Faust gives agents, channels and supervision. It gets no consumer, producer, tables or web server of
its own: its boot strategy leaves Kafka out, so no rebalance of Faust's can touch our channels. A
domain is put together so:

    app = create_app(AppSettings("ledger", bootstrap_servers))
    producer = app.supervise(BatchProducer(...))
    intake = add_agent(app, IntakeSettings(...), handle, topics=[...])

where `handle` takes one `RecordBatch` and makes its effects durable; see `lanes.process_batches`
for its contract.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import faust
from faust.app.base import BootStrategy
from mode import CrashingSupervisor, Service
from mode.types import ServiceT

from runtime.kafka.agent_loop import Handle, process_batches
from runtime.kafka.batches import BatchChannel
from runtime.kafka.idle_consumer import IdleTransport
from runtime.kafka.intake.chunked_reads import Reader
from runtime.kafka.intake.intake import Intake, IntakeSettings, StartPositions
from runtime.kafka.log_throttle import LogThrottle
from runtime.kafka.memory_tuning import tune_memory
from runtime.kafka.watchdog import Watchdog, WatchdogSettings
from schemas.errors import PitbossError

logger = logging.getLogger(__name__)

S = TypeVar("S", bound=Service)

STOP_TIMEOUT_S = 40.0
"""Longer than an intake's drain and a producer's flush; what hangs beyond it is cut off, and
repeated by others.
"""

STDERR = 2
BLOCKED_S = 120.0
"""How long code may keep the event loop to itself before the process is ended with its stacks
printed.
"""


@dataclass(frozen=True)
class AppSettings:
    """What a Faust app needs to be told; everything else is off."""

    name: str
    bootstrap_servers: str


class AgentsOnlyBootStrategy(BootStrategy):
    """Starts agents only: Kafka is the business of the services that the app supervises."""

    enable_kafka = False
    enable_web = False
    enable_sensors = False


class PitbossApp(faust.App):
    """A Faust app with services of ours under its supervision."""

    BootStrategy: ClassVar[type[BootStrategy]] = AgentsOnlyBootStrategy

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._supervised: list[Service] = []
        super().__init__(*args, **kwargs)

    def supervise(self, service: S) -> S:
        """Start a service with the app, after the agents and those before it; they stop in the
        opposite order.

        So an intake that was added last drains while its agents and their producer still work. A
        crash of any of them ends the app.
        """
        self._supervised.append(service)
        return service

    def _new_transport(self) -> IdleTransport:
        return IdleTransport(self.conf.broker_consumer, self)

    @property
    def intakes(self) -> list[Intake]:
        """What the app reads with: for whoever pauses it or asks how far it is."""
        return [service for service in self._supervised if isinstance(service, Intake)]

    def on_init_dependencies(self) -> Iterable[ServiceT]:
        """Faust's own services (the agents), then ours."""
        return [*super().on_init_dependencies(), *self._supervised]

    async def on_first_start(self) -> None:
        """Faust would create directories for tables here; there are none."""


def create_app(settings: AppSettings) -> PitbossApp:
    """An app without agents; nothing is connected or started."""
    return PitbossApp(
        settings.name,
        broker=[f"kafka://{server}" for server in settings.bootstrap_servers.split(",")],
        autodiscover=False,
        agent_supervisor=CrashingSupervisor,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        web_tables_enabled=False,
        web_router_enabled=False,
        web_in_thread=False,
    )


def add_agent(
    app: PitbossApp,
    settings: IntakeSettings,
    handle: Handle,
    *,
    name: str,
    topics: Collection[str] = (),
    pattern: str | None = None,
    positions: StartPositions | None = None,
    concurrency_max: int | None = None,
    watchdog: WatchdogSettings | None = None,
    reader: Reader | None = None,
) -> Intake:
    """Attach an intake with its watchdog, and a Faust agent that works off its batches with
    `handle`.

    Services that `handle` uses must be supervised before this is called. `concurrency_max` bounds
    how many partitions are handled at the same time. With a `reader`, batches come without records,
    but with what it made of them.
    """
    channel = BatchChannel(app)
    intake = Intake(
        settings, channel, topics=topics, pattern=pattern, positions=positions, reader=reader
    )

    async def agent(stream: Any) -> None:
        await process_batches(
            intake,
            stream,
            handle,
            concurrency_max=concurrency_max,
            records_max=settings.batch_records_max,
        )

    app.agent(channel, name=name)(agent)
    app.supervise(intake)
    app.supervise(Watchdog(watchdog or WatchdogSettings(settings.bootstrap_servers), intake))
    return intake


def run_worker(create: Callable[[], PitbossApp] | Callable[[], Awaitable[PitbossApp]]) -> int:
    """Run an app until SIGTERM, SIGINT or a crash, and return the process's exit code.

    A signal drains: nothing more is fed, batches in work are finished and committed, clients are
    closed, 0 is returned. A crash returns the error's own code.
    """
    for handler in logging.getLogger().handlers:
        handler.addFilter(LogThrottle())
    tune_memory()
    with ExitStack() as until_ended:
        return asyncio.run(_run(create, until_ended))


async def _run(create: Callable[[], Any], until_ended: ExitStack) -> int:
    signalled = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signalled.set)
    try:
        app = create()
        if not isinstance(app, PitbossApp):
            app = await app
    except PitbossError as error:
        return _exit_code(error)
    alive = asyncio.ensure_future(_show_life())
    told, live = asyncio.ensure_future(signalled.wait()), asyncio.ensure_future(_live(app))
    await asyncio.wait([told, live], return_when=asyncio.FIRST_COMPLETED)
    reason = app.crash_reason or (live.exception() if live.done() else None)
    code = _exit_code(reason) if reason else 0
    _limit_stop(code, until_ended)
    told.cancel()
    live.cancel()
    await app.stop()
    alive.cancel()
    return code


async def _live(app: PitbossApp) -> None:
    await app.start()
    await app.wait_until_stopped()


def _limit_stop(code: int, until_ended: ExitStack) -> None:
    # By a thread: mode's services shrug off a cancellation and go on to wait for the next of them,
    # code that hangs may keep the event loop to itself, and what is left when all are stopped may
    # hang as well.
    limit = threading.Timer(STOP_TIMEOUT_S, _cut_off, [code])
    limit.daemon = True
    limit.start()
    until_ended.callback(limit.cancel)


def _cut_off(code: int) -> None:
    logger.critical("still not stopped after %.0f s: cut off", STOP_TIMEOUT_S)
    logging.shutdown()
    os._exit(code or 1)


async def _show_life() -> None:
    # Code that never returns to the event loop stops the watchdog with everything else; only a
    # thread notices.
    try:
        while True:
            faulthandler.dump_traceback_later(BLOCKED_S, exit=True, file=STDERR)
            await asyncio.sleep(BLOCKED_S / 10)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _exit_code(error: BaseException) -> int:
    if isinstance(error, PitbossError):
        logger.critical("%s: %s", error.code, error)
        return error.exit_code
    logger.critical("unexpected: %r", error, exc_info=error)
    return 1
