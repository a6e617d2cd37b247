"""Questions to the broker about groups and topics for the acts of an operator, and a group's reset.

The acts happen while no worker runs, so these are plain calls that wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Final

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from runtime.security import BrokerAddress
from schemas.errors import Unavailable

_MOVING: Final = frozenset(
    {
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
    }
)
"""The group's coordinator is not there yet."""

CLIENT_ID: Final = "pitboss.operator"
_ANSWER_TIMEOUT_S: Final = 20.0
_POLL_S: Final = 0.25
_MISSING: Final = frozenset({KafkaError.GROUP_ID_NOT_FOUND, KafkaError.UNKNOWN_TOPIC_OR_PART})


class GroupAdmin:
    """What one broker knows of groups and topics. Every method raises Unavailable."""

    def __init__(self, broker: BrokerAddress) -> None:
        """Prepare; the client connects with the first question."""
        self._broker = broker
        self._admin = AdminClient(
            {**broker.librdkafka_options(), "client.id": CLIENT_ID, "log_level": 0}
        )

    def cluster_id(self) -> str:
        """Return the id that the cluster was formatted with."""
        return str(self._ask("its cluster", self._describe_cluster).cluster_id)

    def topic_ids(self, topics: Collection[str]) -> dict[str, str]:
        """Return the id of each topic that exists: a topic that was made anew has another one."""
        requested = self._admin.describe_topics(
            TopicCollection([*topics]), request_timeout=_ANSWER_TIMEOUT_S
        )
        answers = {
            topic: self._ask(f"what {topic} is", partial(future.result, _ANSWER_TIMEOUT_S))
            for topic, future in requested.items()
        }
        return {topic: str(one.topic_id) for topic, one in answers.items() if one is not None}

    def members(self, group: str) -> list[str]:
        """Return the names of a group's members: their static names, else those of the broker."""

        def describe() -> Any:
            requested = self._admin.describe_consumer_groups(
                [group], request_timeout=_ANSWER_TIMEOUT_S
            )
            return requested[group].result(_ANSWER_TIMEOUT_S)

        answer = self._ask(f"who is in {group}", describe)
        found = [] if answer is None else answer.members
        return sorted(one.group_instance_id or one.member_id for one in found)

    def wait_until_empty(
        self, groups: Collection[str], wait_s: float, report: Callable[[str], None]
    ) -> dict[str, list[str]]:
        """Return the groups that still have members after so many seconds, with those.

        A static member stays in its group until its session ends, about 10 s after its process.
        """
        give_up_s, is_reported = time.monotonic() + wait_s, False
        while left := {group: found for group in groups if (found := self.members(group))}:
            if time.monotonic() >= give_up_s:
                break
            if not is_reported:
                is_reported = True
                names = ", ".join(name for found in left.values() for name in found)
                report(f"waiting for the sessions of {names} to end")
            time.sleep(_POLL_S)
        return left

    def committed_offsets(self, group: str, topic: str) -> dict[int, int]:
        """Return what a group has committed of a topic, by partition."""

        def list_offsets() -> Any:
            requested = self._admin.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group)], request_timeout=_ANSWER_TIMEOUT_S
            )
            return requested[group].result(_ANSWER_TIMEOUT_S)

        answer = self._ask(f"what {group} has committed", list_offsets)
        return {
            place.partition: place.offset
            for place in (() if answer is None else answer.topic_partitions)
            if place.topic == topic and place.offset >= 0
        }

    def set_offsets(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Set what a group without members has committed of a topic."""
        places = [TopicPartition(topic, number, offset) for number, offset in offsets.items()]
        if not places:
            return

        def alter() -> Any:
            wanted = [ConsumerGroupTopicPartitions(group, places)]
            requested = self._admin.alter_consumer_group_offsets(
                wanted, request_timeout=_ANSWER_TIMEOUT_S
            )
            answer = requested[group].result(_ANSWER_TIMEOUT_S)
            for place in answer.topic_partitions:
                if place.error is not None:
                    raise KafkaException(place.error)
            return answer

        self._ask(f"to set the offsets of {group}", alter)

    def _describe_cluster(self) -> Any:
        future = self._admin.describe_cluster(request_timeout=_ANSWER_TIMEOUT_S)
        return future.result(_ANSWER_TIMEOUT_S)

    def _ask(self, what: str, question: Callable[[], Any]) -> Any:
        """Return the answer; None for a group or topic that does not exist.

        A broker that has just started, or has not had this group before, is given a while.
        """
        give_up_s = time.monotonic() + _ANSWER_TIMEOUT_S
        while True:
            try:
                return question()
            except KafkaException as error:
                code = error.args[0].code()
                if code in _MISSING:
                    return None
                if code not in _MOVING or time.monotonic() >= give_up_s:
                    raise self._unavailable(what, error) from error
            except TimeoutError as error:
                raise self._unavailable(what, error) from error
            time.sleep(_POLL_S)

    def _unavailable(self, what: str, error: object) -> Unavailable:
        return Unavailable(f"the broker at {self._broker} does not answer {what}: {error}")
