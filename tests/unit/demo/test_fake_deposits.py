"""The demo of fake deposits without servers: its records through normaliser and detectors, and its figures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.partition import PartitionDetectors
from lab.sandbox.keys import SandboxKeys
from pitboss.demo.fake_deposits import (
    BLOCK_TARGET_MS,
    CREDITED_MINOR,
    PLAYERS,
    deposit_records,
    make_players,
    measure_fake_deposits,
    withdrawal_records,
)
from pitboss.workers.fraud import create_enforcement
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser
from streams.providers.registry import DIALECTS

NOW_MS = 1_788_739_200_000


@pytest.fixture(scope="module")
def log():
    """The log as it comes about: each notice resolved to its player, each block behind its alert."""
    keys = SandboxKeys.generate()
    keyring = {"house": keys.keyring()["house"]}
    normaliser, players = Normaliser(DIALECTS, keyring), make_players()
    records = deposit_records(players, keys, NOW_MS)
    records += withdrawal_records(players, keys, NOW_MS + 2_000)
    events: list[Any] = []
    player_of: dict[str, str] = {}
    for offset, record in enumerate(records):
        raw: Any = SimpleNamespace(
            topic=f"provider.{record.provider}.raw.v1",
            partition=0,
            offset=offset,
            timestamp=record.event_time_ms,
            key=record.key,
            value=record.value,
            headers=record.headers,
        )
        item: Any
        [item] = normaliser.normalise(raw)
        event = item.transaction if hasattr(item, "transaction") else item.event
        if event.operation == "deposit.opened":
            player_of[event.provider_tx_id] = event.player_id
        elif event.player_id is None:
            owner = player_of[event.reference.tx_id]
            event = msgspec.structs.replace(event, player_id=owner, brand="aurora")
        events.append(event)
    return events


def enforced(log):
    """Return the log with the blocks that its alerts append, and the alerts."""
    enforcement = create_enforcement(frozenset({"block", "hold"}), {})
    assert enforcement is not None
    detectors, whole, alerts = PartitionDetectors(DEFAULT_RULES, 0), [], {}
    for offset, event in enumerate(log):
        whole.append(event)
        for alert in detectors.observe(event, offset):
            alerts[f"{alert.alert_id}/{alert.revision}"] = alert
            order = enforcement.record_for(alert)
            if order is None or not detectors.may_stop(alert):
                continue
            raw = SimpleNamespace(
                topic="provider.house.raw.v1",
                partition=0,
                offset=1_000 + len(whole),
                timestamp=event.appended_at + 40,
                key=order[0],
                value=order[1],
                headers=order[2],
            )
            [item] = Normaliser(DIALECTS, {}).normalise(raw)
            assert isinstance(item, AcceptedTransaction)
            whole.append(item.transaction)
    return whole, alerts


def topics_of(log, alerts) -> Any:
    """Decide as the ledger does: a blocked player withdraws nothing."""
    blocked: set[str] = set()
    outcomes = {}
    for event in log:
        outcome = "POSTED"
        if event.operation == "player.blocked":
            blocked.add(event.player_id)
        elif event.operation == "withdrawal.requested" and event.player_id in blocked:
            outcome = "REFUSED_BLOCKED"
        outcomes[event.event_id, event.attempt] = SimpleNamespace(outcome=outcome)
    records = [SimpleNamespace(event=event) for event in log]
    return SimpleNamespace(log={0: records}, alerts=alerts, outcomes=outcomes)


def test_every_dollar_is_found_and_none_is_paid(log):
    found = measure_fake_deposits(topics_of(*enforced(log)))
    assert found.holds, found
    assert found.credited_minor == found.exposed_minor == 25_000_000
    assert found.refusals == {"REFUSED_BLOCKED": PLAYERS}
    assert found.slowest_block_ms == 40
    # All notices are of one millisecond, and the blocks 40 later.
    assert found.unblocked_minor_max == 25_000_000


def test_a_block_that_comes_after_a_second_does_not_hold(log):
    found = measure_fake_deposits(topics_of(*enforced(log)))
    late = msgspec.structs.replace(found, slowest_block_ms=BLOCK_TARGET_MS + 1)
    in_time = msgspec.structs.replace(found, slowest_block_ms=BLOCK_TARGET_MS)
    assert (in_time.holds, late.holds) == (True, False)


def test_money_is_exposed_from_its_deposit_to_the_block_of_its_player(log):
    whole, alerts = enforced(log)
    deposits = [event for event in whole if event.operation == "AUTHORISATION"]
    times = {event.event_id: NOW_MS + 100 * n for n, event in enumerate(deposits)}
    blocks = {event.player_id: times[event.event_id] + 250 for event in deposits}
    moved = []
    for event in whole:
        at_ms = times.get(event.event_id, event.appended_at)
        if event.operation == "player.blocked":
            at_ms = blocks[event.player_id]
        moved.append(msgspec.structs.replace(event, appended_at=at_ms))
    found = measure_fake_deposits(topics_of(moved, alerts))
    assert found.slowest_block_ms == 250
    assert found.unblocked_minor_max == 3 * CREDITED_MINOR


def test_without_blocks_the_money_leaves_and_the_demo_fails(log):
    _, alerts = enforced(log)
    found = measure_fake_deposits(topics_of(log, alerts))
    assert not found.holds
    assert found.paid_minor == 25_000_000
    assert (found.blocked_players, found.slowest_block_ms) == (0, None)
    assert found.unblocked_minor_max == 25_000_000
