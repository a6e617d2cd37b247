"""A gateway that is told to stop takes no new calls and answers those in progress."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from pitboss.embedded.ports import choose_port
from pitboss.embedded.processes import poll
from pitboss.workers import GATEWAY
from pitboss.workers.supervisor import WorkerProcess
from tests.acceptance.gateway.conftest import (
    PATIENT_MS,
    Client,
    gateway_environment,
    listens,
    wait_for_calls,
)
from tests.acceptance.gateway.test_wallets import bet, frozen_ledger, fund

pytestmark = pytest.mark.integration

PATIENCE_S = 180


async def test_a_stop_answers_what_is_in_progress(client: Client, tmp_path: Path):
    door, port, telemetry_port = client.door, choose_port(), choose_port()
    await fund(client, "stop")
    process = WorkerProcess(
        GATEWAY,
        door.runtime,
        home=tmp_path,
        number=9,
        environment=gateway_environment(
            door.folder, door.runtime, port, PATIENT_MS, 9, telemetry_port
        ),
    )
    process.start()
    try:
        assert await asyncio.to_thread(poll, partial(listens, port), PATIENCE_S)
        with frozen_ledger(door):
            calls = [
                asyncio.ensure_future(client.call("hub88", bet("hub88", "stop", n), port=port))
                for n in (401, 402, 403)
            ]
            await wait_for_calls(telemetry_port, "hub88", len(calls))
            process.terminate()
            gone = partial(_is_deaf, port)
            assert await asyncio.to_thread(poll, gone, PATIENCE_S), "it still takes calls"
            assert not any(call.done() for call in calls)
        answers = await asyncio.gather(*calls)
        assert all(b"RS_OK" in body for _, _, body in answers)
        assert await asyncio.to_thread(process.wait, PATIENCE_S)
        assert process.exit_code == 0
    finally:
        process.kill()


def _is_deaf(port: int) -> bool:
    return not listens(port)
