"""A Faust app that runs agents on batches.

Faust gives agents, channels and supervision. It gets no consumer, producer, tables or web server of
its own: its boot strategy leaves Kafka out, so no rebalance of Faust's can touch our channels. A
domain is composed so:

    app = create_app(AppSettings("ledger", broker))
    producer = app.supervise(BatchProducer(...))
    intake = add_agent(app, IntakeSettings(...), handle, topics=[...])

where `handle` takes one `RecordBatch` and makes its effects durable; `agent_loop.Handle` is its
contract. `process.run_worker` runs such an app.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import faust
from faust.app.base import BootStrategy
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from mode import CrashingSupervisor, Service
from mode.types import ServiceT

from runtime.kafka.agent_loop import Handle, process_batches
from runtime.kafka.batches import BatchChannel
from runtime.kafka.intake.chunked_reads import Reader
from runtime.kafka.intake.intake import Intake, IntakeSettings, StartPositions
from runtime.kafka.producer import BatchProducer
from runtime.kafka.watchdog import Watchdog, WatchdogSettings
from runtime.security import BrokerAddress

if TYPE_CHECKING:  # a worker without telemetry does not load its libraries
    from runtime.telemetry.worker import WorkerTelemetry

S = TypeVar("S", bound=Service)


@dataclass(frozen=True)
class AppSettings:
    """Settings of a Faust app; everything else is off."""

    name: str
    broker: BrokerAddress


class AgentsOnlyBootStrategy(BootStrategy):
    """Boot strategy that starts agents only: the services that the app supervises use Kafka."""

    enable_kafka = False
    enable_web = False
    enable_sensors = False


class IdleConsumer(Consumer):
    """Faust's consumer, which connects to nothing: the app's boot strategy never starts it.

    Streams of an app look at `app.consumer` even where nothing is read through it. Making one makes
    a thread service with an event loop that only its start and stop would close. This one borrows
    the app's loop instead.
    """

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return AIOKafkaConsumerThread(
            self, loop=self.loop, thread_loop=self.loop, beacon=self.beacon
        )


class IdleTransport(Transport):
    """Faust's Kafka transport, with a consumer that never runs."""

    Consumer = IdleConsumer


class PitbossApp(faust.App):
    """A Faust app that supervises further services."""

    BootStrategy: ClassVar[type[BootStrategy]] = AgentsOnlyBootStrategy

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take what `faust.App` takes."""
        self._supervised: list[Service] = []
        self._on_observed: list[Callable[[WorkerTelemetry], None]] = []
        self.telemetry: WorkerTelemetry | None = None
        """What the worker's batches are shown to; None where telemetry is off."""
        super().__init__(*args, **kwargs)

    def supervise(self, service: S, *, is_first: bool = False) -> S:
        """Start a service with the app, after the agents and the services added before it.

        With `is_first` it starts before those services. They stop in the opposite order, so an
        intake that was added last drains while its agents and their producer still work. A crash of
        any of them ends the app.
        """
        self._supervised.insert(0 if is_first else len(self._supervised), service)
        return service

    def _new_transport(self) -> IdleTransport:
        return IdleTransport(self.conf.broker_consumer, self)

    @property
    def intakes(self) -> list[Intake]:
        """The intakes under supervision, to be paused or asked for their status."""
        return [service for service in self._supervised if isinstance(service, Intake)]

    @property
    def watchdogs(self) -> list[Watchdog]:
        """The watchdogs under supervision, which know the ends of the logs."""
        return [service for service in self._supervised if isinstance(service, Watchdog)]

    @property
    def producers(self) -> list[BatchProducer]:
        """The producers under supervision, which count what they send."""
        return [service for service in self._supervised if isinstance(service, BatchProducer)]

    def when_observed(self, begin: Callable[[WorkerTelemetry], None]) -> None:
        """Call `begin` where telemetry is on, before anything starts: it adds what to collect."""
        self._on_observed.append(begin)

    def observe(self, telemetry: WorkerTelemetry) -> None:
        """Turn telemetry on; to be called before the start."""
        self.telemetry = telemetry
        for begin in self._on_observed:
            begin(telemetry)

    def on_init_dependencies(self) -> Iterable[ServiceT]:
        """Return Faust's own services (the agents), then the supervised ones."""
        return [*super().on_init_dependencies(), *self._supervised]

    async def on_first_start(self) -> None:
        """Create no directories: Faust would make them for tables, which this app does not have."""


def create_app(settings: AppSettings) -> PitbossApp:
    """Create an app without agents; nothing is connected or started."""
    return PitbossApp(
        settings.name,
        **settings.broker.faust_options(),
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
    """Attach an intake with its watchdog, and a Faust agent that handles its batches.

    Services that `handle` uses must be supervised before this is called. At most `concurrency_max`
    partitions are handled at the same time. With a `reader`, batches come with what it made of the
    records in their place.
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
            observe=None if app.telemetry is None else app.telemetry.observe_batch(settings.group),
        )

    app.agent(channel, name=name)(agent)
    app.supervise(intake)
    app.supervise(Watchdog(watchdog or WatchdogSettings(settings.broker), intake))
    return intake
