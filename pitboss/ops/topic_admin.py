"""Topics of the catalogue: create and compare them, delete those of a trial.

The catalogue (`schemas.topics`) lists the required topics; this module queries a broker. Creation
never changes a topic that exists: `check_topics` reports where it differs, and to correct it is an
operator's decision.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaTimeoutError,
    NodeNotReadyError,
    TopicAlreadyExistsError,
)

from runtime.connection_faults import find_broker_fault
from runtime.kafka.broker_queries import list_partitions
from runtime.kafka.clients import start_client, stop_client
from runtime.security import BrokerAddress
from schemas.errors import Unavailable, UsageError
from schemas.topics import (
    DEAD_LETTER_SUFFIX,
    PARTITIONS_DEFAULT,
    RAW_PARTITIONS_DEFAULT,
    Topic,
    catalogue,
    qualified_name,
    raw_pattern,
    required_topics,
)

REPLICAS_WANTED: Final = 3
"""One copy may be lost and another be away while `acks=all` still means two copies; fewer brokers
get fewer copies."""
_SETTLE_TIMEOUT_S: Final = 120.0
"""As long as the broker may take to start: making some hundred partitions is the same work."""
_POLL_S: Final = 0.02
_UNAVAILABLE: Final = (
    KafkaConnectionError,
    KafkaTimeoutError,
    NodeNotReadyError,
    TimeoutError,
    OSError,
)


ReportLeaders = Callable[[int, int], None]
"""Takes how many partitions have a leader, and how many there are."""


def report_nothing(_ready: int, _total: int) -> None:
    """Take a report and do nothing: the default."""


class TopicRefused(UsageError):
    """The broker refused to create or delete a topic; the message is the broker's."""

    code = "TOPIC_REFUSED"


@dataclass(frozen=True)
class TopicCreation:
    """Result of `create_topics`: what it did or, in a dry run, would do. Names as on the broker."""

    created: tuple[str, ...]
    existing: tuple[str, ...]


@dataclass(frozen=True)
class TopicDifference:
    """One property of a topic that differs from the catalogue."""

    topic: str
    what: str
    expected: str
    actual: str | None
    """None for a missing topic."""

    def __str__(self) -> str:
        """Return it for a log line or an error."""
        if self.actual is None:
            return f"{self.topic}: {self.what} is missing"
        return f"{self.topic}: {self.what} is {self.actual}, should be {self.expected}"


@asynccontextmanager
async def admin_client(broker: BrokerAddress) -> AsyncIterator[AIOKafkaAdminClient]:
    """Give a started client, closed on leaving. Raises Unavailable where no broker answers."""
    admin, is_connected = AIOKafkaAdminClient(**broker.aiokafka_options()), False
    try:
        await admin.start()
        is_connected = True
        yield admin
    except _UNAVAILABLE as error:
        fault = None if is_connected else await asyncio.to_thread(find_broker_fault, broker)
        raise fault or Unavailable(
            f"no Kafka broker answers at {broker} ({error}): run `pitboss up` or check it"
        ) from error
    finally:
        await admin.close()


async def create_topics(
    broker: BrokerAddress,
    namespace: str,
    providers: Iterable[str],
    partitions: int = PARTITIONS_DEFAULT,
    raw_partitions: int = RAW_PARTITIONS_DEFAULT,
    *,
    read: Collection[str] | None = None,
    dry_run: bool = False,
    report: ReportLeaders = report_nothing,
) -> TopicCreation:
    """Create what is missing of the catalogue, in one request, and wait until it takes records.

    `read` are the providers whose raw topics are read. With None every raw topic is, also one that
    was made by others, so it gets its dead letter topic, too. In a dry run the broker validates
    the request and does not carry it out. Raises TopicRefused, Unavailable.
    """
    async with admin_client(broker) as admin:
        wanted = required_topics(
            providers,
            await admin.list_topics(),
            namespace,
            read=read,
            raw_partitions=raw_partitions,
        )
        replicas = min(REPLICAS_WANTED, len((await admin.describe_cluster())["brokers"]))
        response = await admin.create_topics(
            [_new_topic(topic, namespace, partitions, replicas) for topic in wanted],
            validate_only=dry_run,
        )
        created, existing = [], []
        for name, error_code, message in response.topic_errors:
            if error_code == TopicAlreadyExistsError.errno:
                existing.append(name)
            elif error_code:
                raise TopicRefused(f"{name}: {message or error_code}")
            else:
                created.append(name)
        if created and not dry_run:
            waits = "made the topics, and not all of their partitions take records"
            async with _settling(broker, waits):
                await _wait_until_usable(broker, admin, created, report)
    return TopicCreation(tuple(created), tuple(existing))


