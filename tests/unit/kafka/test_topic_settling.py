"""Topics that the broker has accepted and not made yet: on a busy machine some hundred partitions take a while."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pitboss.embedded.kafka import START_S
from pitboss.ops import topic_admin
from runtime.security import BrokerAddress
from schemas.errors import Unavailable


class SlowBroker:
    """Accepts every topic, and leads none of its partitions."""

    def __init__(self, **_: object) -> None:
        self.accepted: list[str] = []

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def list_topics(self) -> list[str]:
        return ["p.provider.hub88.raw.v1", *self.accepted]

    async def describe_cluster(self):
        return {"brokers": [1]}

    async def create_topics(self, topics, *, validate_only):
        self.accepted = [topic.name for topic in topics]
        return SimpleNamespace(topic_errors=[(name, 0, None) for name in self.accepted])

    async def describe_topics(self, names):
        no_leader = {"partition": 0, "error_code": 5}
        return [{"topic": name, "partitions": [no_leader]} for name in names]

    async def delete_topics(self, names):
        return SimpleNamespace(topic_error_codes=[(name, 0) for name in names])


@pytest.fixture
def broker(monkeypatch):
    monkeypatch.setattr(topic_admin, "AIOKafkaAdminClient", SlowBroker)
    monkeypatch.setattr(topic_admin, "_SETTLE_TIMEOUT_S", 0.05)
    return BrokerAddress("b:1")


async def test_topics_that_are_not_usable_in_time_are_not_a_broker_that_does_not_answer(broker):
    with pytest.raises(Unavailable, match="not all of their partitions take records") as error:
        await topic_admin.create_topics(broker, "p", ["hub88"])
    assert "no Kafka broker answers" not in str(error.value)


async def test_topics_that_are_not_gone_in_time_are_not_a_broker_that_does_not_answer(broker):
    with pytest.raises(Unavailable, match="still lists them") as error:
        await topic_admin.delete_topics(broker, "p")
    assert "no Kafka broker answers" not in str(error.value)


def test_topics_have_as_much_time_as_a_broker_has_to_start():
    assert topic_admin._SETTLE_TIMEOUT_S >= START_S
