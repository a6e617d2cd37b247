"""`pitboss bench latency --hops --traces`: the traces of the bets whose hops are measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from lab.bench.collector import TRACES_PATH, run_collector
from lab.bench.hop_tracing import TracesOfBets
from lab.bench.processes import BenchFailed, ProcessCommand
from ledger_sink.queries.history import event_history
from ledger_sink.store.database import LedgerDatabase
from pitboss.ops.event_trace import read_trace
from pitboss.settings import Runtime
from runtime.postgres.roles import Role


@contextmanager
def collect_traces(
    runtime: Runtime, workers: Mapping[str, ProcessCommand]
) -> Iterator[tuple[dict[str, ProcessCommand], TracesOfBets]]:
    """Yield the workers as they export every trace, and the traces."""
    bodies: list[bytes] = []

    def keep(path: str, body: bytes) -> None:
        if path == TRACES_PATH:
            bodies.append(body)

    async def show(event_id: str) -> list[tuple[str, int]]:
        return await _show_trace(runtime, event_id)

    with run_collector(keep) as url:
        settings = {
            "PITBOSS_OTLP": url,
            "PITBOSS_TRACE_SAMPLE": "1",
            "PITBOSS_TELEMETRY_PORT": "",
        }
        exporting = {
            role: replace(command, environment={**command.environment, **settings})
            for role, command in workers.items()
        }
        yield exporting, TracesOfBets(bodies, show)


async def _show_trace(runtime: Runtime, event_id: str) -> list[tuple[str, int]]:
    """Return the hops of the only attempt of an event, as `pitboss trace` finds them."""
    database = LedgerDatabase(runtime.database_url, "pitboss.bench_traces", role=Role.READER)
    try:
        history = await event_history(database, event_id)
    finally:
        await database.close()
    found = await read_trace(runtime, history)
    if len(found.attempts) != 1:
        raise BenchFailed(f"{event_id} was sent once and has {len(found.attempts)} attempts")
    return [(hop.step, hop.at_ms) for hop in found.attempts[0].hops]
