"""Which messages of the control topic are commands, and what becomes of the others."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from runtime.kafka.control import Control, ControlCommand, read_command


@pytest.mark.parametrize("command", ControlCommand)
def test_a_command_reaches_its_component_and_every_one(command):
    assert (
        read_command(f'{{"command":"{command}","component":"ledger"}}'.encode(), "ledger")
        is command
    )
    assert read_command(f'{{"command":"{command}","component":"*"}}'.encode(), "ledger") is command
    assert read_command(f'{{"command":"{command}","component":"fraud"}}'.encode(), "ledger") is None


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"pause",
        b"{}",
        b'{"command":"pause"}',
        b'{"command":"stop","component":"*"}',
        b'{"command":"reload","component":"*"}',
        b"[1]",
    ],
)
def test_what_is_not_a_command_is_an_error(value):
    with pytest.raises(ValueError, match=r"."):
        read_command(value, "ledger")


class Messages:
    """A consumer with one fetch of messages, after which its service is to stop."""

    def __init__(self, *values: bytes) -> None:
        self.values = values
        self.service: Control

    async def getmany(self, *, timeout_ms: int) -> dict[str, list[Any]]:
        self.service._stopped.set()
        records = [
            SimpleNamespace(topic="c", partition=0, offset=n, value=value)
            for n, value in enumerate(self.values)
        ]
        return {"c-0": records}


async def test_a_message_that_is_not_a_command_is_logged_and_skipped(caplog):
    # `reload` was a command of an earlier release, and may still be on the topic.
    paused: list[str] = []
    intake: Any = SimpleNamespace(pause=paused.append)
    consumer: Any = Messages(
        b'{"command":"reload","component":"*"}', b"[1]", b'{"command":"pause","component":"*"}'
    )
    consumer.service = Control("127.0.0.1:1", "c", "ledger", [intake])
    with caplog.at_level(logging.WARNING):
        await asyncio.wait_for(consumer.service._execute_all(consumer), 2)
    assert paused == ["paused through the control topic"]
    first, second = [record.getMessage() for record in caplog.records]
    assert "c-0@0: not a command, skipped" in first
    assert "c-0@1: not a command, skipped" in second
