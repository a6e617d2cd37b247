"""A worker with the fault that bounds are for: it counts by player, and there are more than its bound."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from runtime.telemetry.lag import LagMeter
from runtime.telemetry.meters import Meters
from runtime.telemetry.pages import TelemetryPages, WorkerState
from runtime.telemetry.samples import MetricSample

PLAYERS: Final = 2_000


@contextmanager
def leaky_worker() -> Iterator[int]:
    """Show the pages of such a worker on a port, until the block is left."""
    meters = Meters("gateway")
    samples = [MetricSample("pitboss.gateway.calls", (f"p-{n}",), 1) for n in range(PLAYERS)]
    meters.add_source(lambda: samples)
    state = WorkerState("gateway", "gateway-leaky", 0.0)
    pages = TelemetryPages(0, state, meters, LagMeter([]))
    listening, stopping = threading.Event(), threading.Event()

    async def serve() -> None:
        await pages.start()
        while not pages.port:  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0.01)
        listening.set()
        await asyncio.to_thread(stopping.wait)
        await pages.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="leaky")
    thread.start()
    try:
        assert listening.wait(20)
        yield pages.port
    finally:
        stopping.set()
        thread.join(20)