def _new_topic(topic: Topic, namespace: str, partitions: int, replicas: int) -> NewTopic:
    return NewTopic(
        qualified_name(topic.name, namespace),
        num_partitions=topic.partitions or partitions,
        replication_factor=replicas,
        topic_configs=_config(topic, replicas),
    )


def _config(topic: Topic, replicas: int) -> dict[str, str]:
    return {
        "cleanup.policy": topic.cleanup,
        "retention.ms": str(topic.retention_ms),
        "message.timestamp.type": topic.timestamp_type,
        # An acknowledged record must outlive the loss of one broker, where there are enough.
        "min.insync.replicas": "2" if replicas >= REPLICAS_WANTED else "1",
    }


async def wait_for_leaders(
    broker: BrokerAddress, timeout_s: float, report: ReportLeaders = report_nothing
) -> bool:
    """Wait until each partition of the broker takes records; return False after `timeout_s`.

    A broker that has just started answers before it leads its partitions. Raises Unavailable.
    """
    async with admin_client(broker) as admin:
        try:
            async with asyncio.timeout(timeout_s):
                await _wait_until_usable(broker, admin, None, report)
        except TimeoutError:
            return False
    return True


async def _wait_until_usable(
    broker: BrokerAddress,
    admin: AIOKafkaAdminClient,
    names: Sequence[str] | None,
    report: ReportLeaders,
) -> None:
    """Wait for these topics; None means all, without those that are deleted meanwhile."""
    # The broker answers before it has made the partitions, which takes seconds for some hundred of
    # them; a producer that writes at once is refused and waits out a back-off. A leader that
    # answers with its end offset takes records, too.
    while wanted := await admin.list_topics() if names is None else names:
        topics = await admin.describe_topics(list(wanted))
        partitions = [partition for topic in topics for partition in topic["partitions"]]
        ready = sum(not partition["error_code"] for partition in partitions)
        report(ready, len(partitions))
        if ready == len(partitions) and all(topic["partitions"] for topic in topics):
            break
        await asyncio.sleep(_POLL_S)
    else:
        return
    with _without_logs("aiokafka.consumer.fetcher"):
        await _end_offsets(
            broker,
            {
                TopicPartition(topic["topic"], partition["partition"])
                for topic in topics
                for partition in topic["partitions"]
            },
        )


async def _wait_until_deleted(
    broker: BrokerAddress, admin: AIOKafkaAdminClient, names: Collection[str]
) -> None:
    async with _settling(broker, "deleted the topics, and still lists them"):
        while True:
            if not set(names).intersection(await admin.list_topics()):
                return
            await asyncio.sleep(_POLL_S)


@asynccontextmanager
async def _settling(broker: BrokerAddress, waits: str) -> AsyncIterator[None]:
    """Bound the wait for what the broker has accepted; `waits` says what it did and what not.

    Raises Unavailable: not as for a broker that does not answer, since it did.
    """
    try:
        async with asyncio.timeout(_SETTLE_TIMEOUT_S):
            yield
    except TimeoutError as error:
        raise Unavailable(
            f"the broker at {broker} has {waits} after {_SETTLE_TIMEOUT_S:.0f} s: it or its disk is"
            " overloaded; look at its log, and run this again"
        ) from error


@contextmanager
def _without_logs(name: str) -> Iterator[None]:
    # aiokafka logs an error for each partition that does not exist yet, which is waited for here.
    def drop(_record: logging.LogRecord) -> bool:
        return False

    logger = logging.getLogger(name)
    logger.addFilter(drop)
    try:
        yield
    finally:
        logger.removeFilter(drop)


async def check_topics(
    broker: BrokerAddress,
    namespace: str,
    providers: Iterable[str],
    partitions: int = PARTITIONS_DEFAULT,
    raw_partitions: int = RAW_PARTITIONS_DEFAULT,
    *,
    read: Collection[str] | None = None,
) -> list[TopicDifference]:
    """Return every difference between catalogue and broker, in the catalogue's order.

    Of a raw topic that was made by others, only the dead letter topic is compared. Raises
    Unavailable.
    """
    async with admin_client(broker) as admin:
        existing = set(await admin.list_topics())
        wanted = required_topics(
            providers, existing, namespace, read=read, raw_partitions=raw_partitions
        )
        names = [
            name for topic in wanted if (name := qualified_name(topic.name, namespace)) in existing
        ]
        described = await admin.describe_topics(names) if names else []
        configs = await _topic_configs(admin, names)
    descriptions = {topic["topic"]: topic for topic in described}
    differences: list[TopicDifference] = []
    for topic in wanted:
        name = qualified_name(topic.name, namespace)
        if name not in descriptions:
            differences.append(TopicDifference(name, "topic", "exists", None))
            continue
        described_partitions = descriptions[name]["partitions"]
        replicas = len(described_partitions[0]["replicas"])
        expected = {
            "partitions": str(topic.partitions or partitions),
            **_config(topic, replicas),
        }
        actual = {"partitions": str(len(described_partitions)), **configs[name]}
        differences += [
            TopicDifference(name, what, value, actual.get(what))
            for what, value in expected.items()
            if actual.get(what) != value
        ]
    return differences


