"""The watchdog has a worker join its group anew for partitions that no member holds, and only for those."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.structs import TopicPartition

from runtime.kafka.broker_queries import fetch_held_partitions
from runtime.kafka.watchdog import Watchdog, WatchdogSettings
from runtime.security import BrokerAddress
from schemas.errors import Unavailable

HELD, OTHERS, ORPHAN = (TopicPartition("t", number) for number in range(3))


class Group:
    """A group as its coordinator describes it."""

    def __init__(self) -> None:
        self.state, self.error_code = "Stable", 0
        self.held = [[HELD], [OTHERS]]

    async def describe_consumer_groups(self, names):
        [name] = names
        members = [
            (f"m-{number}", "client", "/127.0.0.1", b"", self.encode(held))
            for number, held in enumerate(self.held)
        ]
        described = (self.error_code, name, self.state, "consumer", "range", members)
        return [SimpleNamespace(groups=[described])]

    @staticmethod
    def encode(held: list[TopicPartition]) -> bytes:
        by_topic = [(tp.topic, [tp.partition]) for tp in held]
        return ConsumerProtocolMemberAssignment(0, by_topic, b"").encode()


@pytest.fixture
def group():
    return Group()


@pytest.fixture
def watchdog(group):
    rejoins: list[bool] = []
    intake: Any = SimpleNamespace(
        settings=SimpleNamespace(group="g"), rejoin=lambda: rejoins.append(True)
    )
    service = Watchdog(WatchdogSettings(BrokerAddress("127.0.0.1:1")), intake)
    service._admin = group
    return service, rejoins


async def test_a_partition_that_no_member_holds_in_two_looks_has_the_group_joined_anew(watchdog):
    service, rejoins = watchdog
    await service._rejoin_for_orphans({OTHERS, ORPHAN})
    assert rejoins == []
    await service._rejoin_for_orphans({OTHERS, ORPHAN})
    assert rejoins == [True]
    await service._rejoin_for_orphans({OTHERS, ORPHAN})
    assert rejoins == [True], "once, until the group has had its time"


async def test_what_others_hold_is_left_to_them(watchdog):
    service, rejoins = watchdog
    for _ in range(3):
        await service._rejoin_for_orphans({OTHERS})
    assert rejoins == []


@pytest.mark.parametrize("state", ["PreparingRebalance", "CompletingRebalance", "Empty", "Dead"])
async def test_a_group_that_rebalances_is_left_alone(watchdog, group, state):
    service, rejoins = watchdog
    await service._rejoin_for_orphans({ORPHAN})
    group.state, group.held = state, [[], []]
    assert await fetch_held_partitions(group, "g") is None
    await service._rejoin_for_orphans({ORPHAN})
    group.state, group.held = "Stable", [[HELD], [OTHERS, ORPHAN]]
    await service._rejoin_for_orphans(set())
    assert rejoins == []


async def test_members_that_hold_nothing_at_all_count_too(watchdog, group):
    """A pattern that matched no topic when the group was formed: every start again had 0 partitions."""
    service, rejoins = watchdog
    group.held = [[], []]
    assert await fetch_held_partitions(group, "g") == set()
    for _ in range(2):
        await service._rejoin_for_orphans({ORPHAN})
    assert rejoins == [True]


async def test_a_coordinator_that_does_not_say_is_no_answer(watchdog, group):
    service, rejoins = watchdog
    group.error_code = 14
    with pytest.raises(Unavailable, match="does not say who is in g"):
        await fetch_held_partitions(group, "g")
    for _ in range(3):
        await service._rejoin_for_orphans({ORPHAN})
    assert rejoins == []
