"""The limit of one operator, set through the log by two, as a casino does it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from pitboss.ops import operator_events
from pitboss.settings import Runtime, WorkerSettings

WAIT_S = 180.0


def set_limit(runtime: Runtime, currency: str, amount: str, keys_file: Path | None = None) -> None:
    """Let one operator move up to `amount` (major units) of a currency alone; workers must run."""
    worker = WorkerSettings(keys_file=keys_file)
    name = f"limit-{currency}-{amount}"
    proposed = {"operation": "limit.proposed", "amount": amount, "currency": currency}
    approved = {"operation": "limit.approved", "proposal_id": name}
    assert (
        _submit(runtime, worker, proposed | {"id": name, "actor": "ann", "reason": "a test"})
        == "NOTED"
    )
    assert _submit(runtime, worker, approved | {"id": name, "actor": "bob"}) == "BOOKED"


def _submit(runtime: Runtime, worker: WorkerSettings, event: dict[str, Any]) -> str:
    found = asyncio.run(operator_events.submit(runtime, worker, event, "default", WAIT_S))
    assert found.outcome is not None, found
    return found.outcome.reason
