"""From an alert to a refusal, through real workers: normaliser, ledger, and the fraud worker between them."""

from __future__ import annotations

import asyncio
import time

import pytest

from pitboss.demo.environment import running_workers
from pitboss.ops import operator_events
from pitboss.ops.provision import provision
from pitboss.settings import WorkerSettings

pytestmark = [pytest.mark.integration, pytest.mark.prove]
WAIT_S = 60.0


@pytest.fixture
def installation(stack, namespaces, leftovers, tmp_path):
    runtime = stack.runtime(namespaces())
    provision(runtime, partitions=3, raw_partitions=3, providers=("hub88", "house"))
    with running_workers(runtime, tmp_path, print, PITBOSS_FRAUD_ENFORCE="block"):
        yield runtime
    leftovers.append(runtime)


def submit(runtime, **event) -> str:
    found = asyncio.run(operator_events.submit(runtime, WorkerSettings(), event, "default", WAIT_S))
    assert found.outcome is not None, found.letter
    return f"{found.outcome.outcome} {found.outcome.reason}"


def withdraw(runtime, number: int) -> str:
    return submit(
        runtime,
        operation="withdrawal.requested",
        id=f"w{number}",
        player_id="minor",
        amount="1.00",
        currency="EUR",
    )


def state(runtime, operation: str, **more) -> str:
    who = {"actor": "kim", "reason": "a document"}
    return submit(runtime, operation=operation, player_id="minor", **who, **more)


def test_an_excluded_player_who_deposits_is_blocked_by_the_alert_until_it_is_released(installation):
    """The identity check's own block is lifted by a mistake; the alert's stays, since it is another source."""
    runtime = installation
    state(runtime, "player.blocked", source="kyc")
    opened = {
        "id": "d1",
        "player_id": "minor",
        "amount": "50.00",
        "currency": "EUR",
        "psp": "adyen",
    }
    submit(runtime, operation="deposit.opened", **opened)
    state(runtime, "player.released", source="kyc")
    # Without the alert the answer is that there is no money; with it, that the player is blocked.
    deadline, number = time.monotonic() + WAIT_S, 0
    while (answer := withdraw(runtime, number)).startswith("REFUSED_FUNDS"):
        assert time.monotonic() < deadline, "the alert's block has not come"
        number += 1
    assert answer.startswith("REFUSED_BLOCKED")
    state(runtime, "player.released", alert_id="any alert: they are one source")
    assert withdraw(runtime, 1_000).startswith("REFUSED_FUNDS")
