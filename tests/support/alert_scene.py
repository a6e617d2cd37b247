"""An installation with a worker of every role, steady play through its gateway, and a Prometheus on fast rules."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp
import orjson

from lab.conformance.calls import CallOrder
from lab.conformance.intents import Verb
from lab.sandbox.keys import SandboxKeys
from pitboss.embedded.ports import choose_port
from pitboss.embedded.processes import poll
from pitboss.ops.provision import provision
from pitboss.settings import Runtime
from pitboss.workers import ALL_ROLES
from pitboss.workers.supervisor import WorkerProcess
from runtime.kafka.producer import BatchProducer, OutRecord, ProducerSettings
from tests.acceptance.gateway.conftest import SESSION_KEY_FILE, Client, Door, listens
from tests.support.alert_rules import load_rules, speed_up
from tests.support.operator_limits import set_limit
from tests.support.prometheus import Prometheus, run_prometheus
from tests.support.sandbox_keys import shared_keys

FACTOR: Final = 10
PLAYERS: Final = tuple(f"player-{n}" for n in range(20))
IDLE: Final = "idle"
"""A player with money that nobody plays with."""
STEP_S: Final = 0.2
PATIENCE_MS: Final = 3_000
DEADLINE_S: Final = 400
PROVIDERS: Final = ("playngo", "skylift")
RAW_ONLY: Final = "camt"
"""A provider that signs nothing: what is wrong with its records is their content."""


@dataclass
class Traffic:
    """Bets of both providers, five a second each, and whatever else is turned on; runs in a thread of its own."""

    door: Door
    playing: set[str] = field(default_factory=lambda: set(PROVIDERS))
    is_forging: bool = False
    """Whether somebody signs further bets with keys of their own."""
    is_poor: bool = False
    """Whether players without money bet, five for each other bet."""
    garbage: list[str] = field(default_factory=list)
    """Topics to which records that nothing can read are appended."""
    appended: Counter[str] = field(default_factory=Counter)
    """How many of those each topic has, as the broker has acknowledged them."""
    stopping: threading.Event = field(default_factory=threading.Event)
    answered: int = 0
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1_000_000))
    _calls: set[asyncio.Task[None]] = field(default_factory=set)

    @contextmanager
    def running(self) -> Iterator[Traffic]:
        """Fund the players, then play until the block is left."""
        asyncio.run(self._fund())
        thread = threading.Thread(target=lambda: asyncio.run(self._play()), name="traffic")
        thread.start()
        try:
            yield self
        finally:
            self.stopping.set()
            thread.join(60)

    async def _fund(self) -> None:
        async with aiohttp.ClientSession() as session:
            client = Client(self.door, session)
            for player in (*PLAYERS, IDLE):
                details = (("actor", "a"), ("reason", "b"))
                order = CallOrder(
                    Verb.ADJUSTMENT, player, f"fund-{player}", 1_000_000, details=details
                )
                while True:
                    _, _, body = await client.call("house", order)
                    if b'"POSTED"' in body or b'"EXISTS"' in body:
                        break
                    await asyncio.sleep(0.5)

    async def _play(self) -> None:
        settings = ProducerSettings(self.door.runtime.broker, "pitboss.test")
        async with aiohttp.ClientSession() as session, BatchProducer(settings) as producer:
            client = Client(self.door, session)
            while not self.stopping.is_set():
                for provider in sorted(self.playing):
                    self._begin(client, provider, PLAYERS[next(self._numbers) % len(PLAYERS)])
                    for _ in range(5 if self.is_poor else 0):
                        self._begin(client, provider, f"penniless-{next(self._numbers) % 50}")
                if self.is_forging:
                    self._begin(client, "playngo", PLAYERS[0], signed="foreign")
                for topic in list(self.garbage):
                    record: OutRecord = (b"k", b"<nothing", (("content-type", b"text/xml"),), None)
                    await producer.send_keyed(topic, [record] * 5)
                    self.appended[topic] += 5
                await asyncio.sleep(STEP_S)
            await asyncio.gather(*self._calls, return_exceptions=True)

    def _begin(self, client: Client, provider: str, player: str, signed: str = "own") -> None:
        number = next(self._numbers)
        tx_id = f"s-{number}" if provider == "skylift" else str(number)
        order = CallOrder(Verb.BET, player, tx_id, 1, round_id=str(number))
        call = asyncio.ensure_future(self._call(client, provider, order, signed))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _call(self, client: Client, provider: str, order: CallOrder, signed: str) -> None:
        with suppress(aiohttp.ClientError, TimeoutError):
            status, _, _ = await client.call(provider, order, signed=signed)
            self.answered += status == 200


@dataclass
class AlertScene:
    """A running installation that is scraped every second."""

    runtime: Runtime
    folder: Path
    ports: dict[str, int]
    workers: dict[str, WorkerProcess]
    traffic: Traffic
    prometheus: Prometheus

    def wait_for(self, alert: str, labels: str, *, fires: bool) -> None:
        """Wait until an alert fires, or none with these labels does."""
        as_wanted = partial(self._is_as_wanted, alert, labels, fires=fires)
        happened = poll(as_wanted, DEADLINE_S)
        assert happened, f"{alert}{{{labels}}} {'does not fire' if fires else 'does not clear'}"

    def _is_as_wanted(self, alert: str, labels: str, *, fires: bool) -> bool:
        return bool(self.prometheus.firing(alert, labels)) == fires

    def start(self, role: str) -> None:
        """Start a worker again, and wait until Prometheus has seen it."""
        query = f'pitboss_worker_start_time_seconds{{role="{role}"}}'
        before = [one["value"][1] for one in self.prometheus.query(query)]
        self.workers[role].start()
        assert poll(
            lambda: (
                (now := self.prometheus.query(query)) != []
                and [one["value"][1] for one in now] != before
            ),
            DEADLINE_S,
        )

    def restart(self, role: str) -> None:
        """Kill a worker and start it again."""
        self.workers[role].kill()
        self.start(role)


@contextmanager
def alert_scene(runtime: Runtime, folder: Path, **settings: str) -> Iterator[AlertScene]:
    """Run everything until the block is left; `settings` are variables of every worker."""
    providers = (*PROVIDERS, "house", RAW_ONLY)
    provision(runtime, partitions=1, raw_partitions=1, providers=providers)
    keys_file = folder / "keys.json"
    keys_file.touch(mode=0o600)
    keys_file.write_bytes(orjson.dumps(shared_keys().keyring()))
    (folder / SESSION_KEY_FILE).write_text(bytes(range(32)).hex())
    gateway_port = choose_port()
    ports = _choose_ports(len(ALL_ROLES))
    by_role = dict(zip(ALL_ROLES, ports, strict=True))
    environment = {
        "PITBOSS_HOME": str(folder),
        "PITBOSS_KEYS_FILE": str(keys_file),
        "PITBOSS_GATEWAY_PORT": str(gateway_port),
        "PITBOSS_GATEWAY_PATIENCE_MS": str(PATIENCE_MS),
        "PITBOSS_GATEWAY_SESSION_KEY_FILE": str(folder / SESSION_KEY_FILE),
        "PITBOSS_ARCHIVE": str(folder / "archive"),
        "PITBOSS_ARCHIVE_SPAN_MS": "1000",
        "PITBOSS_RESOLVE_MIN_AGE_MS": "1000",
        **settings,
    }
    with ExitStack() as at_end:
        workers: dict[str, WorkerProcess] = {}
        for number, role in enumerate(ALL_ROLES):
            # `worker_port` counts up from this base.
            base = {"PITBOSS_TELEMETRY_PORT": str(by_role[role] - number)}
            worker = WorkerProcess(role, runtime, home=folder, environment=environment | base)
            worker.start()
            at_end.callback(worker.kill)
            workers[role] = worker
        assert poll(partial(listens, gateway_port), DEADLINE_S)
        set_limit(runtime, "EUR", "100000", keys_file)
        foreign = SandboxKeys.generate()
        door = Door(
            runtime, shared_keys(), foreign, gateway_port, gateway_port, workers, [], folder
        )
        traffic = at_end.enter_context(Traffic(door).running())
        rules = speed_up(load_rules(), FACTOR)
        prometheus = at_end.enter_context(run_prometheus(folder, by_role, rules))
        yield AlertScene(runtime, folder, by_role, workers, traffic, prometheus)


def _choose_ports(count: int) -> list[int]:
    found: set[int] = set()
    while len(found) < count:
        found.add(choose_port())
    return sorted(found)
