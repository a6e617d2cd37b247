"""One installation for all tests of the gateway: real servers, real workers, every signature checked."""

from __future__ import annotations

import asyncio
import re
import socket
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from gateway.decisions.sessions import PlayerSession, SessionKey
from lab.conformance.calls import CallOrder, HttpRequest, make_intent, make_request
from lab.conformance.writers.find import find_writers
from lab.conformance.writers.writer import Sending
from lab.sandbox.keys import SandboxKeys
from pitboss.demo.environment import running_workers
from pitboss.embedded.ports import choose_port
from pitboss.embedded.processes import poll
from pitboss.ops.provision import provision
from pitboss.settings import Runtime
from pitboss.telemetry_settings import PORT_VARIABLE, worker_port
from pitboss.workers import GATEWAY
from pitboss.workers.supervisor import WorkerProcess
from streams.providers.registry import DIALECTS
from tests.acceptance.conftest import note
from tests.support.fix_stack import Servers
from tests.support.operator_limits import set_limit

PARTITIONS = 2
PROVIDERS = ("hub88", "hundredhp", "microgaming", "pgsoft", "playngo", "pragmatic", "skylift")
OTHERS = ("house", "adyen", "stripe", "sumsub", "uof")
FILES = ("camt", "lga_report")
SESSION_KEY = SessionKey(bytes(range(32)))
PATIENT_MS, IMPATIENT_MS = 60_000, 5_000
"""On a busy machine an append alone may take a second or two; what is late has been appended."""
ENDS_S = 4_000_000_000
SESSION_KEY_FILE = "session-key"


@dataclass
class Door:
    """A running gateway, with the keys by which its providers sign."""

    runtime: Runtime
    keys: SandboxKeys
    foreign: SandboxKeys
    """Keys that this installation does not know."""
    port: int
    impatient_port: int
    workers: dict[str, WorkerProcess]
    gateways: list[WorkerProcess]
    folder: Path
    telemetry_port: int = 0
    """Of the first gateway."""

    def url(self, provider: str, path: str, port: int = 0) -> str:
        return f"http://127.0.0.1:{port or self.port}/{provider}{path}"


@dataclass
class Client:
    """What a provider does: signs a call, sends it, and reads the answer."""

    door: Door
    session: aiohttp.ClientSession

    def request(
        self, provider: str, order: CallOrder, *, signed: str = "own", sending: int = 0
    ) -> HttpRequest:
        writer, face = find_writers((provider,))[provider], DIALECTS[provider].face
        assert face is not None
        keys = self.door.keys if signed == "own" else self.door.foreign
        at_ms = order.at_ms or time.time_ns() // 1_000_000
        token = order.token or SESSION_KEY.make_token(
            PlayerSession(order.player, order.currency, ENDS_S)
        )
        intent = make_intent(writer, order._replace(token=token, at_ms=at_ms))
        return make_request(writer, face, intent, Sending(at_ms, sending), keys.of(provider))

    async def send(
        self,
        provider: str,
        request: HttpRequest,
        port: int = 0,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, str, bytes]:
        sent = {"content-type": request.content_type, **dict(request.headers)} | (headers or {})
        url = self.door.url(provider, request.path, port)
        async with self.session.post(url, data=request.body, headers=sent) as response:
            return response.status, response.headers["content-type"], await response.read()

    async def call(
        self,
        provider: str,
        order: CallOrder,
        *,
        signed: str = "own",
        sending: int = 0,
        port: int = 0,
    ) -> tuple[int, str, bytes]:
        request = self.request(provider, order, signed=signed, sending=sending)
        return await self.send(provider, request, port)


def count_calls(telemetry_port: int, provider: str) -> int:
    """Return how many calls of a provider a gateway has taken up by now."""
    page = f"http://127.0.0.1:{telemetry_port}/metrics"
    with urllib.request.urlopen(page, timeout=60) as answer:
        text = answer.read().decode()
    series = rf'^pitboss_gateway_calls_total\{{.*provider="{provider}".*\}} (\d+)'
    return sum(map(int, re.findall(series, text, re.MULTILINE)))


async def wait_for_calls(telemetry_port: int, provider: str, count: int) -> None:
    """Wait until a gateway has taken up so many calls of a provider."""

    def are_there() -> bool:
        return count_calls(telemetry_port, provider) >= count

    assert await asyncio.to_thread(poll, are_there, 120)


def gateway_environment(
    folder: Path, runtime: Runtime, port: int, patience_ms: int, number: int, telemetry_port: int
) -> dict[str, str]:
    return {
        # `worker_port` counts up from this base.
        PORT_VARIABLE: str(telemetry_port - worker_port(1, GATEWAY, number) + 1),
        "PITBOSS_KEYS_FILE": str(folder / runtime.namespace / "keys.json"),
        "PITBOSS_GATEWAY_PORT": str(port),
        "PITBOSS_GATEWAY_PATIENCE_MS": str(patience_ms),
        "PITBOSS_GATEWAY_SESSION_KEY_FILE": str(folder / SESSION_KEY_FILE),
        "PITBOSS_GATEWAY_FILES": str(folder / "files" / str(port)),
    }


@contextmanager
def open_door(
    runtime: Runtime, folder: Path, patiences_ms: Sequence[int], **settings: str
) -> Iterator[Door]:
    """Run all workers and a gateway for each patience; further settings are the workers'."""
    provision(
        runtime,
        partitions=PARTITIONS,
        raw_partitions=PARTITIONS,
        providers=(*PROVIDERS, *OTHERS, *FILES),
    )
    keys, foreign = SandboxKeys.generate(), SandboxKeys.generate()
    (folder / SESSION_KEY_FILE).write_text(bytes(range(32)).hex())
    with running_workers(runtime, folder, note, keys=keys, **settings) as workers:
        ports = [choose_port() for _ in patiences_ms]
        telemetry_ports = [choose_port() for _ in patiences_ms]
        gateways = [
            WorkerProcess(
                GATEWAY,
                runtime,
                home=folder,
                number=number,
                environment=gateway_environment(
                    folder, runtime, port, patience_ms, number, telemetry_ports[number - 1]
                ),
            )
            for number, (port, patience_ms) in enumerate(zip(ports, patiences_ms, strict=True), 1)
        ]
        for process in gateways:
            process.start()
        try:
            for port, process in zip(ports, gateways, strict=True):
                assert poll(partial(listens, port), timeout_s=180), process.last_error()
            set_limit(runtime, "EUR", "100", folder / runtime.namespace / "keys.json")
            found = (runtime, keys, foreign, ports[0], ports[-1], workers, gateways, folder)
            yield Door(*found, telemetry_ports[0])
        finally:
            for process in gateways:
                process.stop()


@pytest.fixture(scope="package")
def door(
    stack: Servers,
    namespaces: Callable[[], str],
    leftovers: list[Runtime],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Door]:
    runtime = stack.runtime(namespaces())
    with open_door(runtime, tmp_path_factory.mktemp("gateway"), (PATIENT_MS, IMPATIENT_MS)) as door:
        yield door
    leftovers.append(runtime)


@pytest.fixture
async def client(door: Door) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        yield Client(door, session)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
