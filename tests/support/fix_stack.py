"""The broker and the database of the integration tests.

In this order: servers named in the environment (only with PITBOSS_TEST_USE_SERVERS=yes), containers
if an engine answers, the embedded stack. All of them are real servers. Each test uses its own
namespace. A test that stops or kills a server takes `private_stack`, which no other test uses.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pitboss.embedded.databases import create_database, drop_database
from pitboss.embedded.kafka import kafka_answers
from pitboss.embedded.ports import choose_port
from pitboss.embedded.postgres import database_answers
from pitboss.embedded.processes import poll
from pitboss.embedded.stack import Stack
from pitboss.settings import Runtime, StackSettings, read_settings, runtime_of

TESTS_HOME = Path(__file__).parents[2] / ".pitboss" / "tests"

SEED = int(os.environ.setdefault("PITBOSS_TEST_SEED", str(random.SystemRandom().getrandbits(32))))
"""Set for the processes that xdist starts too: the header of the run names the one seed that all of them use."""


@dataclass(frozen=True)
class Servers:
    """A broker and a database for a whole session, wherever they are from."""

    origin: str
    kafka: str
    database_url: str

    def runtime(self, namespace: str) -> Runtime:
        return runtime_of(self.kafka, self.database_url, namespace)


def pytest_report_header() -> str:
    return f"pitboss: PITBOSS_TEST_SEED={SEED}"


@pytest.fixture(scope="session")
def stack() -> Iterator[Servers]:
    """Servers that every test of the session shares."""
    with ExitStack() as on_exit:
        yield _given_servers() or _containers(on_exit) or on_exit.enter_context(_shared_embedded())


@pytest.fixture(scope="session")
def namespaces() -> Callable[[], str]:
    """Names that no other test uses, on servers that other sessions may use too."""
    source = random.Random(SEED)
    return lambda: f"t{os.getpid()}_{source.getrandbits(24):06x}"


@pytest.fixture
def namespace(namespaces: Callable[[], str]) -> str:
    """A namespace for this test alone."""
    return namespaces()


@pytest.fixture
def runtime(stack: Servers, namespace: str) -> Iterator[Runtime]:
    """A runtime with an empty database and no topics; both are gone after the test."""
    fresh = stack.runtime(namespace)
    create_database(fresh)
    yield fresh
    drop_database(fresh)
    with ThreadPoolExecutor(1) as apart:  # an async test may have a loop in this thread
        apart.submit(asyncio.run, _delete_topics(fresh)).result()


@pytest.fixture
def private_settings() -> Iterator[StackSettings]:
    """Settings of a stack that only this test has; its jars are those of the machine.

    Not below pytest's own folder: another session that begins closes that to every account but its own, and PostgreSQL
    runs under one of its own.
    """
    with tempfile.TemporaryDirectory(prefix="pitboss-", ignore_cleanup_errors=True) as folder:
        yield replace(read_settings({}), home=Path(folder) / "pitboss")


@pytest.fixture
def private_stack(private_settings: StackSettings) -> Iterator[Stack]:
    """A running embedded stack that this test may kill."""
    stack = Stack.open(private_settings)
    stack.up()
    yield stack
    stack.down()


def _given_servers() -> Servers | None:
    if os.environ.get("PITBOSS_TEST_USE_SERVERS") != "yes":
        return None
    settings = read_settings()
    if settings.kafka is None or settings.database is None:
        pytest.exit(
            "PITBOSS_TEST_USE_SERVERS=yes, but PITBOSS_KAFKA and PITBOSS_DATABASE are not set", 2
        )
    return Servers("the environment", settings.kafka, settings.database)


@contextmanager
def _shared_embedded() -> Iterator[Servers]:
    # Sessions at the same time share one stack: each holds the lock with the others, the last one gets it for itself.
    settings = replace(read_settings({}), home=TESTS_HOME)
    embedded = Stack.open(settings)
    TESTS_HOME.mkdir(parents=True, exist_ok=True)
    with (TESTS_HOME.parent / "tests.lock").open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        try:
            state = embedded.up()
            yield Servers("the embedded stack", state.kafka_bootstrap, state.database_url)
        finally:
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            else:
                embedded.down()
                shutil.rmtree(TESTS_HOME)


def _containers(on_exit: ExitStack) -> Servers | None:
    if not (os.environ.get("DOCKER_HOST") or Path("/var/run/docker.sock").exists()):
        return None
    import docker
    from docker.errors import DockerException
    from testcontainers.core.container import DockerContainer

    try:
        docker.from_env(timeout=2).ping()
        port = choose_port()
        kafka = (
            DockerContainer(os.environ.get("KAFKA_IMAGE", "apache/kafka:4.1.0"))
            .with_bind_ports(9092, port)
            .with_env("KAFKA_NODE_ID", "1")
            .with_env("KAFKA_PROCESS_ROLES", "broker,controller")
            .with_env("KAFKA_LISTENERS", "PLAINTEXT://:9092,CONTROLLER://:9093")
            .with_env("KAFKA_ADVERTISED_LISTENERS", f"PLAINTEXT://127.0.0.1:{port}")
            .with_env("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER")
            .with_env(
                "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"
            )
            .with_env("KAFKA_CONTROLLER_QUORUM_VOTERS", "1@localhost:9093")
            .with_env("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR", "1")
            .with_env("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1")
            .with_env("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1")
            .with_env("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0")
            .with_env("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false")
        )
        postgres = (
            DockerContainer(os.environ.get("POSTGRES_IMAGE", "postgres:18"))
            .with_exposed_ports(5432)
            .with_env("POSTGRES_PASSWORD", "pitboss")
        )
        on_exit.enter_context(kafka)
        on_exit.enter_context(postgres)
    except DockerException as error:
        # Most often an engine without a registry: the images cannot be had.
        warnings.warn(
            pytest.PytestWarning(f"no containers, using the embedded stack: {error}"), stacklevel=1
        )
        return None
    url = f"postgresql://postgres:pitboss@127.0.0.1:{postgres.get_exposed_port(5432)}/postgres"
    servers = Servers("containers", f"127.0.0.1:{port}", url)
    assert poll(lambda: kafka_answers(servers.kafka) and database_answers(url), timeout_s=120), (
        "containers are up but silent"
    )
    return servers


async def _delete_topics(runtime: Runtime) -> None:
    from aiokafka.admin import AIOKafkaAdminClient

    admin = AIOKafkaAdminClient(bootstrap_servers=runtime.bootstrap_servers)
    await admin.start()
    try:
        ours = [name for name in await admin.list_topics() if name.startswith(runtime.prefix)]
        if ours:
            await admin.delete_topics(ours)
    finally:
        await admin.close()
