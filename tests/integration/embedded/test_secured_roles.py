"""Every role on a stack that takes TLS and logins only: all get ready, and none trusts another authority."""

from __future__ import annotations

import asyncio
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import orjson
import psycopg
import pytest

from lab.conformance.calls import CallOrder
from lab.conformance.intents import Verb
from lab.sandbox.actions import PROVIDERS
from pitboss.embedded.databases import create_database, drop_database
from pitboss.embedded.ports import choose_port
from pitboss.embedded.processes import poll
from pitboss.embedded.stack import Stack
from pitboss.ops.provision import provision
from pitboss.settings import Runtime
from pitboss.workers import ALL_ROLES, GATEWAY
from pitboss.workers.degraded import error_code
from pitboss.workers.supervisor import WorkerProcess
from runtime.certificates import UnknownAuthority
from tests.acceptance.gateway.conftest import SESSION_KEY_FILE, Client, Door
from tests.support.certificates import Authority
from tests.support.sandbox_keys import shared_keys

pytestmark = [pytest.mark.integration, pytest.mark.prove, pytest.mark.timeout(600)]

READY_S = 180
ENDED_S = 120


@pytest.fixture
def runtime(secured_stack: Stack, namespace: str) -> Iterator[Runtime]:
    runtime = secured_stack.runtime(namespace)
    assert runtime.broker.uses_tls
    assert runtime.broker.uses_sasl
    assert "sslmode=verify-full" in runtime.database_url
    create_database(runtime)
    provision(runtime, partitions=1, raw_partitions=1, providers=PROVIDERS)
    yield runtime
    drop_database(runtime)


@dataclass
class Roles:
    """A worker of every role, and the ports of their pages and of the gateway."""

    workers: dict[str, WorkerProcess]
    ports: dict[str, int]
    gateway_port: int

    def get(self, role: str, path: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.ports[role]}{path}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""
        except OSError:
            return 0, ""

    def unready(self) -> dict[str, str]:
        """Return what the roles that are not ready have logged last."""
        return {
            role: worker.last_error()
            for role, worker in self.workers.items()
            if self.get(role, "/readyz")[0] != 200
        }


@contextmanager
def running(runtime: Runtime, folder: Path, authority: Authority) -> Iterator[Roles]:
    own = authority.issue("127.0.0.1", "localhost")
    keys_file = folder / "keys.json"
    keys_file.touch(mode=0o600)
    keys_file.write_bytes(orjson.dumps(shared_keys().keyring()))
    (folder / SESSION_KEY_FILE).write_text(bytes(range(32)).hex())
    found: set[int] = set()
    while len(found) <= len(ALL_ROLES):
        found.add(choose_port())
    gateway_port, *others = found
    ports = dict(zip(ALL_ROLES, others, strict=True))
    workers = {}
    with ExitStack() as at_end:
        for role in ALL_ROLES:
            environment = {
                "PITBOSS_KEYS_FILE": str(keys_file),
                "PITBOSS_ARCHIVE": str(folder / "archive"),
                "PITBOSS_ARCHIVE_SPAN_MS": "1000",
                "PITBOSS_GATEWAY_PORT": str(gateway_port),
                "PITBOSS_GATEWAY_SESSION_KEY_FILE": str(folder / SESSION_KEY_FILE),
                "PITBOSS_GATEWAY_TLS_CERT": own.certificate,
                "PITBOSS_GATEWAY_TLS_KEY": own.key,
                # `worker_port` counts up from this base.
                "PITBOSS_TELEMETRY_PORT": str(ports[role] - ALL_ROLES.index(role)),
            }
            workers[role] = WorkerProcess(role, runtime, home=folder, environment=environment)
            workers[role].start()
            at_end.callback(workers[role].kill)
        yield Roles(workers, ports, gateway_port)


class SecureDoor(Door):
    """A gateway that is called by TLS."""

    def url(self, provider: str, path: str, port: int = 0) -> str:
        return super().url(provider, path, port).replace("http://", "https://")


def call(runtime: Runtime, folder: Path, port: int, trusted: str) -> int:
    """Make a bet of a player without money by TLS; return the status of the answer."""

    async def send() -> int:
        keys = shared_keys()
        door = SecureDoor(runtime, keys, keys, port, port, {}, [], folder)
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=trusted))
        async with aiohttp.ClientSession(connector=connector) as session:
            order = CallOrder(Verb.BET, "penniless", "990001", 150)
            status, _, _ = await Client(door, session).call("playngo", order)
        return status

    return asyncio.run(send())


def test_every_role_gets_ready_and_a_call_by_tls_goes_the_whole_way(runtime, tmp_path):
    authority = Authority(tmp_path / "gateway")
    with running(runtime, tmp_path, authority) as roles:
        assert poll(lambda: not roles.unready(), READY_S), roles.unready()
        port = roles.gateway_port
        assert call(runtime, tmp_path, port, authority.file) == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            call(runtime, tmp_path, port, Authority(tmp_path / "other").file)
        with pytest.raises(OSError, match=r"reset|closed|Remote end"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10)
        with psycopg.connect(runtime.database_url) as connection:
            booked = connection.execute("SELECT outcome FROM entry").fetchall()
        assert booked == [("REFUSED_FUNDS",)]
        assert poll(
            lambda: "pitboss_archive_position" in roles.get("archive", "/metrics")[1], READY_S
        )


def test_every_role_ends_with_the_name_of_the_fault_where_it_trusts_another_authority(
    runtime, tmp_path
):
    stranger = Authority(tmp_path / "stranger")
    elsewhere = replace(runtime, broker=replace(runtime.broker, ca_file=stranger.file))
    with running(elsewhere, tmp_path, stranger) as roles:
        for role, worker in roles.workers.items():
            assert worker.wait(ENDED_S), f"{role} goes on: {worker.last_error()}"
            assert worker.exit_code == UnknownAuthority.exit_code, worker.last_error()
            assert error_code(worker.last_error()) == UnknownAuthority.code, role
        assert roles.get(GATEWAY, "/readyz")[0] == 0
