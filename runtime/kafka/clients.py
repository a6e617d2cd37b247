"""Starting and stopping aiokafka's clients, and which of their errors may be tried again."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import CorruptRecordException, KafkaError, KafkaTimeoutError

from runtime.connection_faults import unreachable_broker
from runtime.security import BrokerAddress
from schemas.errors import PitbossError

logger = logging.getLogger(__name__)

METADATA_AGE_MS: Final = 5_000
"""How soon a client notices a new topic that matches a pattern, or a leader that has moved."""


async def start_client(client: Any, broker: BrokerAddress) -> None:
    """Start a consumer, producer or admin client; on failure, close it.

    Raises Unavailable if no broker answers, ConnectionFault if that is for its security.
    """
    try:
        await client.start()
    except BaseException as error:
        await stop_client(client)
        if isinstance(error, KafkaError):
            raise await asyncio.to_thread(unreachable_broker, broker, error) from error
        raise


async def stop_client(client: Any) -> None:
    """Stop a consumer, producer or admin client.

    Without a broker, aiokafka's consumer cancels its own pending fetches and lets their
    CancelledError escape, which looks to the caller as if its own task were cancelled. So the stop
    runs in a task of its own, and only a cancellation of the caller reaches the caller.
    """
    is_admin = isinstance(client, AIOKafkaAdminClient)
    stopping = asyncio.ensure_future(client.close() if is_admin else client.stop())
    try:
        await asyncio.wait([stopping])
    except asyncio.CancelledError:
        stopping.cancel()
        raise
    if stopping.cancelled():
        logger.info("a client dropped its pending requests when it was stopped")
        return
    stopping.result()


def is_retriable(error: BaseException) -> bool:
    """Return whether the same call may succeed later.

    aiokafka does not mark time-outs and damaged answers as retriable; they are.
    """
    if isinstance(error, (KafkaTimeoutError, CorruptRecordException)):
        return True
    return isinstance(error, (KafkaError, PitbossError)) and bool(error.retriable)
