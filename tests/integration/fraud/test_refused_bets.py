"""Bets that the ledger refused, in the explanation of an alert, and the release of the player it held; real workers."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from click.testing import CliRunner

from lab.fraud.story import PlayerStory, Stream
from pitboss.cli.main import cli
from pitboss.demo.environment import running_workers
from pitboss.ops import operator_events
from pitboss.ops.provision import provision
from pitboss.settings import WorkerSettings, worker_environment
from tests.support.labelled_log import append_sent

pytestmark = [pytest.mark.integration, pytest.mark.prove]
WAIT_S = 60.0
BETS = 520
PAID = 300
"""So many bets the player has the money for."""
HELD_FROM = 500


@pytest.fixture
def installation(stack, namespaces, leftovers, tmp_path, monkeypatch):
    runtime = stack.runtime(namespaces())
    provision(runtime, partitions=3, raw_partitions=3, providers=("hub88", "adyen", "house"))
    for name, value in worker_environment(runtime).items():
        if name.startswith("PITBOSS_"):
            monkeypatch.setenv(name, value)
    with running_workers(runtime, tmp_path, print, PITBOSS_FRAUD_ENFORCE="hold"):
        yield runtime
    leftovers.append(runtime)


def pitboss(*arguments: str) -> dict:
    done = CliRunner().invoke(cli, [*arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def play_too_fast(runtime) -> PlayerStory:
    """Deposit the stakes of some bets, and place far more of them than a person can."""
    stream, at_ms = Stream(6), time.time_ns() // 1_000_000 - 300_000
    player = PlayerStory(stream)
    player.deposit(at_ms, PAID * 100)
    for number in range(BETS):
        player.bet(at_ms + 60_000 + number * 100, 100)
    asyncio.run(append_sent(runtime, stream.in_order()))
    return player


def wait_for_alert(player: PlayerStory) -> dict:
    deadline_s = time.monotonic() + WAIT_S
    while True:
        found = pitboss("alerts", "list", "--player", player.player_id, "--rule", "D01")
        held = [one for one in found if one["severity"] == "hold"]
        if held:
            return held[0]
        assert time.monotonic() < deadline_s, found
        time.sleep(0.2)


def withdraw(runtime, player: PlayerStory, number: int) -> str:
    event = {
        "operation": "withdrawal.requested",
        "id": f"w{number}",
        "player_id": player.player_id,
        "amount": "1.00",
        "currency": "EUR",
    }
    worker = WorkerSettings()
    found = asyncio.run(operator_events.submit(runtime, worker, event, player.brand, WAIT_S))
    assert found.outcome is not None, found.letter
    return found.outcome.outcome


def test_refused_bets_are_told_apart_and_the_player_is_released(installation):
    runtime = installation
    player = play_too_fast(runtime)
    alert = wait_for_alert(player)
    # The detector counts what was sent, whether there was money for it or not.
    assert alert["observed"] == HELD_FROM
    explained = pitboss("alerts", "explain", alert["alert_id"])
    assert explained["agrees"] is True
    assert explained["outcomes"] == {"POSTED": PAID, "REFUSED_FUNDS": HELD_FROM - PAID}
    told = CliRunner().invoke(cli, ["alerts", "explain", alert["alert_id"]]).stdout
    refused = HELD_FROM - PAID
    assert (
        f"of these {HELD_FROM} events the ledger refused {refused}: REFUSED_FUNDS {refused}" in told
    )

    deadline_s, number = time.monotonic() + WAIT_S, 0
    while withdraw(runtime, player, number) != "REFUSED_BLOCKED":
        assert time.monotonic() < deadline_s, "the alert's hold has not come"
        number += 1
    by = ("--by", "kim", "--reason", "a streamer we know", "--wait", str(WAIT_S))
    would = pitboss("alerts", "release", alert["alert_id"], *by, "--dry-run")
    assert would["player_id"] == player.player_id
    assert withdraw(runtime, player, 1_000) == "REFUSED_BLOCKED"
    released = pitboss("alerts", "release", alert["alert_id"], *by)
    assert released["applied"] is True
    assert withdraw(runtime, player, 1_001) == "REFUSED_FUNDS"
