"""Commands to all workers at once: `pitboss.control.v1`, read by each of them whole, from its end,
in no group.

A command is JSON: {"command": "pause" | "resume" | "reload", "component": name or "*"}. It reaches
whoever runs; a worker that starts later begins unpaused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import ConsumerStoppedError, KafkaError
from mode import Service

from runtime.kafka.clients import METADATA_AGE_MS, is_retriable, stop_client
from runtime.kafka.intake.intake import Intake
from runtime.kafka.tasks import crash_on_stray_cancel

EVERY_COMPONENT = "*"
POLL_MS = 500
RETRY_S = 2.0


class ControlCommand(StrEnum):
    """What a worker can be told."""

    PAUSE = "pause"
    RESUME = "resume"
    RELOAD = "reload"


class ControlMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """One command to one component, or to every one."""

    command: ControlCommand
    component: str


def read_command(value: bytes | None, component: str) -> ControlCommand | None:
    """The command, if it is one and meant for this component.

    Raises ValueError for what is no command.
    """
    try:
        message = msgspec.json.decode(value or b"", type=ControlMessage)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
    return message.command if message.component in {component, EVERY_COMPONENT} else None


class Control(Service):
    """Carries out the commands for one component: pauses and resumes its intakes, calls its reload."""

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        component: str,
        intakes: list[Intake],
        *,
        on_reload: Callable[[], Awaitable[None]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._bootstrap_servers = bootstrap_servers
        self._topic = topic
        self._component = component
        self._intakes = intakes
        self._on_reload = on_reload

    async def execute(self, command: ControlCommand) -> None:
        """Carry out one command."""
        self.log.info("%s: %s", self._component, command)
        match command:
            case ControlCommand.PAUSE:
                for intake in self._intakes:
                    intake.pause("paused through the control topic")
            case ControlCommand.RESUME:
                for intake in self._intakes:
                    intake.resume()
            case ControlCommand.RELOAD:
                if self._on_reload is not None:
                    await self._on_reload()

    @Service.task
    @crash_on_stray_cancel
    async def _listen(self) -> None:
        while not self.should_stop:
            consumer = AIOKafkaConsumer(
                self._topic,
                bootstrap_servers=self._bootstrap_servers,
                client_id=f"{self._component}.control",
                group_id=None,
                auto_offset_reset="latest",
                metadata_max_age_ms=METADATA_AGE_MS,
            )
            try:
                await consumer.start()
                await self._obey_all(consumer)
            except ConsumerStoppedError:
                return
            except KafkaError as error:
                if not is_retriable(error):
                    raise
                self.log.warning("no commands reach this worker: %s", error)
                await self.sleep(RETRY_S)
            finally:
                await stop_client(consumer)

    async def _obey_all(self, consumer: AIOKafkaConsumer) -> None:
        while not self.should_stop:
            for records in (await consumer.getmany(timeout_ms=POLL_MS)).values():
                for record in records:
                    try:
                        command = read_command(record.value, self._component)
                    except ValueError as error:
                        self.log.warning(
                            "%s-%d@%d: %s", record.topic, record.partition, record.offset, error
                        )
                        continue
                    if command is not None:
                        await self.execute(command)