async def _topic_configs(
    admin: AIOKafkaAdminClient, names: Sequence[str]
) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    return {
        name: {entry[0]: entry[1] for entry in entries}
        for response in await admin.describe_configs(resources)
        for _error, _message, _type, name, entries in response.resources
    }


def is_of_namespace(topic: str, namespace: str) -> bool:
    """Return whether a topic of the broker belongs to a namespace."""
    if namespace:
        return topic.startswith(qualified_name("", namespace))
    # Without a prefix, only the catalogue's names are known to be ours: other namespaces and other
    # systems share the broker.
    source = topic.removesuffix(DEAD_LETTER_SUFFIX)
    is_known = source in {known.name for known in catalogue(())}
    return is_known or re.match(raw_pattern(""), source) is not None


async def _end_offsets(
    broker: BrokerAddress, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, int]:
    # Topics that were deleted are left out: a group remembers them for a week.
    if not partitions:
        return {}
    consumer = AIOKafkaConsumer(**broker.aiokafka_options())
    try:
        await consumer.start()
        known = await consumer.topics()
        existing = [tp for tp in partitions if tp.topic in known]
        # Asked for offsets alone, aiokafka learns of one topic more every 100 ms; assigned, of all
        # at once.
        consumer.assign(existing)
        ends = await consumer.end_offsets(existing)
    finally:
        await stop_client(consumer)
    return dict(ends)


async def record_counts(broker: BrokerAddress, topics: Collection[str]) -> dict[str, int]:
    """Return how many offsets the broker holds of each topic, those of markers included.

    A topic that does not exist has none. Raises Unavailable.
    """
    async with admin_client(broker) as admin:
        existing = set(topics).intersection(await admin.list_topics())
        partitions = await list_partitions(admin, existing)
    if not partitions:
        return dict.fromkeys(topics, 0)
    consumer = AIOKafkaConsumer(**broker.aiokafka_options())
    try:
        await start_client(consumer, broker)
        consumer.assign(partitions)
        starts = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
    except _UNAVAILABLE as error:
        raise Unavailable(f"the broker at {broker} does not answer: {error!r}") from error
    finally:
        await stop_client(consumer)
    counts = dict.fromkeys(topics, 0)
    for tp in partitions:
        counts[tp.topic] += ends[tp] - starts[tp]
    return counts


async def partition_counts(broker: BrokerAddress, pattern: str) -> dict[str, int]:
    """Return the partition count of each topic that matches the pattern. Raises Unavailable."""
    async with admin_client(broker) as admin:
        names = [name for name in await admin.list_topics() if re.match(pattern, name)]
        return dict(Counter(tp.topic for tp in await list_partitions(admin, names)))


async def find_missing_topics(broker: BrokerAddress, topics: Collection[str]) -> list[str]:
    """Return the topics that the broker does not have, in order. Raises Unavailable."""
    async with admin_client(broker) as admin:
        return sorted(set(topics) - set(await admin.list_topics()))


async def dead_letter_topics(broker: BrokerAddress, namespace: str) -> list[str]:
    """Return the existing dead letter topics of a namespace, as on the broker.

    Raises Unavailable.
    """
    async with admin_client(broker) as admin:
        names = await admin.list_topics()
    return sorted(
        name
        for name in names
        if name.endswith(DEAD_LETTER_SUFFIX) and is_of_namespace(name, namespace)
    )


async def delete_topics(broker: BrokerAddress, namespace: str) -> tuple[str, ...]:
    """Delete every topic of a namespace and return their names: the end of a demo, trial or test.

    Raises UsageError for the empty namespace, which is the real installation; TopicRefused;
    Unavailable.
    """
    if not namespace:
        raise UsageError("topics without a namespace are the real ones; they are not deleted")
    async with admin_client(broker) as admin:
        prefix = qualified_name("", namespace)
        names = sorted(name for name in await admin.list_topics() if name.startswith(prefix))
        if names:
            response = await admin.delete_topics(names)
            for name, error_code in response.topic_error_codes:
                if error_code:
                    raise TopicRefused(f"{name}: not deleted, error {error_code}")
            await _wait_until_deleted(broker, admin, names)
    return tuple(names)
