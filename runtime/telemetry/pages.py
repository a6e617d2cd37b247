"""The pages of a worker on a loopback port: `/healthz`, `/readyz`, `/metrics` and `/status`.

They are for this machine only: anyone who reaches the port is answered, so it is never on another
address than loopback. Where the port is taken, the worker does its work all the same, and tries
again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import asdict, dataclass
from typing import Any, Final

from aiohttp import web
from mode import Service

from runtime.telemetry.exposition import CONTENT_TYPE, format_exposition
from runtime.telemetry.lag import LagMeter
from runtime.telemetry.meters import Meters

_LOG = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
RETRY_S: Final = 5.0
_JSON: Final = "application/json"


@dataclass
class WorkerState:
    """What the pages say of a worker as a whole."""

    role: str
    worker: str
    started_at_s: float
    is_started: bool = False
    """Whether every service of the worker has started."""
    is_draining: bool = False


class StartMark(Service):
    """The last service to start and the first to stop: between these, a worker is ready."""

    def __init__(self, state: WorkerState) -> None:
        """Mark in `state`."""
        super().__init__()
        self._state = state

    async def on_start(self) -> None:
        """Note that all others have started."""
        self._state.is_started = True

    async def on_stop(self) -> None:
        """Note that the worker drains."""
        self._state.is_draining = True


class TelemetryPages(Service):
    """Service that answers the four pages."""

    def __init__(self, port: int, state: WorkerState, meters: Meters, lag: LagMeter) -> None:
        """Prepare without listening; port 0 is any that is free."""
        super().__init__()
        self.port = port
        """The port that is listened on, once it could be had."""
        self._state = state
        self._meters = meters
        self._lag = lag
        self._listener: asyncio.Server | None = None
        self._server: web.Server | None = None

    @Service.task
    async def _listen(self) -> None:
        while not self.should_stop:
            server = web.Server(self._answer, access_log=None)
            try:
                self._listener = await asyncio.get_running_loop().create_server(
                    server, HOST, self.port
                )
            except OSError as error:
                _LOG.warning("no health pages on port %d yet: %s", self.port, error)
                await self.sleep(RETRY_S)
                continue
            self._server = server
            self.port = self._listener.sockets[0].getsockname()[1]
            _LOG.info("health and metrics on http://%s:%d", HOST, self.port)
            return

    async def on_stop(self) -> None:
        """Close the port."""
        if self._listener is not None and self._server is not None:
            self._listener.close()
            await self._server.shutdown(1.0)

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        match request.path:
            case "/healthz":
                return _to_json({"healthy": True, **self._head()})
            case "/readyz":
                return self._ready()
            case "/metrics":
                await self._lag.measure(_now_ms())
                text = format_exposition(self._meters.collect())
                return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})
            case "/status":
                lags = await self._lag.measure(_now_ms())
                return _to_json({**self._head(), "partitions": [asdict(lag) for lag in lags]})
            case _:
                return web.Response(status=404, text="/healthz /readyz /metrics /status\n")

    def _head(self) -> dict[str, Any]:
        state = self._state
        return {
            "role": state.role,
            "worker": state.worker,
            "uptime_s": round(time.time() - state.started_at_s, 1),
        }

    def _ready(self) -> web.Response:
        """Answer 200 where every service has started and no partition waits for a server."""
        waiting = {
            f"{tp.topic}-{tp.partition}": status.waiting
            for intake in self._lag.intakes
            for tp, status in intake.status().items()
            if status.waiting
        }
        state = self._state
        is_ready = state.is_started and not state.is_draining and not waiting
        row = {"ready": is_ready, "draining": state.is_draining, "waiting": waiting}
        return _to_json({**row, **self._head()}, 200 if is_ready else 503)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _to_json(row: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=json.dumps(row).encode(), status=status, content_type=_JSON)
