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
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from fraud_agents.snapshots import TABLES as FRAUD_TABLES
from ledger_sink.store.migrate import TABLES as LEDGER_TABLES
from pitboss.embedded import kafka as embedded_kafka
from pitboss.embedded.databases import create_database, drop_database
from pitboss.embedded.kafka import JVM_OPTIONS, KafkaServer, kafka_answers
from pitboss.embedded.ports import choose_port
from pitboss.embedded.postgres import SERVER_SETTINGS, database_answers
from pitboss.embedded.processes import poll
from pitboss.embedded.stack import Stack
from pitboss.settings import Runtime, StackSettings, read_settings, runtime_of
from runtime.postgres.migrations import migrate
from runtime.security import BrokerAddress
from tests.support.stack_guard import StackGuard, end_servers, end_stack

TESTS_HOME = Path(__file__).parents[2] / ".pitboss" / "tests"

LEFTOVERS_MAX = 8
"""Removed one by one, topics cost their broker three times as much. While 290 more of them are there, each look at all
topics costs a client 8 ms and the broker 3 ms more."""

# Half of the CPU of the tests' brokers was the second compiler's, which most do not live to profit from.
# It stays where the start-up cache is recorded: the product's brokers start from that too.
ONE_COMPILER = "-XX:TieredStopAtLevel=1"

# The shared server is thrown away with its data, and no test ends it: what must survive a SIGKILL is shown
# on private stacks, under the product's settings. Each CREATE and DROP DATABASE looks through all buffers.
SHARED_SERVER_SETTINGS = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "128MB"}

SEED = int(os.environ.setdefault("PITBOSS_TEST_SEED", str(random.SystemRandom().getrandbits(32))))
"""Set for the processes that xdist starts too: the header of the run names the one seed that all of them use."""


@dataclass(frozen=True)
class Servers:
    """A broker and a database for a whole session, wherever they are from."""

    origin: str
    kafka: BrokerAddress
    database_url: str
    is_temporary: bool = False
    """Whether they are removed with all that is in them when the last session has ended."""

    def runtime(self, namespace: str) -> Runtime:
        return runtime_of(self.kafka, self.database_url, namespace)


