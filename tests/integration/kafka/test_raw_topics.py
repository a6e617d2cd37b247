"""The providers of an installation: stored by `provision`, read by workers, and what lies beside them is an error."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic
from click.testing import CliRunner

from pitboss.cli.main import cli
from pitboss.ops.provision import provision
from pitboss.ops.raw_topics import RawTopics, read_stored, resolve_raw_topics
from pitboss.ops.topic_admin import create_topics, partition_counts
from pitboss.settings import Runtime, WorkerSettings, worker_environment
from schemas.errors import UsageError
from schemas.topics import raw_pattern, raw_topic
from tests.support.topics import make_topics

pytestmark = pytest.mark.integration

HUB88 = frozenset({"hub88"})


@pytest.fixture
def pitboss(runtime: Runtime, tmp_path):
    environ = {**worker_environment(runtime), "PITBOSS_HOME": str(tmp_path)}
    return lambda *arguments, **more: CliRunner().invoke(cli, arguments, env=environ | more)


async def append(runtime: Runtime, *names: str) -> None:
    await make_topics(runtime.broker, *[NewTopic(runtime.topic(name), 1, 1) for name in names])
    async with AIOKafkaProducer(**runtime.broker.aiokafka_options()) as producer:
        for name in names:
            await producer.send_and_wait(runtime.topic(name), b"{}", partition=0)


def raw_partitions(runtime: Runtime) -> dict[str, int]:
    pattern = raw_pattern(runtime.namespace)
    return asyncio.run(partition_counts(runtime.broker, pattern))


def test_a_raw_topic_that_is_read_by_nothing_is_an_error_once_it_holds_records(runtime, pitboss):
    made = pitboss("provision", "--partitions", "1", PITBOSS_PROVIDERS="hub88")
    assert made.exit_code == 0, made.stderr
    assert raw_partitions(runtime) == {runtime.topic(raw_topic("hub88")): 6}
    assert pitboss("topics", "check", "--partitions", "1").exit_code == 0
    assert pitboss("status").exit_code == 0

    asyncio.run(append(runtime, raw_topic("house"), "provider.Hub-88.raw.v1"))
    house = runtime.topic(raw_topic("house"))
    check = pitboss("topics", "check", "--partitions", "1", "--json")
    assert check.exit_code == 1
    assert [row["topic"] for row in json.loads(check.stdout)] == [
        runtime.topic("provider.Hub-88.raw.v1"),
        house,
    ]
    assert json.loads(check.stdout)[1] == {
        "topic": house,
        "what": "reader",
        "expected": "normalise",
        "actual": "nothing, with 1 records",
    }
    status = pitboss("status", "--json")
    assert status.exit_code == 1
    unread = json.loads(status.stdout)["unread"]
    assert [(one["topic"], one["records"]) for one in unread][1] == (house, 1)
    assert f"error: {house} holds 1 records and is read by nothing" in pitboss("status").stderr
    checks = json.loads(pitboss("doctor", "--json").stdout)["checks"]
    failed = [check for check in checks if check["name"] == "raw topics"]
    assert [check["is_ok"] for check in failed] == [False, False]
    assert "add 'house' to PITBOSS_PROVIDERS" in failed[1]["way_out"]

    # Named, it is read: only the topic that no provider can have remains.
    more = pitboss("provision", "--partitions", "1", PITBOSS_PROVIDERS="house,hub88")
    assert more.exit_code == 0, more.stderr
    [row] = json.loads(pitboss("status", "--json").stdout)["unread"]
    assert row["topic"] == runtime.topic("provider.Hub-88.raw.v1")


def test_what_is_stored_counts_for_every_later_process(runtime, pitboss):
    provision(runtime, partitions=1, raw_partitions=1, providers=HUB88)
    assert read_stored(runtime) == RawTopics(HUB88, 1)
    assert asyncio.run(resolve_raw_topics(runtime, WorkerSettings())) == RawTopics(HUB88, 1)
    with pytest.raises(UsageError, match="provisioned with hub88"):
        asyncio.run(resolve_raw_topics(runtime, WorkerSettings(providers=frozenset({"all"}))))
    for command in (("run", "normalise"), ("topics", "check", "--partitions", "1")):
        other = pitboss(*command, PITBOSS_PROVIDERS="house")
        assert (other.exit_code, "provisioned with hub88" in other.stderr) == (2, True)
        count = pitboss(*command, PITBOSS_RAW_PARTITIONS="2")
        assert (count.exit_code, "have 1 partitions" in count.stderr) == (2, True)
    provision(runtime, partitions=1, providers=["house", "hub88"])
    assert set(raw_partitions(runtime).values()) == {1}
    assert read_stored(runtime) == RawTopics(frozenset({"house", "hub88"}), 1)


def test_an_installation_that_has_raw_topics_keeps_their_count(runtime):
    asyncio.run(create_topics(runtime.broker, runtime.namespace, ["hub88"], 1, 3))
    with pytest.raises(UsageError, match="have 3 partitions"):
        provision(runtime, partitions=1, raw_partitions=6, providers=["house", "hub88"])
    provision(runtime, partitions=1, providers=["house", "hub88"])
    assert set(raw_partitions(runtime).values()) == {3}
    assert read_stored(runtime) == RawTopics(frozenset({"house", "hub88"}), 3)
