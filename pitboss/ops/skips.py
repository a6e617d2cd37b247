"""Orders to leave out records of a raw topic that cannot be read, kept on the control topic."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import msgspec

from pitboss.settings import Runtime
from runtime.dead_letters.headers import format_position
from runtime.kafka.control import (
    ControlCommand,
    ControlMessage,
    SkipOrder,
    decode_message,
    format_utc,
    skip_of,
)
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.kafka.topic_reader import read_topics
from schemas.errors import UsageError
from schemas.events import Position
from schemas.topics import CONTROL


def build_order(place: Position, actor: str, reason: str) -> ControlMessage:
    """Return the message that orders to skip what cannot be read from a place on, as of now."""
    now_ms = time.time_ns() // 1_000_000
    component = format_position(place)
    return ControlMessage(ControlCommand.SKIP, component, actor, reason, format_utc(now_ms))


async def append_order(runtime: Runtime, order: ControlMessage) -> None:
    """Append an order. Raises Unavailable, UsageError if the control topic does not exist."""
    async with BatchProducer(ProducerSettings(runtime.broker, "pitboss.control")) as producer:
        await producer.send(
            runtime.topic(CONTROL), order.component.encode(), msgspec.json.encode(order)
        )


async def read_orders(runtime: Runtime) -> list[SkipOrder]:
    """Return all orders, oldest first.

    A message of the control topic that is not an order is left out. Raises Unavailable.
    """
    orders: dict[str, SkipOrder] = {}
    try:
        async for record in read_topics(runtime.broker, [runtime.topic(CONTROL)]):
            with suppress(ValueError):  # each worker logs it, with its place
                message = decode_message(record.value)
                if (skip := skip_of(message)) is not None:
                    orders[message.component] = skip
    except UsageError:
        return []
    return sorted(orders.values(), key=lambda one: one.at)


def list_orders(runtime: Runtime) -> list[SkipOrder]:
    """Do as `read_orders` outside of an event loop."""
    return asyncio.run(read_orders(runtime))