def pytest_report_header() -> str:
    return f"pitboss: PITBOSS_TEST_SEED={SEED}"


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the servers of a private stack until the next test that takes it: idle, they cost CPU all the time."""
    if nextitem is None:
        return  # the fixtures have ended them
    for fixture in ("killable_stack", "secured_stack"):
        taken = getattr(item, "funcargs", {}).get(fixture)
        if taken is not None and fixture not in getattr(nextitem, "fixturenames", ()):
            end_servers(taken)


@pytest.fixture(scope="session")
def stack(guard: StackGuard) -> Iterator[Servers]:
    """Servers that every test of the session shares."""
    with ExitStack() as on_exit:
        found = _given_servers() or _containers(on_exit)
        yield found or on_exit.enter_context(_shared_embedded(guard))


@pytest.fixture(scope="session")
def namespaces() -> Callable[[], str]:
    """Names that no other test uses, on servers that other sessions may use too."""
    source = random.SystemRandom()
    return lambda: f"t{os.getpid()}_{source.getrandbits(24):06x}"


@pytest.fixture
def namespace(namespaces: Callable[[], str]) -> str:
    """A namespace for this test alone."""
    return namespaces()


@pytest.fixture(scope="session")
def leftovers(stack: Servers) -> Iterator[list[Runtime]]:
    """Namespaces that are no longer needed: removed many at a time, which costs a fraction of one by one."""
    found: list[Runtime] = []
    yield found
    if not stack.is_temporary:
        _remove(found)


@pytest.fixture(scope="session")
def template(stack: Servers, namespaces: Callable[[], str]) -> Iterator[Runtime]:
    """A database with all migrations: a copy of it costs a fraction of applying them again."""
    migrated = stack.runtime(namespaces())
    create_database(migrated)
    for tables in (LEDGER_TABLES, FRAUD_TABLES):
        migrate(tables, migrated.database_url)
    # Without connections, so that no autovacuum worker is in it when it is copied.
    _execute(migrated, "ALTER DATABASE {} ALLOW_CONNECTIONS false")
    yield migrated
    if not stack.is_temporary:
        drop_database(migrated)


@pytest.fixture
def empty_runtime(stack: Servers, namespace: str, leftovers: list[Runtime]) -> Iterator[Runtime]:
    """A runtime with an empty database and no topics; no other test sees them."""
    fresh = stack.runtime(namespace)
    create_database(fresh)
    yield from _left_over(leftovers, fresh)


@pytest.fixture
def runtime(
    stack: Servers, namespace: str, leftovers: list[Runtime], template: Runtime
) -> Iterator[Runtime]:
    """A runtime with a migrated database without rows, and no topics; no other test sees them.

    As after `pitboss provision` but for one right in the database, which the next `migrate` gives.
    """
    fresh = stack.runtime(namespace)
    # By its files: page by page through buffers and the write-ahead log costs two to three times the CPU.
    _execute(fresh, "CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy", template.database)
    yield from _left_over(leftovers, fresh)


def _left_over(leftovers: list[Runtime], fresh: Runtime) -> Iterator[Runtime]:
    yield fresh
    leftovers.append(fresh)
    if len(leftovers) >= LEFTOVERS_MAX:
        _remove(leftovers)
        leftovers.clear()


@pytest.fixture(scope="session")
def guard() -> Iterator[StackGuard]:
    """What ends the servers of this session, however it ends; all that start one take it."""
    with StackGuard() as watching, pytest.MonkeyPatch.context() as patched:
        if KafkaServer(TESTS_HOME, read_settings({}).cache, None)._start_up_cache().exists():
            patched.setattr(embedded_kafka, "JVM_OPTIONS", (*JVM_OPTIONS, ONE_COMPILER))
        yield watching


@pytest.fixture
def private_settings(guard: StackGuard) -> Iterator[StackSettings]:
    """Settings of a stack that only this test has; its jars are those of the machine."""
    with _private_home(guard) as home:
        yield replace(read_settings({}), home=home)


@pytest.fixture(scope="session")
def killable_stack(guard: StackGuard) -> Iterator[Stack]:
    """An embedded stack, running or not, that no other session uses."""
    with _private_home(guard) as home:
        yield Stack.open(replace(read_settings({}), home=home))


@pytest.fixture
def private_stack(killable_stack: Stack) -> Stack:
    """A running embedded stack that this test may kill, wipe or stop.

    The next test that takes it has what is left started again, which costs a third of a new one.
    """
    killable_stack.up()
    return killable_stack


@pytest.fixture(scope="session")
def secured_home(guard: StackGuard) -> Iterator[StackSettings]:
    """The home of a stack with TLS and logins, which no other session uses."""
    with _private_home(guard) as home:
        yield replace(read_settings({}), home=home)


@pytest.fixture
def secured_stack(secured_home: StackSettings) -> Stack:
    """A running stack with TLS and logins, as `private_stack` is one without."""
    Stack.open(secured_home).up(secure=True)
    return Stack.open(secured_home)


@contextmanager
def _private_home(guard: StackGuard) -> Iterator[Path]:
    # Not below pytest's own folder: another session that begins closes that to every account but its own, and
    # PostgreSQL runs under one of its own.
    with tempfile.TemporaryDirectory(prefix="pitboss-", ignore_cleanup_errors=True) as folder:
        home = Path(folder) / "pitboss"
        guard.watch(home)
        yield home
        if home.exists():
            end_stack(home)


def _execute(runtime: Runtime, statement: LiteralString, *more: str) -> None:
    names = [sql.Identifier(name) for name in (runtime.database, *more)]
    with psycopg.connect(runtime.maintenance_url, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*names))


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
def _shared_embedded(guard: StackGuard) -> Iterator[Servers]:
    # Sessions at the same time share one stack: each holds the lock with the others; the guard of the last one ends it.
    embedded = Stack.open(replace(read_settings({}), home=TESTS_HOME))
    TESTS_HOME.mkdir(parents=True, exist_ok=True)
    lock = TESTS_HOME.parent / "tests.lock"
    with lock.open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        guard.watch(TESTS_HOME, lock)
        with pytest.MonkeyPatch.context() as patched:
            for name, value in SHARED_SERVER_SETTINGS.items():
                patched.setitem(SERVER_SETTINGS, name, value)
            state = embedded.up()
        with psycopg.connect(state.database_url, autocommit=True) as connection:
            # Each of some hundred databases would be visited once a minute: several a second, for nothing.
            connection.execute("ALTER SYSTEM SET autovacuum_naptime = '1h'")
            connection.execute("SELECT pg_reload_conf()")
            _log_in_at_little_cost(connection, state.database_url)
        yield Servers("the embedded stack", state.broker, state.database_url, is_temporary=True)


def _log_in_at_little_cost(connection: psycopg.Connection[Any], url: str) -> None:
    """Hash the password of the tests' login once: its thousands of connections would do that 4,096 times each."""
    password = conninfo_to_dict(url)["password"]
    with connection.transaction():  # sessions begin together
        connection.execute("LOCK TABLE pg_authid IN SHARE ROW EXCLUSIVE MODE")
        connection.execute("SET LOCAL scram_iterations = 1")
        connection.execute(sql.SQL("ALTER ROLE postgres PASSWORD {}").format(password))


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
    servers = Servers("containers", BrokerAddress(f"127.0.0.1:{port}"), url)
    assert poll(lambda: kafka_answers(servers.kafka) and database_answers(url), timeout_s=120), (
        "containers are up but silent"
    )
    return servers


def _remove(namespaces: Sequence[Runtime]) -> None:
    """Remove topics, which cost their broker something, and databases.

    Of those there are hundreds with five hundred files each: the last process would remove all of them by itself,
    while everything else has ended.
    """
    if not namespaces:
        return
    for namespace in namespaces:
        drop_database(namespace)
    with ThreadPoolExecutor(1) as apart:  # an async test may have a loop in this thread
        apart.submit(asyncio.run, _delete_topics(namespaces)).result()


async def _delete_topics(namespaces: Sequence[Runtime]) -> None:
    from aiokafka.admin import AIOKafkaAdminClient

    admin = AIOKafkaAdminClient(**namespaces[0].broker.aiokafka_options())
    await admin.start()
    try:
        prefixes = tuple(namespace.prefix for namespace in namespaces)
        ours = [name for name in await admin.list_topics() if name.startswith(prefixes)]
        if ours:
            await admin.delete_topics(ours)
    finally:
        await admin.close()
