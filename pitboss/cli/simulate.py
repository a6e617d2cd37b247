"""`pitboss simulate`: seeded simulations of the real ledger on in-memory servers."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor

import click
import orjson

from lab.simulator.run import SeedResult
from lab.simulator.run import simulate as simulate_seed
from pitboss.cli import screen
from pitboss.cli.progress import StepProgress

SHOWN_MAX = 5


@click.command()
@click.option(
    "--seeds", default=100, show_default=True, type=click.IntRange(1), help="How many simulations."
)
@click.option(
    "--start", default=1, show_default=True, type=click.IntRange(0), help="The first seed."
)
@click.option(
    "--processes",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="How many simulations run at a time.",
)
@click.option("--trace", is_flag=True, help="Print everything that happens; uses one process.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def simulate(*, seeds: int, start: int, processes: int, trace: bool, as_json: bool) -> None:
    """Run the ledger over a broker and a database in memory, with faults drawn from each seed.

    It needs no server and writes no files. It ends with exit code 1 if a rule did not hold; the
    same seed repeats the failure.
    """
    numbers = range(start, start + seeds)
    results: list[SeedResult] = []
    failed: list[SeedResult] = []
    with StepProgress() as progress:
        progress.begin("simulating")
        for result in _results(numbers, 1 if trace else processes, trace=trace):
            results.append(result)
            if result.failures:
                failed.append(result)
                _print_failures(result, progress)
            progress.update(len(results), seeds)
    summary = {
        "seeds": len(results),
        "events": sum(result.events for result in results),
        "faults": sum(result.faults for result in results),
        "failures": len(failed),
        "failing_seeds": [result.seed for result in failed],
        "events_min": min(result.events for result in results),
        "faults_min": min(result.faults for result in results),
    }
    if as_json:
        click.echo(orjson.dumps(summary))
    else:
        table = screen.table(*[name.replace("_", " ") for name in summary])
        table.add_row(
            *[
                ", ".join(map(str, value)) if isinstance(value, list) else str(value)
                for value in summary.values()
            ]
        )
        screen.show(table)
    if failed:
        raise SystemExit(1)


def _results(numbers: Iterable[int], processes: int, *, trace: bool) -> Iterator[SeedResult]:
    if processes == 1:
        _set_log_level(trace=trace)
        for number in numbers:
            yield simulate_seed(number, _print_trace) if trace else simulate_seed(number)
        return
    with ProcessPoolExecutor(processes, initializer=_set_log_level) as pool:
        yield from pool.map(simulate_seed, numbers, chunksize=4)


def _print_trace(line: str) -> None:
    click.echo(line, err=True)


def _set_log_level(*, trace: bool = False) -> None:
    # Workers log each lost connection, and a simulation causes about ten of them on purpose.
    logging.getLogger("ledger_sink").setLevel(logging.WARNING if trace else logging.CRITICAL)


def _print_failures(result: SeedResult, progress: StepProgress) -> None:
    progress.note(f"seed {result.seed}: {len(result.failures)} rules do not hold", style="bold")
    for line in result.failures[:SHOWN_MAX]:
        progress.note(f"  {line}")
    progress.note(f"  again: pitboss simulate --start {result.seed} --seeds 1 --trace")
