"""`pitboss bench telemetry`: what metrics and traces cost the workers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import click

from lab.bench.base_latency import BaseLatencyPlan
from lab.bench.closed import LoopSide
from lab.bench.collector import run_collector
from lab.bench.processes import ProcessCommand
from lab.bench.raw_records import endless_bets, opening_records
from lab.bench.telemetry import OFF, ON, TelemetryBenchFigures, run, scraping
from lab.sandbox.keys import SandboxKeys
from pitboss.cli.bench_environment import (
    BenchRun,
    open_bench,
    pairs_option,
    print_figures,
    save_option,
    servers_option,
)
from pitboss.cli.bench_sides import side_namespace, worker_commands, write_keyring
from pitboss.embedded.ports import choose_port
from pitboss.settings import Runtime
from schemas.topics import OUTCOMES, raw_topic

PLAYERS = 2_000
SECONDS = 20
MINUTES = 8.0
_ROLES = ("normalise", "ledger")
_RATE = 200
TELEMETRY_OFF = {"PITBOSS_TELEMETRY_PORT": "", "PITBOSS_OTLP": ""}


@click.command("telemetry")
@click.option(
    "--rate",
    "rates",
    multiple=True,
    type=click.IntRange(1, 100_000),
    help=f"Bets a second ({_RATE}); may be repeated.",
)
@pairs_option
@click.option(
    "--seconds",
    type=click.IntRange(1),
    default=SECONDS,
    show_default=True,
    help="Of each run, behind a warm-up.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(0),
    default=MINUTES,
    show_default=True,
    help="After so long no further pair is begun: the figures are those of the pairs until then,"
    " at least one.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@save_option
@servers_option
def telemetry_command(
    rates: tuple[int, ...],
    pairs: int,
    seconds: int,
    minutes: float,
    as_json: bool,
    is_saved: bool,
    may_use_given: bool,
) -> None:
    """Measure what telemetry costs, in turns with the same workers without it.

    Both sides get the same steady rate of signed bets. With telemetry, pages are scraped, and spans
    (1 % of ordinary bets) and metrics go to a collector that drops them. `ratio_cpu` is the CPU
    of the workers for a bet with telemetry, divided by that without it.
    """
    with open_bench(may_use_given=may_use_given) as opened:
        figures = compare(opened, rates or (_RATE,), pairs, seconds, minutes)
    save_as = "telemetry" if is_saved else None
    print_figures("telemetry on and off", figures, as_json=as_json, save_as=save_as)


def compare(
    opened: BenchRun, rates: tuple[int, ...], pairs: int, seconds: int, minutes: float
) -> TelemetryBenchFigures:
    """Measure both sides in pairs, on the same servers and in namespaces of their own."""
    keys = SandboxKeys.generate()
    keyring = write_keyring(keys, opened.folder / "telemetry-keys.json", ("hub88", "house"))
    ports = {role: choose_port() for role in _ROLES}
    opened.progress.begin("making topics")
    with (
        side_namespace(opened, "") as on,
        side_namespace(opened, "_off") as off,
        run_collector() as collector,
        scraping([*ports.values()]),
    ):
        turned_on = {
            role: {"PITBOSS_TELEMETRY_PORT": str(port), "PITBOSS_OTLP": collector}
            for role, port in ports.items()
        }
        with_telemetry = _commands(opened, on, keyring, "on", turned_on)
        without = _commands(opened, off, keyring, "off", dict.fromkeys(_ROLES, TELEMETRY_OFF))
        plan = BaseLatencyPlan(
            broker=on.broker,
            sides=(_side(ON, on, with_telemetry, keys), _side(OFF, off, without, keys)),
            bets=(endless_bets(keys, PLAYERS), endless_bets(keys, PLAYERS)),
            rates=rates,
            seconds=seconds,
            pairs=pairs,
            servers_origin=opened.origin,
            budget_s=minutes * 60,
        )
        return asyncio.run(run(plan, opened.progress))


def _commands(
    opened: BenchRun,
    runtime: Runtime,
    keyring: Path,
    name: str,
    settings: Mapping[str, Mapping[str, str]],
) -> dict[str, ProcessCommand]:
    """Return the worker of each role, with further settings of its own."""
    return {
        role: replace(
            command,
            environment={**command.environment, **settings[role]},
            log=command.log.with_name(f"{name}-{command.log.name}"),
        )
        for role, command in worker_commands(opened, runtime, _ROLES, keyring).items()
    }


def _side(
    name: str, runtime: Runtime, workers: Mapping[str, ProcessCommand], keys: SandboxKeys
) -> LoopSide:
    return LoopSide(
        name,
        workers,
        runtime.topic(raw_topic("hub88")),
        runtime.topic(OUTCOMES),
        iter(()),
        {runtime.topic(raw_topic("house")): opening_records(keys, PLAYERS)},
        are_outcomes_ours=True,
    )
