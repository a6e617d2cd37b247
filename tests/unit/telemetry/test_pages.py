"""The pages of a worker: healthy, ready, metrics, status; off without a setting."""

from __future__ import annotations

import asyncio
import json
import socket
from types import SimpleNamespace
from typing import Self

import aiohttp
import pytest

from pitboss.settings import Runtime, WorkerSettings
from pitboss.telemetry_settings import read_telemetry_settings, worker_port
from pitboss.workers import ALL_ROLES, ROLES
from pitboss.workers.compose import compose
from pitboss.workers.supervisor import WorkerProcess
from runtime.kafka.intake.assignment import PartitionStatus
from runtime.security import BrokerAddress
from runtime.telemetry import pages as pages_module
from runtime.telemetry.lag import LagMeter
from runtime.telemetry.meters import Meters
from runtime.telemetry.pages import StartMark, TelemetryPages, WorkerState
from runtime.telemetry.settings import TelemetrySettings
from schemas.errors import UsageError
from tests.unit.telemetry.test_lag import T0, Watch

RUNTIME = Runtime(BrokerAddress("127.0.0.1:1"), "postgresql://user@127.0.0.1:1/pitboss_t", "t")


class Pages:
    """Pages that listen on a free port."""

    def __init__(self, port: int = 0) -> None:
        self.watch = Watch()
        self.state = WorkerState("ledger", "ledger-1", 0.0)
        lag = LagMeter([self.watch])
        meters = Meters("ledger")
        meters.add_source(lag.samples)
        self.service = TelemetryPages(port, self.state, meters, lag)

    async def __aenter__(self) -> Self:
        await self.service.start()
        return self

    async def __aexit__(self, *_) -> None:
        await self.service.stop()

    async def get(self, path: str) -> tuple[int, str]:
        async with asyncio.timeout(60):
            while self.service._listener is None:  # noqa: ASYNC110 - no event says so
                await asyncio.sleep(0.01)
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.service.port}{path}") as response,
        ):
            return response.status, await response.text()


async def test_a_worker_is_ready_between_the_last_start_and_the_first_stop():
    async with Pages() as pages:
        mark = StartMark(pages.state)
        assert (await pages.get("/healthz"))[0] == 200
        assert (await pages.get("/readyz"))[0] == 503
        await mark.start()
        status, text = await pages.get("/readyz")
        assert (status, json.loads(text)["ready"]) == (200, True)
        pages.watch.statuses[T0] = PartitionStatus(1, 1, 0, "UNAVAILABLE: the database is away")
        status, text = await pages.get("/readyz")
        assert status == 503
        assert json.loads(text)["waiting"] == {"t-0": "UNAVAILABLE: the database is away"}
        pages.watch.statuses.clear()
        await mark.stop()
        status, text = await pages.get("/readyz")
        assert (status, json.loads(text)["draining"]) == (503, True)
        assert (await pages.get("/healthz"))[0] == 200


async def test_metrics_and_status_have_the_lag_of_this_moment():
    async with Pages() as pages:
        pages.watch.statuses[T0] = PartitionStatus(10, 10, 1, "paused", oldest_ms=1)
        pages.watch.ends[T0] = 12
        status, text = await pages.get("/metrics")
        assert status == 200
        place = 'messaging_consumer_group_name="g",messaging_destination_name="t",messaging_destination_partition_id="0"'
        assert f"pitboss_lag_records{{{place}}} 2" in text.splitlines()
        pages.watch.ends[T0] = 13
        row = json.loads((await pages.get("/status"))[1])
        assert row["role"] == "ledger"
        [partition] = row["partitions"]
        assert (partition["records"], partition["waiting"]) == (3, "paused")
        assert (await pages.get("/elsewhere"))[0] == 404


async def test_a_port_that_is_taken_is_tried_again_and_stops_nothing(monkeypatch, caplog):
    monkeypatch.setattr(pages_module, "RETRY_S", 0.01)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        pages = Pages(port)
        await pages.service.start()
        async with asyncio.timeout(60):
            while "no health pages on port" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert pages.service.crash_reason is None
    assert (await pages.get("/healthz"))[0] == 200
    await pages.service.stop()


@pytest.mark.parametrize("role", ROLES)
async def test_every_role_shows_only_declared_metrics_and_nothing_without_the_setting(role):
    worker = WorkerSettings(worker_id=f"{role}-1")
    app = compose(role, RUNTIME, worker)
    assert app.telemetry is None
    assert not [one for one in app._supervised if isinstance(one, TelemetryPages)]
    app = compose(role, RUNTIME, worker, TelemetrySettings(0))
    assert app.telemetry is not None
    batch = SimpleNamespace(topic="t", count=3)
    app.telemetry.observe_batch("g")(batch, 0.01, "")  # type: ignore[arg-type]
    names = {
        metric.name
        for resource in app.telemetry.meters.collect().resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert {"messaging.process.duration", "messaging.client.consumed.messages"} <= names
    assert [one for one in app._supervised if isinstance(one, TelemetryPages)]
    assert isinstance(app._supervised[-1], StartMark)


def test_each_worker_of_a_run_has_a_port_of_its_own():
    ports = {worker_port(9470, role, number) for role in ALL_ROLES for number in (1, 2, 64)}
    assert len(ports) == 3 * len(ALL_ROLES)
    assert worker_port(9470, "normalise", 1) == 9470
    assert worker_port(0, "archive", 3) == 0
    with pytest.raises(UsageError, match="leaves no port for archive-2"):
        worker_port(65_530, "archive", 2)
    with pytest.raises(UsageError, match="up to 65,535"):
        read_telemetry_settings({"PITBOSS_TELEMETRY_PORT": "70000"})


def test_a_supervisor_gives_its_workers_their_ports(tmp_path, monkeypatch):
    worker = WorkerProcess("ledger", RUNTIME, home=tmp_path, number=2)
    assert not worker._worker_environment().get("PITBOSS_TELEMETRY_PORT")
    monkeypatch.setenv("PITBOSS_TELEMETRY_PORT", "9470")
    assert worker._worker_environment()["PITBOSS_TELEMETRY_PORT"] == "9481"
