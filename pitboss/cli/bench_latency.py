"""`pitboss bench latency`: at a steady rate, in a closed loop, and hop by hop."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import click
import msgspec

from lab.bench.base_latency import BaseLatencyPlan
from lab.bench.closed import ROUNDS, BetStock, ClosedBenchPlan, LoopSide
from lab.bench.closed import SECONDS as CLOSED_SECONDS
from lab.bench.environments import RevisionBuild
from lab.bench.hop_tracing import HopBenchPlan
from lab.bench.latency import BROKER_WARM_UP_S, SECONDS, WARM_UP_S, LatencyBenchPlan
from lab.bench.peers import BARE_HOPS
from lab.bench.pipeline_figures import OURS
from lab.bench.processes import ProcessCommand
from lab.bench.raw_records import endless_bets, opening_records
from lab.sandbox.keys import SandboxKeys
from pitboss.cli.bench_environment import (
    BenchFigures,
    BenchRun,
    bench_namespace,
    open_bench,
    open_secured,
    pairs_option,
    print_figures,
    save_option,
    servers_option,
    with_lifeline,
)
from pitboss.cli.bench_replay import measure_beside_replay
from pitboss.cli.bench_secure import measure_secured
from pitboss.cli.bench_sides import build_base, side_namespace, worker_commands, write_keyring
from pitboss.cli.bench_traces import collect_traces
from pitboss.cli.suggestions import PROVIDER
from pitboss.ops.topic_admin import admin_client
from pitboss.settings import Runtime, worker_environment
from runtime.kafka.producer import OutRecord
from schemas.errors import UsageError
from schemas.topics import OUTCOMES, TRANSACTIONS, raw_pattern, raw_topic

PLAYERS = 2_000
_ROLES = ("normalise", "ledger")
_RATE = 200
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
    help="Show where a bet waits, hop by hop. At --rate (200), or with --closed in flight.",
)
@click.option(
    "--traces",
    "has_traces",
    is_flag=True,
    help="Of --hops: also hold the traces of the same bets, exported and as `pitboss trace` shows"
    " them, against the hops; every bet is traced.",
)
@click.option(
    "--base",
    "base",
    metavar="REV",
    help="At --rate (200), in turns with the workers of this git revision, which is built in an"
    " environment of its own: p50, and the CPU of both workers.",
)
@click.option(
    "--replay",
    "is_beside_replay",
    is_flag=True,
    help="At --rate (200), in turns beside a replay at its default quota, then one at full speed.",
)
@click.option(
    "--secure",
    "is_secured",
    is_flag=True,
    help="On servers with TLS and logins, as `up --secure` makes them, in turns with servers"
    " without: the rate with 16 in flight (`ratio_secured`), p50 and p99 at --rate (200).",
)
@pairs_option
@click.option(
    "--seconds",
    type=click.IntRange(1),
    help=f"At each rate ({SECONDS}), or at each number in flight and with --secure"
    f" ({CLOSED_SECONDS}).",
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
@save_option
@servers_option
def latency_command(
    rates: tuple[int, ...],
    in_flight: tuple[int, ...],
    is_traced: bool,
    has_traces: bool,
    base: str | None,
    is_beside_replay: bool,
    is_secured: bool,
    pairs: int,
    seconds: int | None,
    rounds: int,
    providers: tuple[str, ...],
    partitions: int | None,
    as_json: bool,
    is_saved: bool,
    may_use_given: bool,
) -> None:
    """Measure the time from a raw record's append to its outcome.

    It passes through real workers, normalise and ledger, with signatures checked; the clock stops
    where a connector would have the outcome.

    The hops of --hops begin where the one before ends, and sum to the whole time. append: the
    broker has the raw record. fetch_raw: the normaliser's intake has it. normalise: its batch is
    gathered, mapped and given to the producer. produce: the broker has acknowledged the event, or
    the ledger has it. fetch_log: the ledger's intake has it. decide: its batch is gathered, the
    group before is written, its group is read and decided. commit: PostgreSQL has committed it.
    publish: the broker has acknowledged the outcome, or the reader has it. fetch_outcome: the
    reader has it.
    """
    _check_options(
        rates, in_flight, providers, is_traced, has_traces, base or is_beside_replay or is_secured
    )
    with open_bench(may_use_given=may_use_given) as opened:
        bench = LatencyBench(opened, partitions, providers or None)
        if base:
            figures = bench.compare(build_base(opened, base), rates, pairs, seconds or SECONDS)
            title, name = "this code and another revision", "latency-base"
        elif is_beside_replay:
            rate, *_ = rates or (_RATE,)
            figures = measure_beside_replay(bench, rate, pairs, seconds or SECONDS)
            title, name = "beside a replay", "latency-replay"
        elif is_secured:
            with open_secured(opened) as other:
                secured = LatencyBench(other, partitions, providers or None)
                figures = measure_secured(secured, bench, rates, pairs, seconds or CLOSED_SECONDS)
            title, name = "with TLS and in plain text", "latency-secured"
        elif is_traced:
            figures = bench.trace(in_flight, rates, seconds or SECONDS, has_traces=has_traces)
            title, name = "a bet, hop by hop", "latency-hops"
        elif in_flight:
            figures = bench.close_loop(in_flight, rounds, seconds or CLOSED_SECONDS)
            title, name = "bets in flight, in a closed loop", "latency-closed"
        else:
            figures = bench.offer_rates(rates, seconds or SECONDS)
            title, name = "raw append to outcome", "latency"
    save_as = name if is_saved else None
    print_figures(f"latency: {title}", figures, as_json=as_json, save_as=save_as)


def _check_options(
    rates: Sequence[int],
    in_flight: Sequence[int],
    providers: Collection[str],
    is_traced: bool,
    has_traces: bool,
    is_other: object,
) -> None:
    """Raise UsageError for options that do not fit together."""
    if (rates and in_flight and not is_traced) or (is_other and (in_flight or is_traced)):
        raise UsageError(
            "--closed, --base, --replay, --secure and --rate are measurements: give one of them"
        )
    if has_traces and not is_traced:
        raise UsageError("--traces holds the traces of bets against --hops: add that")
    if providers and not {"hub88", "house"} <= set(providers):
        raise UsageError("--provider: the bets are Hub88's and the money is from house: add both")


class LatencyBench:
    """The measurements of latency, over one set of keys."""

    def __init__(
        self, opened: BenchRun, partitions: int | None, providers: Collection[str] | None
    ) -> None:
        self.opened = self._opened = opened
        self._partitions = partitions
        self._providers = providers
        self._keys = SandboxKeys.generate()
        self._keyring = write_keyring(self._keys, opened.folder / "keys.json")

    def offer_rates(self, rates: Sequence[int], seconds: int) -> BenchFigures:
        """Measure at steady rates."""
        from lab.bench.latency import RATES, run

        opened, rates = self._opened, rates or RATES
        with bench_namespace(opened.servers, opened.name) as runtime:
            plan = self.plan_rates(runtime, rates, seconds)
            return asyncio.run(run(plan, opened.progress))

    def plan_rates(self, runtime: Runtime, rates: Sequence[int], seconds: int) -> LatencyBenchPlan:
        """Sign the bets of measurements at steady rates, and return their plan."""
        self._opened.progress.begin("signing bets")
        needed = round(max(rates) * BROKER_WARM_UP_S) + sum(
            round(rate * (seconds + WARM_UP_S)) for rate in rates
        )
        return LatencyBenchPlan(
            broker=runtime.broker,
            workers=worker_commands(self._opened, runtime, _ROLES, self._keyring),
            opening=self._opening(runtime),
            bets=iter(list(islice(endless_bets(self._keys, PLAYERS), needed))),
            raw=runtime.topic(raw_topic("hub88")),
            outcomes=runtime.topic(OUTCOMES),
            rates=rates,
            seconds=seconds,
            servers_origin=self._opened.origin,
        )

    def close_loop(self, in_flight: Sequence[int], rounds: int, seconds: int) -> BenchFigures:
        """Measure in a closed loop, in turns with the bare hops."""
        from lab.bench.closed import run

        opened = self._opened
        bets = endless_bets(self._keys, PLAYERS)
        opened.progress.begin("signing bets")
        peer_bets = list(islice(bets, _PEER_BETS))
        opened.progress.begin("making topics")
        with self.open_namespace("") as own, self.open_namespace("_peer") as peer:
            workers = worker_commands(opened, own, _ROLES, self._keyring)
            plan = ClosedBenchPlan(
                broker=own.broker,
                sides=(
                    self._side(OURS, own, workers, BetStock(bets)),
                    self._bare_hops(peer, peer_bets),
                ),
                in_flight=in_flight,
                rounds=rounds,
                seconds=seconds,
                servers=opened.server_pids,
                servers_origin=opened.origin,
                topics=_partition_counts(own),
            )
            return asyncio.run(run(plan, opened.progress))

    def trace(
        self, in_flight: Sequence[int], rates: Sequence[int], seconds: int, *, has_traces: bool
    ) -> BenchFigures:
        """Measure each hop of a bet; with `has_traces`, beside the traces of the same bets."""
        from lab.bench.hop_tracing import run

        opened = self._opened
        taps = {role: opened.folder / f"{role}.tap" for role in _ROLES}
        opened.progress.begin("making topics")
        with self.open_namespace("") as runtime, ExitStack() as on_exit:
            workers = worker_commands(opened, runtime, _ROLES, self._keyring, taps=taps)
            traces = None
            if has_traces:
                workers, traces = on_exit.enter_context(collect_traces(runtime, workers))
            plan = HopBenchPlan(
                broker=runtime.broker,
                side=self._side(OURS, runtime, workers, iter(())),
                bets=endless_bets(self._keys, PLAYERS),
                log=runtime.topic(TRANSACTIONS),
                taps=list(taps.values()),
                in_flight=in_flight,
                rates=rates or (() if in_flight else (_RATE,)),
                seconds=seconds,
                servers_origin=opened.origin,
                topics=_partition_counts(runtime),
                traces=traces,
            )
            return asyncio.run(run(plan, opened.progress))

    def compare(
        self, build: RevisionBuild, rates: Sequence[int], pairs: int, seconds: int
    ) -> BenchFigures:
        """Measure at a steady rate in turns with another revision."""
        from lab.bench.base_latency import run

        opened = self._opened
        keyring = write_keyring(self._keys, opened.folder / "base-keys.json", ("hub88", "house"))
        opened.progress.begin("making topics")
        with self.open_namespace("") as own, self.open_namespace("_base", build) as other:
            workers = worker_commands(opened, own, _ROLES, keyring)
            base_workers = worker_commands(opened, other, _ROLES, keyring, build=build)
            plan = BaseLatencyPlan(
                broker=own.broker,
                sides=(
                    self._side(OURS, own, workers, iter(())),
                    self._side(build.commit, other, base_workers, iter(())),
                ),
                bets=(endless_bets(self._keys, PLAYERS), endless_bets(self._keys, PLAYERS)),
                rates=rates or (_RATE,),
                seconds=seconds,
                pairs=pairs,
                servers_origin=opened.origin,
            )
            return asyncio.run(run(plan, opened.progress))

    def open_namespace(
        self, suffix: str, build: RevisionBuild | None = None
    ) -> AbstractContextManager[Runtime]:
        """Make a namespace of a side; leaving removes it."""
        return side_namespace(
            self._opened,
            suffix,
            build=build,
            partitions=self._partitions,
            providers=self._providers,
        )

    def bets(self) -> Iterator[OutRecord]:
        """Yield signed bets without end."""
        return endless_bets(self._keys, PLAYERS)

    def make_side(self, name: str, runtime: Runtime, records: BetStock) -> LoopSide:
        """Return a side with our workers in a namespace."""
        workers = worker_commands(self._opened, runtime, _ROLES, self._keyring)
        return self._side(name, runtime, workers, records)

    def _opening(self, runtime: Runtime) -> dict[str, list[OutRecord]]:
        return {runtime.topic(raw_topic("house")): opening_records(self._keys, PLAYERS)}

    def _side(
        self,
        name: str,
        runtime: Runtime,
        workers: Mapping[str, ProcessCommand],
        records: BetStock | Iterator[OutRecord],
    ) -> LoopSide:
        return LoopSide(
            name,
            workers,
            runtime.topic(raw_topic("hub88")),
            runtime.topic(OUTCOMES),
            records,
            self._opening(runtime),
            are_outcomes_ours=True,
        )

    def _bare_hops(self, runtime: Runtime, bets: Sequence[OutRecord]) -> LoopSide:
        commands = bare_hop_commands(runtime, self._opened.folder)
        raw, outcomes = runtime.topic(raw_topic("hub88")), runtime.topic(OUTCOMES)
        return LoopSide(BARE_HOPS, commands, raw, outcomes, cycle(bets))


def bare_hop_commands(runtime: Runtime, folder: Path) -> dict[str, ProcessCommand]:
    """Return the two bare hops of a namespace, whose logs go to a folder."""
    from lab.bench.peers.bare_hops import BareHopSettings

    servers = runtime.broker
    log, outcomes = runtime.topic(TRANSACTIONS), runtime.topic(OUTCOMES)
    hops = {
        "hop_1": BareHopSettings(servers, runtime.group("hop_1"), raw_topics(runtime), log),
        "hop_2": BareHopSettings(
            servers, runtime.group("hop_2"), [log], outcomes, runtime.database_url
        ),
    }
    module = "lab.bench.peers.bare_hops"
    return {
        name: ProcessCommand(
            with_lifeline(module, msgspec.json.encode(settings).decode()),
            worker_environment(runtime),
            folder / f"{name}.log",
        )
        for name, settings in hops.items()
    }


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
    async with admin_client(runtime.broker) as admin:
        names = [name for name in await admin.list_topics() if pattern.match(name)]
        described = await admin.describe_topics([*names, runtime.topic(TRANSACTIONS)])
    return {topic["topic"]: len(topic["partitions"]) for topic in described}
