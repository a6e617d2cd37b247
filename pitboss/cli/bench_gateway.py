"""`pitboss bench gateway`: our HTTP door beside the wallet that is written today."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
import msgspec
import psycopg
import uvloop

from lab.bench.environments import RevisionBuild, build_peer
from lab.bench.gateway import (
    BROKER_WARM_UP_S,
    IN_FLIGHT,
    PEER_SCHEMA,
    RATES,
    ROUNDS,
    SECONDS,
    DoorSide,
    GatewayBenchPlan,
    GatewayPeerSettings,
)
from lab.bench.http_load import KeptConnection
from lab.bench.peers import BARE_HOPS
from lab.bench.processes import BenchFailed, ProcessCommand
from lab.bench.raw_records import endless_bets, opening_records
from lab.sandbox.keys import SandboxKeys
from pitboss.cli.bench_environment import (
    BenchRun,
    bench_namespace,
    json_option,
    open_bench,
    print_figures,
    save_option,
    servers_option,
    with_lifeline,
)
from pitboss.cli.bench_latency import bare_hop_commands
from pitboss.cli.bench_pipeline import LIFELINE, PEERS_FOLDER
from pitboss.cli.bench_sides import worker_commands, write_keyring
from pitboss.embedded.databases import create_database, drop_database
from pitboss.embedded.ports import choose_port
from pitboss.settings import Runtime, runtime_of, worker_environment
from pitboss.workers import GATEWAY
from runtime.kafka.producer import OutRecord
from schemas.topics import OUTCOMES, raw_topic

PEER_PACKAGES = ("fastapi==0.165.0", "uvicorn[standard]==0.54.0", "psycopg-pool==3.3.3")
PLAYERS = 200
POOL_SIZE = 20
_UNITS = 10**15


@click.command("gateway")
@click.option(
    "--in-flight",
    multiple=True,
    type=click.IntRange(1, 10_000),
    default=IN_FLIGHT,
    show_default=True,
    help="Calls in flight, in a closed loop; may be repeated.",
)
@click.option(
    "--rate",
    "rates",
    multiple=True,
    type=click.IntRange(1, 100_000),
    default=RATES,
    show_default=True,
    help="Calls a second, in an open loop; may be repeated.",
)
@click.option(
    "--rounds", default=ROUNDS, show_default=True, type=click.IntRange(1, 100), help="Of each side."
)
@click.option(
    "--seconds", default=SECONDS, show_default=True, type=click.IntRange(1), help="Of each load."
)
@click.option(
    "--warm-up",
    "warm_up_s",
    default=BROKER_WARM_UP_S,
    show_default=True,
    type=click.FloatRange(0),
    help="Seconds of each side at the largest number in flight, before anything is measured.",
)
@click.option(
    "--no-peer", is_flag=True, help="Without peer and floor: they, and the ratios, are null."
)
@json_option
@save_option
@servers_option
def gateway_command(
    in_flight: tuple[int, ...],
    rates: tuple[int, ...],
    rounds: int,
    seconds: int,
    warm_up_s: float,
    no_peer: bool,
    as_json: bool,
    is_saved: bool,
    may_use_given: bool,
) -> None:
    """Measure signed bets over HTTP, answered from the ledger, in turns with a peer and a floor.

    The peer is FastAPI under uvicorn, with one and with two processes (the better one counts), a
    pool of psycopg and one transaction a bet; it is installed in an environment of its own. The
    floor is the bare hops behind an empty handler.

    As it is, the loads take 7 minutes, and with starts and the signing of bets some 15 on two quiet
    cores. `--rounds 1 --seconds 2 --warm-up 0` is a look at it: 1 minute of loads, some 4 in all.
    """
    from lab.bench.gateway import run

    with open_bench(may_use_given=may_use_given) as opened, ExitStack() as on_exit:
        keys = SandboxKeys.generate()
        own = on_exit.enter_context(bench_namespace(opened.servers, opened.name))
        peers: list[DoorSide] = []
        floor = None
        if not no_peer:
            python = _build_peer(opened)
            of_peer = on_exit.enter_context(_peer_database(opened))
            peers = [_peer_side(opened, of_peer, keys, python, count) for count in (1, 2)]
            name = f"{opened.name}_floor"
            of_floor = on_exit.enter_context(bench_namespace(opened.servers, name))
            floor = _floor_side(opened, of_floor, keys)
        plan = GatewayBenchPlan(
            _our_side(opened, own, keys),
            peers,
            floor,
            in_flight,
            rates,
            rounds,
            seconds,
            opened.server_pids,
            opened.origin,
            warm_up_s,
        )
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            figures = runner.run(run(plan, opened.progress))
    save_as = "gateway" if is_saved else None
    print_figures("gateway: bets over HTTP", figures, as_json=as_json, save_as=save_as)


def _build_peer(opened: BenchRun) -> Path:
    return build_peer(
        "gateway", PEER_PACKAGES, opened.settings.home / PEERS_FOLDER, opened.progress.begin
    )


@contextmanager
def _peer_database(opened: BenchRun) -> Iterator[Runtime]:
    """Make a database of the peer's own; remove it afterwards."""
    servers = opened.servers
    runtime = runtime_of(servers.broker, servers.database_url, f"{opened.name}_peer")
    create_database(runtime)
    try:
        yield runtime
    finally:
        drop_database(runtime)


