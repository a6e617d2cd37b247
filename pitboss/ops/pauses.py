"""Pausing and resuming the workers of a role, and the pauses in force."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from pitboss.settings import Runtime
from pitboss.workers import ROLES
from runtime.kafka.control import (
    ControlCommand,
    ControlMessage,
    Pause,
    current_pauses,
    decode_message,
    format_utc,
)
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.kafka.topic_reader import read_topics
from schemas.errors import UsageError
from schemas.topics import CONTROL


@dataclass(frozen=True)
class PauseChange:
    """Effect of a command on one role; without a message the role is already as it should be."""

    role: str
    pause: Pause | None
    """The pause in force afterwards."""
    message: ControlMessage | None


def plan_changes(
    command: ControlCommand,
    roles: Sequence[str],
    pauses: dict[str, Pause],
    *,
    actor: str,
    reason: str,
    now_ms: int,
) -> list[PauseChange]:
    """Return the change of each role. A role that is paused keeps who paused it, why and when."""
    changes = []
    for role in roles:
        pause = pauses.get(role)
        if (pause is not None) == (command is ControlCommand.PAUSE):
            changes.append(PauseChange(role, pause, None))
            continue
        at = format_utc(now_ms)
        message = ControlMessage(command, role, actor, reason, at)
        paused = Pause(role, at, actor, reason) if command is ControlCommand.PAUSE else None
        changes.append(PauseChange(role, paused, message))
    return changes


async def read_pauses(runtime: Runtime, roles: Collection[str] = ROLES) -> dict[str, Pause]:
    """Return the pauses in force, by role.

    Where the control topic does not exist, there is none. Raises Unavailable.
    """
    messages: list[tuple[ControlMessage, int]] = []
    try:
        async for record in read_topics(runtime.broker, [runtime.topic(CONTROL)]):
            with suppress(ValueError):  # each worker logs it, with its place
                messages.append((decode_message(record.value), record.timestamp))
    except UsageError:
        return {}
    return current_pauses(messages, roles)


async def change_pauses(
    runtime: Runtime,
    command: ControlCommand,
    roles: Sequence[str],
    *,
    actor: str,
    reason: str,
    dry_run: bool = False,
) -> list[PauseChange]:
    """Pause or resume roles and return what changed; a dry run appends nothing.

    Running workers obey within a second, others at their start. Raises Unavailable, and UsageError
    if the control topic does not exist.
    """
    pauses = await read_pauses(runtime)
    now_ms = time.time_ns() // 1_000_000
    changes = plan_changes(command, roles, pauses, actor=actor, reason=reason, now_ms=now_ms)
    messages = [change.message for change in changes if change.message is not None]
    if messages and not dry_run:
        await _append(runtime, messages)
    return changes


async def _append(runtime: Runtime, messages: Sequence[ControlMessage]) -> None:
    producer = BatchProducer(ProducerSettings(runtime.broker, "pitboss.control"))
    await producer.start()
    try:
        for message in messages:
            await producer.send(
                runtime.topic(CONTROL), message.component.encode(), msgspec.json.encode(message)
            )
    finally:
        await producer.stop()


def list_pauses(runtime: Runtime) -> list[Pause]:
    """Return the pauses in force, in the order of the roles. Raises Unavailable."""
    pauses = asyncio.run(read_pauses(runtime))
    return [pauses[role] for role in ROLES if role in pauses]
