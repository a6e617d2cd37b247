"""Commands to the workers of a role, over the compacted topic `pitboss.control.v1`.

A command is JSON: {"command": "pause" | "resume", "component": name or "*", "by": person, "reason":
text, "at": RFC 3339}; the last three may be missing. Its key is the component. The last command to
a component, or to every one, holds until the next: each worker reads the whole topic at its start,
in no group, and takes no record before that. So all workers of a role are paused alike, also those
that start later. A message that is not a command is logged and skipped.

The component of the command "skip" is a place, `topic-partition@offset`: every worker that cannot
read the records there leaves them out. It holds for ever, as does its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from runtime.kafka.intake.intake import Intake
from runtime.kafka.topic_follower import TopicFollower
from runtime.security import BrokerAddress

EVERY_COMPONENT: Final = "*"
_PLACE: Final = re.compile(r"(.+)-(\d{1,9})@(\d{1,18})", re.ASCII)
POLL_MS: Final = 500
FETCH_WAIT_MS: Final = 5_000
"""How long the broker holds a fetch back; a command ends the wait."""

UNREAD: Final = "the control topic has not been read yet"
"""Why a worker that starts takes no record: it does not know yet whether it is paused."""


class ControlCommand(StrEnum):
    """Command that a worker understands."""

    PAUSE = "pause"
    RESUME = "resume"
    SKIP = "skip"


class ControlMessage(
    msgspec.Struct, frozen=True, forbid_unknown_fields=False, rename={"actor": "by"}
):
    """One command to one component, or to every one."""

    command: ControlCommand
    component: str
    actor: str = ""
    reason: str = ""
    at: str = ""

    def is_for(self, component: str) -> bool:
        """Return whether the component has to obey."""
        return self.component in {component, EVERY_COMPONENT}


class SkipOrder(msgspec.Struct, frozen=True, rename={"actor": "by"}):
    """An order to leave out what cannot be read from a place on: by whom, when (RFC 3339), why."""

    topic: str
    partition: int
    offset: int
    actor: str
    reason: str
    at: str

    def __str__(self) -> str:
        """Return it for a log line."""
        return f"by {self.actor} at {self.at}: {self.reason}"


def skip_of(message: ControlMessage) -> SkipOrder | None:
    """Return the order of a message; None for another command, or one that names no place."""
    match = _PLACE.fullmatch(message.component)
    if message.command is not ControlCommand.SKIP or match is None:
        return None
    topic, partition, offset = match.groups()
    return SkipOrder(topic, int(partition), int(offset), message.actor, message.reason, message.at)


class Pause(msgspec.Struct, frozen=True, rename={"actor": "by"}):
    """A pause in force: since when (RFC 3339), by whom, and why."""

    component: str
    since: str
    actor: str
    reason: str

    def __str__(self) -> str:
        """Return it for a log line or a table."""
        by = f" by {self.actor}" if self.actor else ""
        return f"paused since {self.since}{by}" + (f": {self.reason}" if self.reason else "")


def decode_message(value: bytes | None) -> ControlMessage:
    """Decode a message of the topic. Raises ValueError for one that is not a command."""
    try:
        return msgspec.json.decode(value or b"", type=ControlMessage)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error


def next_pause(
    pause: Pause | None, message: ControlMessage, component: str, appended_ms: int
) -> Pause | None:
    """Return a component's pause after one more message; None while it is not paused.

    A message without a time began when it was appended, in epoch ms.
    """
    if message.command is ControlCommand.SKIP or not message.is_for(component):
        return pause
    if message.command is ControlCommand.RESUME:
        return None
    since = message.at or format_utc(appended_ms)
    return Pause(component, since, message.actor, message.reason)


def current_pauses(
    messages: Iterable[tuple[ControlMessage, int]], components: Iterable[str]
) -> dict[str, Pause]:
    """Return the pauses in force by component, after messages with their append times (epoch ms).

    Components that are not paused are left out.
    """
    pauses: dict[str, Pause | None] = dict.fromkeys(components)
    for message, appended_ms in messages:
        for component, pause in pauses.items():
            pauses[component] = next_pause(pause, message, component, appended_ms)
    return {component: pause for component, pause in pauses.items() if pause is not None}


def format_utc(epoch_ms: int) -> str:
    """Format epoch ms as RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Control(TopicFollower):
    """Service that executes the commands for one component: it pauses and resumes its intakes."""

    subject = "commands"

    def __init__(
        self,
        broker: BrokerAddress,
        topic: str,
        component: str,
        intakes: list[Intake],
    ) -> None:
        """Prepare to listen for commands to one component, without connecting.

        Pauses the intakes at once, until the topic has been read: they may start before this.
        """
        super().__init__(
            broker,
            topic,
            f"{component}.control",
            is_subscribed=True,
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )
        self._component = component
        self._intakes = intakes
        self._pause: Pause | None = None
        self._has_read = False
        for intake in intakes:
            intake.pause(UNREAD)

    def apply(self, pause: Pause | None) -> None:
        """Pause or resume the intakes, and log it where that is a change."""
        if self._has_read and pause == self._pause:
            return
        if pause is not None:
            self.log.warning("%s is %s", self._component, pause)
            for intake in self._intakes:
                intake.pause(str(pause))
        else:
            if self._pause is not None:
                self.log.info("%s is resumed", self._component)
            for intake in self._intakes:
                intake.resume()
        self._pause, self._has_read = pause, True

    def take_as_empty(self) -> None:
        """Resume where the topic does not exist; what was read before it was deleted holds."""
        if not self._has_read:
            self.log.warning(
                "no commands reach this worker: topic %s does not exist; "
                "`pitboss topics create` makes it",
                self._topic,
            )
            self.apply(None)

    async def follow(self, consumer: AIOKafkaConsumer) -> None:
        """Read the topic to its end, then obey, and read on until stopped."""
        # What holds is known at the end that the log had at the start.
        ends = await consumer.end_offsets(consumer.assignment())
        pause: Pause | None = None
        while not self.should_stop:
            if ends and [tp for tp in ends if await consumer.position(tp) < ends[tp]]:
                pause = self._fold(pause, await consumer.getmany(timeout_ms=POLL_MS))
                continue
            self.apply(pause)
            pause = self._fold(pause, await consumer.getmany(timeout_ms=POLL_MS))

    def _fold(self, pause: Pause | None, fetched: Mapping[Any, Iterable[Any]]) -> Pause | None:
        for records in fetched.values():
            for record in records:
                try:
                    message = decode_message(record.value)
                except ValueError as error:
                    place = f"{record.topic}-{record.partition}@{record.offset}"
                    self.log.warning("%s: not a command, skipped: %s", place, error)
                    continue
                if (skip := skip_of(message)) is not None:
                    tp = TopicPartition(skip.topic, skip.partition)
                    for intake in self._intakes:
                        intake.skip_unreadable(tp, skip.offset, str(skip))
                pause = next_pause(pause, message, self._component, record.timestamp)
        return pause
