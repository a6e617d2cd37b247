"""An alert that stops its player: the record it appends, read by the normaliser as any operator's block."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.partition import PartitionDetectors
from fraud_agents.enforcement import Enforcement, brand_of
from lab.fraud.story import DAY_MS, MINUTE_MS, PlayerStory, Stream
from pitboss.workers.fraud import create_enforcement
from schemas.errors import UsageError
from schemas.events import AlertStatus
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser
from streams.providers.registry import DIALECTS

T0 = 1_788_739_200_000
KEYS = {"house": {"hmac_hex": "00" * 32}}
BOTH = frozenset({"block", "hold"})


def fake_deposits(players: int = 25, amount: int = 1_000_000):
    """A quarter of a million made up by an affiliate's credential; each player asks for it a minute later."""
    stream = Stream(3)
    for _ in range(players):
        story = PlayerStory(stream, "US-NJ", brand="a:b")
        reference = story.open_deposit(T0, amount)
        story.confirm(T0 + 5_000, amount, reference, provider="clickpartner")
        story.withdraw(T0 + MINUTE_MS, amount)
    return stream.in_order()


def enforcing(severities=BOTH, keys=None) -> Enforcement:
    made = create_enforcement(severities, keys or {})
    assert made is not None
    return made


def stop(enforcement: Enforcement, alert) -> bytes:
    """Return the body of the record that stops an alert's player."""
    order = enforcement.record_for(alert)
    assert order is not None
    return order[1]


def watch(sent, enforcement: Enforcement):
    """Return what happens in order: the log's records, and the blocks that their alerts append."""
    detectors, happened = PartitionDetectors(DEFAULT_RULES, 0), []
    for offset, one in enumerate(sent):
        happened.append(one.record)
        for alert in detectors.observe(one.record, offset):
            if not detectors.may_stop(alert):
                continue
            order = enforcement.record_for(alert)
            if order is not None:
                happened.append((alert, order))
    return happened


def normalise(order, offset=0):
    key, value, headers, _ = order
    record = SimpleNamespace(
        topic="provider.house.raw.v1",
        partition=0,
        offset=offset,
        timestamp=int(dict(headers)["received-at"]) + 500,
        key=key,
        value=value,
        headers=headers,
    )
    [item] = Normaliser(DIALECTS, KEYS).normalise(record)
    assert isinstance(item, AcceptedTransaction), item
    return item.transaction


def test_a_quarter_of_a_million_is_blocked_before_any_withdrawal():
    enforcement = enforcing(BOTH, KEYS)
    happened = watch(fake_deposits(), enforcement)
    blocked, exposed = set(), 0
    for one in happened:
        if isinstance(one, tuple):
            alert, order = one
            event = normalise(order)
            does = "player.blocked" if alert.severity == "block" else "player.held"
            assert (event.operation, event.signature) == (does, "VALID")
            assert (event.brand, event.player_id) == ("a:b", alert.player_id)
            assert (event.cause.type, event.cause.id) == ("alert", alert.alert_id)
            assert event.occurred_at == alert.occurred_at
            if alert.rule_id == "D02":
                exposed += alert.exposed_minor
            if does == "player.blocked":
                blocked.add(alert.player_id)
        elif one.operation == "withdrawal.requested":
            assert one.player_id in blocked
    assert len(blocked) == 25
    assert exposed == 25_000_000  # every dollar is exposed, and none has left


def test_the_same_alert_gives_the_same_event_after_a_restart():
    first, second = (
        [
            normalise(one[1], 9)
            for one in watch(fake_deposits(2), enforcing(BOTH, KEYS))
            if isinstance(one, tuple)
        ]
        for _ in range(2)
    )
    assert first == second
    assert len({event.event_id for event in first}) == len(first)


def test_a_hold_that_becomes_a_block_is_another_event_and_a_closed_alert_none():
    enforcement = enforcing()
    [(alert, _), *_] = [
        one for one in watch(fake_deposits(1), enforcement) if isinstance(one, tuple)
    ]
    hold = msgspec.structs.replace(alert, severity="hold")
    assert b"player.held" in stop(enforcement, hold)
    assert b"player.blocked" in stop(enforcement, alert)
    assert stop(enforcement, hold) != stop(enforcement, alert)
    closed = msgspec.structs.replace(alert, status=AlertStatus.CLOSED.value)
    assert enforcement.record_for(closed) is None
    assert enforcement.record_for(msgspec.structs.replace(alert, severity="review")) is None
    assert enforcement.record_for(msgspec.structs.replace(alert, player_id=None)) is None


def test_each_alert_states_what_it_does_by_itself():
    """What it says does not depend on other alerts, which a worker may see in another order."""
    stream = Stream(4)
    story = PlayerStory(stream)
    reference = story.open_deposit(T0, 100_000)
    story.confirm(T0 + 1_000, 100_000, reference, provider="crm")  # D02 blocks
    story.withdraw(T0 + MINUTE_MS, 90_000)  # D05 holds
    happened = watch(stream.in_order(), enforcing(BOTH, KEYS))
    orders = [one for one in happened if isinstance(one, tuple)]
    assert [(alert.rule_id, normalise(order).operation) for alert, order in orders] == [
        ("D02", "player.blocked"),
        ("D05", "player.held"),
    ]


def test_the_end_of_an_episode_does_not_block_a_released_player_again():
    stream = Stream(5)
    story = PlayerStory(stream)
    story.confirm(T0, 1_000, None)  # D02 blocks
    story.set_state(T0 + MINUTE_MS, "player.released", "alert")
    late_ms = T0 + 3 * DAY_MS  # the alert is closed a day after it
    story.bet(late_ms, 1)
    for number in range(600):
        story.bet(late_ms + MINUTE_MS + number * 90, 1)  # D01 holds
    orders = [one for one in watch(stream.in_order(), enforcing()) if isinstance(one, tuple)]
    assert [(alert.rule_id, b"player.held" in order[1]) for alert, order in orders] == [
        ("D02", False),
        ("D01", True),
    ]


def test_only_the_severities_that_are_named_stop_a_player():
    only_block = enforcing(frozenset({"block"}))
    [(alert, _), *_] = [
        one for one in watch(fake_deposits(1), only_block) if isinstance(one, tuple)
    ]
    assert only_block.record_for(msgspec.structs.replace(alert, severity="hold")) is None
    assert create_enforcement(None, {}) is None
    assert create_enforcement(frozenset(), {}) is None
    with pytest.raises(UsageError, match="review does not stop a player"):
        create_enforcement(frozenset({"review"}), {})


def test_an_alert_that_is_not_the_players_fault_stops_no_player():
    stream = Stream(6)
    story = PlayerStory(stream)
    bet = story.bet(T0, 1_000)
    assert bet.round_id is not None
    story.bet(T0 + 5_000, 900, round_id=bet.round_id, tx_id=bet.provider_tx_id)
    detectors = PartitionDetectors(DEFAULT_RULES, 0)
    alerts = [
        alert
        for offset, sent in enumerate(stream.in_order())
        for alert in detectors.observe(sent.record, offset)
    ]
    [alert] = alerts
    assert (alert.rule_id, alert.severity) == ("D15", "block")
    assert not detectors.may_stop(alert)


def test_the_brand_of_a_key_is_that_of_its_events():
    assert [brand_of(key) for key in ("a:p", "a%3Ab:p:q", "a%253A:p")] == ["a", "a:b", "a%3A"]