def _our_side(opened: BenchRun, runtime: Runtime, keys: SandboxKeys) -> DoorSide:
    keyring = write_keyring(keys, opened.folder / "keys.json", ("hub88", "house"))
    port = choose_port()
    commands = worker_commands(opened, runtime, ("normalise", "ledger", GATEWAY), keyring)
    door = commands[GATEWAY]
    environment = {
        **door.environment,
        "PITBOSS_GATEWAY_PORT": str(port),
        "PITBOSS_GATEWAY_PLAYER_RATE": "100000",
        "PITBOSS_GATEWAY_PATIENCE_MS": "30000",
    }
    commands[GATEWAY] = ProcessCommand(door.arguments, environment, door.log)
    requests = _requests(endless_bets(keys, PLAYERS), "/hub88/transaction/bet")
    opening = list(_requests(iter(opening_records(keys, PLAYERS)), "/house/v1"))

    async def prepare() -> None:
        connection = await KeptConnection.open(port)
        for request in opening:
            body = await connection.send(request)
            if b'"POSTED"' not in body and b'"EXISTS"' not in body:
                raise BenchFailed(f"a player got no money: {body!r}")
        connection.close()

    return DoorSide("ours", commands, port, requests, prepare)


def _peer_side(
    opened: BenchRun, runtime: Runtime, keys: SandboxKeys, python: Path, processes: int
) -> DoorSide:
    port = choose_port()
    pem = keys.keyring()["hub88"]["public_key_pem"]
    settings = GatewayPeerSettings(
        port, processes, runtime.database_url, pem, POOL_SIZE // processes
    )
    module, text = "lab.bench.peers.gateway_peer", msgspec.json.encode(settings).decode()
    command = ProcessCommand(
        (str(python), "-m", LIFELINE, module, text),
        RevisionBuild.environment(worker_environment(runtime)),
        opened.folder / f"peer-{processes}.log",
    )

    async def prepare() -> None:
        await asyncio.to_thread(_fill_wallets, runtime)

    requests = _requests(endless_bets(keys, PLAYERS), "/transaction/bet")
    name = f"FastAPI with {processes} process" + ("es" if processes > 1 else "")
    return DoorSide(name, {"peer": command}, port, requests, prepare)


def _floor_side(opened: BenchRun, runtime: Runtime, keys: SandboxKeys) -> DoorSide:
    from lab.bench.peers.bare_door import BareDoorSettings

    port = choose_port()
    settings = BareDoorSettings(
        runtime.broker, port, runtime.topic(raw_topic("hub88")), runtime.topic(OUTCOMES)
    )
    text = msgspec.json.encode(settings).decode()
    door = ProcessCommand(
        with_lifeline("lab.bench.peers.bare_door", text),
        worker_environment(runtime),
        opened.folder / "bare_door.log",
    )
    processes = {**bare_hop_commands(runtime, opened.folder), GATEWAY: door}
    requests = _requests(endless_bets(keys, PLAYERS), "/transaction/bet")
    return DoorSide(BARE_HOPS, processes, port, requests)


def _fill_wallets(runtime: Runtime) -> None:
    with psycopg.connect(runtime.database_url) as connection:
        connection.execute(PEER_SCHEMA)
        connection.execute("TRUNCATE bet, wallet")
        connection.execute(
            "INSERT INTO wallet SELECT 'p-' || lpad(n::text, 6, '0'), 'EUR', %s "
            "FROM generate_series(0, %s) AS n",
            (_UNITS, PLAYERS - 1),
        )


def _requests(records: Iterator[OutRecord], path: str) -> Iterator[bytes]:
    """Yield each record as the request that its provider would send."""
    for _, value, headers, _ in records:
        body = value or b""
        lines = [f"POST {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}"]
        lines += [
            f"{name}: {(text or b'').decode()}"
            for name, text in headers
            if name == "content-type" or name.endswith("-signature")
        ]
        yield "\r\n".join([*lines, "", ""]).encode() + body
