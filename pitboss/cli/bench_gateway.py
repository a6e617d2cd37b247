"""`pitboss bench gateway`: our HTTP door beside the wallet that is written today."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import psycopg

from lab.bench.environments import RevisionBuild, build_peer
from lab.bench.gateway import (
    IN_FLIGHT,
    PEER_SCHEMA,
    RATES,
    ROUNDS,
    SECONDS,
    DoorSide,
    GatewayBenchPlan,
    GatewayPeerSettings,
)
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
)
from pitboss.cli.bench_pipeline import LIFELINE, PEERS_FOLDER
from pitboss.cli.bench_sides import worker_commands, write_keyring
from pitboss.embedded.databases import create_database, drop_database
from pitboss.embedded.ports import choose_port
from pitboss.settings import Runtime, runtime_of, worker_environment
from pitboss.workers import GATEWAY
from runtime.kafka.producer import OutRecord

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
@click.option("--no-peer", is_flag=True, help="Without the peer: its ratios are null.")
@json_option
@save_option
@servers_option
def gateway_command(
    in_flight: tuple[int, ...],
    rates: tuple[int, ...],
    rounds: int,
    seconds: int,
    no_peer: bool,
    as_json: bool,
    is_saved: bool,
    may_use_given: bool,
) -> None:
    """Measure signed bets over HTTP, answered from the ledger, in turns with a peer.

    The peer is FastAPI under uvicorn, with one and with two processes, a pool of psycopg and one
    transaction a bet; it is installed in an environment of its own.
    """
    from lab.bench.gateway import run

    with open_bench(may_use_given=may_use_given) as opened:
        keys = SandboxKeys.generate()
        python = None if no_peer else _build_peer(opened)
        with (
            bench_namespace(opened.servers, opened.name) as own,
            _peer_database(opened) as peer_runtime,
        ):
            sides = [_our_side(opened, own, keys)]
            if python is not None:
                sides += [
                    _peer_side(opened, peer_runtime, keys, python, processes)
                    for processes in (1, 2)
                ]
            plan = GatewayBenchPlan(
                sides, in_flight, rates, rounds, seconds, opened.server_pids, opened.origin
            )
            figures = asyncio.run(run(plan, opened.progress))
    save_as = "gateway" if is_saved else None
    print_figures("gateway: bets over HTTP", figures, as_json=as_json, save_as=save_as)


def _build_peer(opened: BenchRun) -> Path:
    return build_peer(
        "gateway", PEER_PACKAGES, opened.settings.home / PEERS_FOLDER, opened.progress.begin
    )


class _PeerDatabase:
    """A database of the peer's own, removed afterwards."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def __enter__(self) -> Runtime:
        create_database(self.runtime)
        return self.runtime

    def __exit__(self, *_: object) -> None:
        drop_database(self.runtime)


def _peer_database(opened: BenchRun) -> _PeerDatabase:
    servers = opened.servers
    name = f"{opened.name}_peer"
    return _PeerDatabase(runtime_of(servers.broker, servers.database_url, name))


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
        for request in opening:
            body = await _post(port, request)
            if b'"POSTED"' not in body and b'"EXISTS"' not in body:
                raise BenchFailed(f"a player got no money: {body!r}")

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


async def _post(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    _, _, rest = head.lower().partition(b"content-length: ")
    body = await reader.readexactly(int(rest.partition(b"\r")[0]))
    writer.close()
    return body
