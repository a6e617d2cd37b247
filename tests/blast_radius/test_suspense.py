"""Money in suspense and all that waits for a person: listed, moved once, by two people above the limit (S1-4, S3-3)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lab.sandbox.actions import PROVIDERS
from pitboss.cli.main import cli
from pitboss.demo.environment import running_workers
from pitboss.ops.provision import deprovision, provision
from pitboss.settings import Runtime, worker_environment
from runtime.kafka.producer import BatchProducer, ProducerSettings
from tests.acceptance.conftest import note
from tests.support.fix_stack import Servers
from tests.support.operator_limits import set_limit

pytestmark = pytest.mark.integration

WAIT_S = 180.0
WHY = ["--reason", "a letter from the bank", "--wait", str(WAIT_S)]


@pytest.fixture(scope="module")
def casino(
    stack: Servers, namespaces: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runtime]:
    runtime = stack.runtime(namespaces())
    provision(runtime, partitions=3, raw_partitions=3, providers=PROVIDERS)
    with running_workers(runtime, tmp_path_factory.mktemp("casino"), note):
        yield runtime
    deprovision(runtime)


def run(runtime: Runtime, *arguments: str, **environment: str) -> Result:
    env = {**worker_environment(runtime), "PITBOSS_WORKER_ID": "", "PITBOSS_ADJUST_ALONE": ""}
    return CliRunner().invoke(cli, ["ledger", *arguments], env=env | environment)


def act(
    runtime: Runtime, *arguments: str, by: str, reason: bool = True
) -> tuple[dict[str, Any], str]:
    """What was appended, and its outcome and reason."""
    why = WHY if reason else WHY[2:]
    done = run(runtime, *arguments, "--by", by, *why, "--json")
    assert done.exit_code in (0, 1), done.output
    shown = json.loads(done.stdout.splitlines()[-1])
    return shown["said"], f"{shown['outcome']['outcome']} {shown['outcome']['reason']}"


def pay(runtime: Runtime, psp: str, minor: int) -> None:
    """Append a payment of a deposit that the cashier never opened."""
    item = {
        "eventCode": "AUTHORISATION",
        "success": "true",
        "pspReference": psp,
        "merchantReference": f"dep-{psp}",
        "merchantAccountCode": "casino",
        "eventDate": "2026-11-22T10:15:30+00:00",
        "amount": {"currency": "EUR", "value": minor},
    }
    body = {"live": "true", "notificationItems": [{"NotificationRequestItem": item}]}

    async def append() -> None:
        async with BatchProducer(ProducerSettings(runtime.broker, "test")) as producer:
            topic = runtime.topic("provider.adyen.raw.v1")
            await producer.send(topic, psp.encode(), json.dumps(body).encode(), [])

    asyncio.run(append())


def open_entries(runtime: Runtime, count: int) -> dict[str, dict[str, Any]]:
    """The open entries by transaction, once there are so many."""
    deadline = time.monotonic() + WAIT_S
    while True:
        done = run(runtime, "open", "--json")
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)["entries"]
        if len(found) == count:
            return {entry["provider_tx_id"]: entry for entry in found}
        assert time.monotonic() < deadline, done.stdout
        time.sleep(0.2)


def test_money_in_suspense_is_found_and_moved_once(casino: Runtime):
    player, limited = "p-suspense", {"PITBOSS_ADJUST_ALONE": "EUR:99999999"}
    assert "nothing is open" in run(casino, "open").stderr
    pay(casino, "LARGE", 50_000)
    pay(casino, "SMALL", 700)
    found = open_entries(casino, 2)
    large, small = found["LARGE"], found["SMALL"]
    assert {entry["kind"] for entry in found.values()} == {"suspense"}
    [group] = json.loads(run(casino, "open", "--json").stdout)["groups"]
    assert (group["count"], group["total_minor"], group["currency"]) == (2, 50_700, "EUR")
    assert (group["owner"], group["reason"]) == ("payments", "PLAYER_UNKNOWN")
    shown = run(casino, "open").stdout
    assert large["event_id"] in shown
    assert "507.00 EUR" in shown

    # No limit is set: two people, whatever the environment says.
    refused = run(
        casino, "suspense", "assign", large["event_id"], player, "--by", "ann", *WHY, **limited
    )
    assert refused.exit_code == 2
    assert "pitboss ledger limit set" in refused.stderr
    said, outcome = act(casino, "suspense", "assign", large["event_id"], player, by="ann")
    assert (said["operation"], outcome) == ("suspense.assignment.proposed", "INFORMATIONAL NOTED")
    assert said["id"] in run(casino, "proposals").stdout
    assert act(casino, "approve", said["id"], by="ann", reason=False)[1] == (
        "REFUSED_REFERENCE SELF_APPROVAL"
    )
    assert act(casino, "approve", said["id"], by="bob", reason=False)[1] == "POSTED BOOKED"
    assert json.loads(run(casino, "balance", player, "--json").stdout)[0]["balance_minor"] == 50_000
    again = run(casino, "suspense", "assign", large["event_id"], "p-other", "--by", "ann", *WHY)
    assert again.exit_code == 2
    assert "is not open" in again.stderr

    # Up to the limit of the ledger one person is enough; a limit takes two.
    set_limit(casino, "EUR", "10")
    assert "10.00" in run(casino, "limit", "show").stdout
    said, outcome = act(casino, "suspense", "return", small["event_id"], by="ann")
    assert (said["operation"], outcome) == ("suspense.returned", "POSTED BOOKED")
    assert open_entries(casino, 0) == {}
    assert act(casino, "adjust", player, "-10", "EUR", by="ann")[1] == "POSTED BOOKED"
    said, outcome = act(casino, "adjust", player, "-10.01", "EUR", by="ann")
    assert (said["operation"], outcome) == ("adjustment.proposed", "INFORMATIONAL NOTED")
    kinds = {group["kind"] for group in json.loads(run(casino, "open", "--json").stdout)["groups"]}
    assert kinds == {"proposal"}
