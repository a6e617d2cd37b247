"""Topics that a test makes beside the product."""

from __future__ import annotations

import asyncio

from aiokafka.admin import NewTopic

from pitboss.ops import topic_admin
from runtime.security import BrokerAddress

PATIENCE_S = 120


async def make_topics(broker: BrokerAddress, *topics: NewTopic) -> None:
    """Create topics and return when each of their partitions takes records.

    A broker acknowledges a topic before it names it to others: on a busy machine that takes seconds.
    """
    names = [topic.name for topic in topics]
    async with topic_admin.admin_client(broker) as admin, asyncio.timeout(PATIENCE_S):
        await admin.create_topics([*topics])
        await topic_admin._wait_until_usable(broker, admin, names, topic_admin.report_nothing)
