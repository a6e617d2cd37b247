"""`pitboss bench latency`: at a steady rate, in a closed loop, and hop by hop."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import click
import msgspec

from lab.bench.closed import ROUNDS, BetStock, ClosedBenchPlan, LoopSide
from lab.bench.closed import SECONDS as CLOSED_SECONDS
from lab.bench.hop_tracing import HopBenchPlan
from lab.bench.latency import BROKER_WARM_UP_S, SECONDS, WARM_UP_S, LatencyBenchPlan
from lab.bench.peers import BARE_HOPS
from lab.bench.processes import ProcessCommand
from lab.bench.raw_records import endless_bets, opening_records
from lab.sandbox.keys import SandboxKeys
from pitboss.cli.bench_environment import (
    BenchRun,
    bench_namespace,
    open_bench,
    print_figures,
    servers_option,
    with_lifeline,
)
from pitboss.cli.suggestions import PROVIDER
from pitboss.ops.topic_admin import admin_client
from pitboss.settings import Runtime, worker_environment
from runtime.kafka.producer import OutRecord
from schemas.errors import UsageError
from schemas.topics import OUTCOMES, TRANSACTIONS, raw_pattern, raw_topic

PLAYERS = 2_000
_ROLES = ("normalise", "ledger")
_PEER_BETS = 4_000
"""The peer decides nothing, so it gets the same bets again and again."""


class InFlightList(click.ParamType):
    """Numbers with commas between them, as in 16,64,200."""

    name = "N,N,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return the numbers; fails for anything but whole numbers from 1 to `PLAYERS`."""
        if isinstance(value, tuple):
            return value
        texts = str(value).split(",")
        numbers = [int(text) for text in texts if text.strip().isdecimal()]
        if len(numbers) < len(texts) or not all(1 <= number <= PLAYERS for number in numbers):
            self.fail(f"{value!r}: write it as 16,64,200, each from 1 to {PLAYERS:,}", param, ctx)
        return tuple(dict.fromkeys(numbers))


@click.command("latency")
@click.option(
    "--rate",
    "rates",
    multiple=True,
    type=click.IntRange(1, 100_000),
    help="Events a second; may be repeated.",
)
@click.option(
    "--closed",
    "in_flight",
    type=InFlightList(),
    default=(),
    help="Closed loop instead: so many bets in flight, each followed by the next when its outcome"
    " is there, in turns with the bare hops.",
)
@click.option(
    "--hops",
    "is_traced",
    is_flag=True,
    help="Show where a bet waits: append, fetch_raw, normalise, produce, fetch_log, decide, commit,"
    " publish, fetch_outcome. At --rate (200), or with --closed in flight.",
)
@click.option(
    "--seconds",
    type=click.IntRange(1),
    help=f"At each rate ({SECONDS}), or at each number in flight ({CLOSED_SECONDS}).",
)
@click.option(
    "--rounds",
    default=ROUNDS,
    show_default=True,
    type=click.IntRange(1, 100),
    help="Of --closed: runs of each side.",
)
@click.option(
    "--provider",
    "providers",
    multiple=True,
    type=PROVIDER,
    help="Of --closed and --hops: raw topics of these (hub88 and house are needed); as a rule those"
    " of a new installation.",
)
@click.option(
    "--partitions",
    type=click.IntRange(1, 1000),
    help="Of --closed and --hops: of each topic; as a rule those of a new installation.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="One JSON list on stdout, an object a rate; of --closed and --hops one object.",
)
@servers_option
def latency_command(
    rates: tuple[int, ...],
    in_flight: tuple[int, ...],
    is_traced: bool,
    seconds: int | None,
    rounds: int,
    providers: tuple[str, ...],
    partitions: int | None,
    as_json: bool,
    may_use_given: bool,
) -> None:
    """Measure the time from a raw record's append to its outcome.

    It passes through real workers, normalise and ledger, with signatures checked; the clock stops
    where a connector would have the outcome.
    """
    if rates and in_flight and not is_traced:
        raise UsageError("--rate and --closed are two measurements: give one of them")
    if providers and not {"hub88", "house"} <= set(providers):
        raise UsageError("--provider: the bets are Hub88's and the money is from house: add both")
    with open_bench(may_use_given=may_use_given) as opened, ExitStack() as on_exit:

        def namespace(suffix: str) -> Runtime:
            return on_exit.enter_context(
                bench_namespace(
                    opened.servers,
                    opened.name + suffix,
                    partitions=partitions,
                    providers=providers or None,
                )
            )

        bench = LatencyBench(opened, providers)
        if is_traced:
            bench.trace(namespace(""), in_flight, rates, seconds or SECONDS, as_json)
        elif in_flight:
            opened.progress.begin("making topics")
            own, peer = namespace(""), namespace("_peer")
            bench.close_loop(own, peer, in_flight, rounds, seconds or CLOSED_SECONDS, as_json)
        else:
            own = on_exit.enter_context(bench_namespace(opened.servers, opened.name))
            bench.offer_rates(own, rates, seconds or SECONDS, as_json)


