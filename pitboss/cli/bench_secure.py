"""`pitboss bench latency --secure`: on servers with TLS and logins, and without, in turns."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import uvloop

from lab.bench.closed import BetStock
from lab.bench.secured import SecuredLatencyFigures, SecuredLatencyPlan, SecuredSide, run
from schemas.errors import UsageError

if TYPE_CHECKING:
    from pitboss.cli.bench_latency import LatencyBench

SECURED, PLAIN_TEXT = "with TLS", "plain text"


def measure_secured(
    secured: LatencyBench,
    plain: LatencyBench,
    rates: Sequence[int],
    pairs: int,
    seconds: int,
) -> SecuredLatencyFigures:
    """Measure the bench of a stack with TLS in turns with that of one without.

    `rates` names at most one steady rate. Raises UsageError for more.
    """
    if len(rates) > 1:
        raise UsageError("--secure measures at one --rate")
    progress = plain.opened.progress
    progress.begin("making topics")
    with _open_side(secured, SECURED) as one, _open_side(plain, PLAIN_TEXT) as other:
        plan = SecuredLatencyPlan(one, other, pairs, seconds, plain.opened.origin)
        if rates:
            plan = replace(plan, rate=rates[0])
        # As the workers: the TLS of the generator, whose cores a provider has, takes less of these.
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(run(plan, progress))


@contextmanager
def _open_side(bench: LatencyBench, name: str) -> Iterator[SecuredSide]:
    with bench.open_namespace("") as runtime:
        stock = BetStock(bench.bets())
        side = bench.make_side(name, runtime, stock)
        yield SecuredSide(side, stock, runtime.broker, bench.opened.server_pids)
