"""Commands to all workers at once, over the topic `pitboss.control.v1`.

Each worker reads the whole topic from its end, in no group. A command is JSON: {"command": "pause"
| "resume", "component": name or "*"}. It reaches the workers that run; a worker that starts later
begins unpaused. A message that is not a command is logged and skipped.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import ConsumerStoppedError, KafkaError
from mode import Service

from runtime.kafka.clients import METADATA_AGE_MS, is_retriable, stop_client
from runtime.kafka.intake.intake import Intake
from runtime.kafka.tasks import crash_on_stray_cancel

EVERY_COMPONENT: Final = "*"
POLL_MS: Final = 500
RETRY_S: Final = 2.0


class ControlCommand(StrEnum):
    """Command that a worker understands."""

    PAUSE = "pause"
    RESUME = "resume"


class ControlMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """One command to one component, or to every one."""

    command: ControlCommand
    component: str


def read_command(value: bytes | None, component: str) -> ControlCommand | None:
    """Return the command, or None if it is meant for another component.

    Raises ValueError for a message that is not a command.
    """
    try:
        message = msgspec.json.decode(value or b"", type=ControlMessage)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
    return message.command if message.component in {component, EVERY_COMPONENT} else None


class Control(Service):
    """Service that executes the commands for one component: it pauses and resumes its intakes."""

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        component: str,
        intakes: list[Intake],
        **kwargs: Any,
    ) -> None:
        """Prepare to listen for commands to one component, without connecting."""
        super().__init__(**kwargs)
        self._bootstrap_servers = bootstrap_servers
        self._topic = topic
        self._component = component
        self._intakes = intakes

    async def execute(self, command: ControlCommand) -> None:
        """Carry out one command."""
        self.log.info("%s: %s", self._component, command)
        for intake in self._intakes:
            match command:
                case ControlCommand.PAUSE:
                    intake.pause("paused through the control topic")
                case ControlCommand.RESUME:
                    intake.resume()

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
                await self._execute_all(consumer)
            except ConsumerStoppedError:
                return
            except KafkaError as error:
                if not is_retriable(error):
                    raise
                self.log.warning("no commands reach this worker: %s", error)
                await self.sleep(RETRY_S)
            finally:
                await stop_client(consumer)

    async def _execute_all(self, consumer: AIOKafkaConsumer) -> None:
        while not self.should_stop:
            for records in (await consumer.getmany(timeout_ms=POLL_MS)).values():
                for record in records:
                    try:
                        command = read_command(record.value, self._component)
                    except ValueError as error:
                        place = f"{record.topic}-{record.partition}@{record.offset}"
                        self.log.warning("%s: not a command, skipped: %s", place, error)
                        continue
                    if command is not None:
                        await self.execute(command)
