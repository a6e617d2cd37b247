"""Which messages of the control topic are commands, what holds after them, and when a worker obeys."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import UnknownTopicOrPartitionError
from hypothesis import given
from hypothesis import strategies as st

from runtime.kafka.control import (
    UNREAD,
    Control,
    ControlCommand,
    ControlMessage,
    Pause,
    current_pauses,
    decode_message,
    next_pause,
)
from runtime.security import BrokerAddress

PAUSE = b'{"command":"pause","component":"ledger","by":"ana","reason":"audit","at":"2026-11-30T00:00:00Z"}'
RESUME = b'{"command":"resume","component":"ledger"}'
ANAS = Pause("ledger", "2026-11-30T00:00:00Z", "ana", "audit")


@pytest.mark.parametrize("command", ControlCommand)
@pytest.mark.parametrize(("to", "reached"), [("ledger", True), ("*", True), ("fraud", False)])
def test_a_command_reaches_its_component_and_every_one(command, to, reached):
    message = decode_message(f'{{"command":"{command}","component":"{to}"}}'.encode())
    assert message.command is command
    assert message.is_for("ledger") is reached


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
        decode_message(value)


def test_a_pause_tells_since_when_by_whom_and_why():
    assert next_pause(None, decode_message(PAUSE), "ledger", 0) == ANAS
    assert str(ANAS) == "paused since 2026-11-30T00:00:00Z by ana: audit"
    plain = next_pause(None, decode_message(b'{"command":"pause","component":"*"}'), "drift", 1_000)
    assert str(plain) == "paused since 1970-01-01T00:00:01Z", "the time of the append"


@given(
    st.lists(
        st.tuples(
            st.sampled_from([ControlCommand.PAUSE, ControlCommand.RESUME]),
            st.sampled_from(["ledger", "fraud", "*"]),
        ),
        max_size=12,
    )
)
def test_the_last_command_to_a_component_holds(commands):
    messages = [
        (ControlMessage(command, to), number) for number, (command, to) in enumerate(commands)
    ]
    pauses = current_pauses(messages, ["ledger", "fraud"])
    for component in ("ledger", "fraud"):
        last = [command for command, to in commands if to in {component, "*"}][-1:]
        assert (component in pauses) is (last == [ControlCommand.PAUSE])


class RecordingIntake:
    def __init__(self) -> None:
        self.reasons: list[str | None] = []

    def pause(self, reason: str) -> None:
        self.reasons.append(reason)

    def resume(self) -> None:
        self.reasons.append(None)


class Topic:
    """A consumer of one partition; each fetch gives the next list of values, and the last one ends its service."""

    def __init__(self, service: Control, end: int, *fetches: list[bytes]) -> None:
        self._service, self._end, self._fetches = service, end, list(fetches)
        self._position = 0

    def assignment(self) -> set[str]:
        return {"c-0"} if self._end or self._fetches else set()

    async def end_offsets(self, partitions: set[str]) -> dict[str, int]:
        return dict.fromkeys(partitions, self._end)

    async def position(self, _partition: str) -> int:
        return self._position

    async def getmany(self, *, timeout_ms: int) -> dict[str, list[Any]]:
        values = self._fetches.pop(0) if self._fetches else []
        records = [
            SimpleNamespace(
                topic="c", partition=0, offset=self._position + n, value=value, timestamp=0
            )
            for n, value in enumerate(values)
        ]
        self._position += len(records)
        if not self._fetches:
            self._service._stopped.set()
        return {"c-0": records}


def control() -> tuple[Control, RecordingIntake]:
    intake = RecordingIntake()
    intakes: Any = [intake]
    return Control(BrokerAddress("127.0.0.1:1"), "c", "ledger", intakes), intake


async def follow(service: Control, end: int, *fetches: list[bytes]) -> None:
    consumer: Any = Topic(service, end, *fetches, [])
    await asyncio.wait_for(service.follow(consumer), 60)


def test_a_worker_takes_no_record_before_it_has_read_the_topic():
    _, intake = control()
    assert intake.reasons == [UNREAD]


async def test_only_what_holds_at_the_end_of_the_topic_is_obeyed():
    service, intake = control()
    await follow(service, 4, [PAUSE, RESUME], [RESUME, PAUSE])
    assert intake.reasons == [UNREAD, str(ANAS)]


async def test_a_topic_without_a_command_pauses_nothing():
    service, intake = control()
    await follow(service, 0)
    assert intake.reasons == [UNREAD, None]


async def test_a_running_worker_obeys_a_new_command_and_once(caplog):
    service, intake = control()
    with caplog.at_level(logging.INFO):
        await follow(service, 1, [RESUME], [], [PAUSE], [PAUSE], [RESUME], [])
    assert intake.reasons == [UNREAD, None, str(ANAS), None]
    messages = [record.getMessage().partition(": ")[2] for record in caplog.records]
    assert messages == [f"ledger is {ANAS}", "ledger is resumed"]


async def test_a_listener_that_connects_again_changes_nothing_that_still_holds():
    service, intake = control()
    await follow(service, 1, [PAUSE])
    service._stopped.clear()
    await follow(service, 3, [PAUSE, RESUME], [PAUSE])
    assert intake.reasons == [UNREAD, str(ANAS)]


async def test_a_message_that_is_not_a_command_is_logged_and_skipped(caplog):
    # `reload` was a command of an earlier release, and may still be on the topic.
    service, intake = control()
    with caplog.at_level(logging.WARNING):
        await follow(service, 3, [b'{"command":"reload","component":"*"}', b"[1]", PAUSE])
    assert intake.reasons == [UNREAD, str(ANAS)]
    first, second = [record.getMessage() for record in caplog.records][:2]
    assert "c-0@0: not a command, skipped" in first
    assert "c-0@1: not a command, skipped" in second


async def listen(service: Control, monkeypatch: pytest.MonkeyPatch, attempts: int) -> None:
    """Let the listener meet a broker without the topic so many times."""
    left = [None] * attempts

    class Consumer:
        def __init__(self, *_topics: str, **_settings: Any) -> None:
            pass

        async def start(self) -> None:
            left.pop()
            if not left:
                service._stopped.set()
            raise UnknownTopicOrPartitionError

        async def stop(self) -> None:
            pass

    monkeypatch.setattr("runtime.kafka.topic_follower.AIOKafkaConsumer", Consumer)
    monkeypatch.setattr("runtime.kafka.topic_follower.RETRY_S", 0.0)
    tasks = [task for task in service._get_tasks() if "_listen" in str(task)]
    assert len(tasks) == 1
    await asyncio.wait_for(tasks[0].fun(service), 60)


async def test_a_broker_without_the_topic_pauses_nothing(monkeypatch, caplog):
    service, intake = control()
    with caplog.at_level(logging.WARNING):
        await listen(service, monkeypatch, attempts=3)
    assert intake.reasons == [UNREAD, None]
    assert "topic c does not exist" in caplog.text


async def test_a_topic_that_is_deleted_ends_no_pause(monkeypatch):
    service, intake = control()
    await follow(service, 1, [PAUSE])
    service._stopped.clear()
    await listen(service, monkeypatch, attempts=2)
    assert intake.reasons == [UNREAD, str(ANAS)]