class LatencyBench:
    """The three measurements, over one set of keys."""

    def __init__(self, opened: BenchRun, providers: Collection[str]) -> None:
        self._opened = opened
        self._providers = providers
        self._keys = SandboxKeys.generate()
        self._keyring = opened.folder / "keys.json"
        self._keyring.write_text(json.dumps(self._keys.keyring()), encoding="utf-8")

    def offer_rates(
        self, runtime: Runtime, rates: Sequence[int], seconds: int, as_json: bool
    ) -> None:
        """Measure at steady rates."""
        from lab.bench.latency import RATES, run

        rates = rates or RATES
        self._opened.progress.begin("signing bets")
        needed = round(max(rates) * BROKER_WARM_UP_S) + sum(
            round(rate * (seconds + WARM_UP_S)) for rate in rates
        )
        bets = list(islice(endless_bets(self._keys, PLAYERS), needed))
        plan = LatencyBenchPlan(
            bootstrap_servers=runtime.bootstrap_servers,
            workers=self._workers(runtime),
            opening=self._opening(runtime),
            bets=iter(bets),
            raw=runtime.topic(raw_topic("hub88")),
            outcomes=runtime.topic(OUTCOMES),
            rates=rates,
            seconds=seconds,
            servers_origin=self._opened.origin,
        )
        figures = asyncio.run(run(plan, self._opened.progress))
        print_figures("latency: raw append to outcome", figures, as_json)

    def close_loop(
        self,
        own: Runtime,
        peer: Runtime,
        in_flight: Sequence[int],
        rounds: int,
        seconds: int,
        as_json: bool,
    ) -> None:
        """Measure in a closed loop, in turns with the bare hops."""
        from lab.bench.closed import run

        bets = endless_bets(self._keys, PLAYERS)
        self._opened.progress.begin("signing bets")
        peer_bets = list(islice(bets, _PEER_BETS))
        plan = ClosedBenchPlan(
            bootstrap_servers=own.bootstrap_servers,
            sides=(
                self._own_side(own, BetStock(bets), self._workers(own)),
                self._bare_hops(peer, peer_bets),
            ),
            in_flight=in_flight,
            rounds=rounds,
            seconds=seconds,
            servers=self._opened.server_pids,
            servers_origin=self._opened.origin,
            topics=_partition_counts(own),
        )
        figures = asyncio.run(run(plan, self._opened.progress))
        print_figures("latency: bets in flight, in a closed loop", figures, as_json)

    def trace(
        self,
        runtime: Runtime,
        in_flight: Sequence[int],
        rates: Sequence[int],
        seconds: int,
        as_json: bool,
    ) -> None:
        """Measure each hop of a bet."""
        from lab.bench.hop_tracing import run

        bets = endless_bets(self._keys, PLAYERS)
        taps = {role: self._opened.folder / f"{role}.tap" for role in _ROLES}
        plan = HopBenchPlan(
            bootstrap_servers=runtime.bootstrap_servers,
            side=self._own_side(runtime, iter(()), self._workers(runtime, taps)),
            bets=bets,
            log=runtime.topic(TRANSACTIONS),
            taps=list(taps.values()),
            in_flight=in_flight,
            rates=rates or (() if in_flight else (200,)),
            seconds=seconds,
            servers_origin=self._opened.origin,
            topics=_partition_counts(runtime),
        )
        figures = asyncio.run(run(plan, self._opened.progress))
        print_figures("latency: a bet, hop by hop", figures, as_json)

    def _opening(self, runtime: Runtime) -> dict[str, list[OutRecord]]:
        return {runtime.topic(raw_topic("house")): opening_records(self._keys, PLAYERS)}

    def _workers(
        self, runtime: Runtime, taps: Mapping[str, Path] | None = None
    ) -> dict[str, ProcessCommand]:
        environment = {
            **worker_environment(runtime),
            "PITBOSS_KEYS_FILE": str(self._keyring),
            "PITBOSS_LOG_LEVEL": "WARNING",
        }
        commands = {
            role: with_lifeline("pitboss.workers", role)
            if taps is None
            else with_lifeline("pitboss.workers.traced", str(taps[role]), role)
            for role in _ROLES
        }
        return {
            role: ProcessCommand(command, environment, self._opened.folder / f"{role}.log")
            for role, command in commands.items()
        }

    def _own_side(
        self, runtime: Runtime, records: Any, workers: Mapping[str, ProcessCommand]
    ) -> LoopSide:
        return LoopSide(
            "Pitboss",
            workers,
            runtime.topic(raw_topic("hub88")),
            runtime.topic(OUTCOMES),
            records,
            self._opening(runtime),
            are_outcomes_ours=True,
        )

    def _bare_hops(self, runtime: Runtime, bets: Sequence[OutRecord]) -> LoopSide:
        from lab.bench.peers.bare_hops import BareHopSettings

        servers = runtime.bootstrap_servers
        log, outcomes = runtime.topic(TRANSACTIONS), runtime.topic(OUTCOMES)
        hops = {
            "hop_1": BareHopSettings(servers, runtime.group("hop_1"), raw_topics(runtime), log),
            "hop_2": BareHopSettings(
                servers, runtime.group("hop_2"), [log], outcomes, runtime.database_url
            ),
        }
        return LoopSide(
            BARE_HOPS,
            {
                name: ProcessCommand(
                    with_lifeline(
                        "lab.bench.peers.bare_hops", msgspec.json.encode(settings).decode()
                    ),
                    worker_environment(runtime),
                    self._opened.folder / f"{name}.log",
                )
                for name, settings in hops.items()
            },
            runtime.topic(raw_topic("hub88")),
            outcomes,
            cycle(bets),
        )


def raw_topics(runtime: Runtime) -> list[str]:
    """Return every raw topic of a namespace, as the broker has them."""
    return sorted(asyncio.run(_count_partitions(runtime)).keys() - {runtime.topic(TRANSACTIONS)})


def _partition_counts(runtime: Runtime) -> dict[str, int]:
    """Return how many partitions all raw topics have together, and the log."""
    counts = asyncio.run(_count_partitions(runtime))
    log = counts.pop(runtime.topic(TRANSACTIONS))
    return {"raw_topics": len(counts), "raw": sum(counts.values()), "log": log}


async def _count_partitions(runtime: Runtime) -> dict[str, int]:
    pattern = re.compile(raw_pattern(runtime.namespace))
    async with admin_client(runtime.bootstrap_servers) as admin:
        names = [name for name in await admin.list_topics() if pattern.match(name)]
        described = await admin.describe_topics([*names, runtime.topic(TRANSACTIONS)])
    return {topic["topic"]: len(topic["partitions"]) for topic in described}
