"""D03: an alert about an affiliate is one case, and the players whose deposits it is about are stopped one by one."""

from __future__ import annotations

import json

import msgspec
import pytest

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.ordered import OrderedDetectors
from fraud_agents.detectors.signal_base import Scope
from lab.fraud.story import DAY_MS, MINUTE_MS, PlayerStory, Stream
from pitboss.workers.fraud import create_enforcement
from schemas.events import FraudAlert
from schemas.topics import PLAYER_EVENTS, TRANSACTIONS

T0 = 1_788_739_200_000
[RULE] = [rule for rule in DEFAULT_RULES if rule.rule_id == "D03"]
TOPICS = (PLAYER_EVENTS, TRANSACTIONS)
INPUTS = [(topic, 0) for topic in TOPICS]
ENFORCEMENT = create_enforcement(frozenset({"block", "hold"}), {})


class Affiliate:
    """The players of one affiliate, and what D03 says of their deposits."""

    def __init__(self, rule=RULE) -> None:
        self.stream = Stream(6)
        self.detectors = OrderedDetectors([rule], INPUTS, Scope.ALL, TOPICS)
        self.offset = 0

    def player(self) -> PlayerStory:
        player = PlayerStory(self.stream, brand="a:b")
        player.report(T0, "REGISTERED", 0, affiliate="partner")
        return player

    def run(self, until_ms: int) -> list[FraudAlert]:
        alerts = []
        for sent in self.stream.in_order():
            alerts += self.detectors.observe(sent.record, (sent.topic, 0), self.offset)
            self.offset += 1
        self.stream.sent.clear()
        for topic in TOPICS:
            alerts += self.detectors.beat((topic, 0), until_ms)
        return alerts

    def stopped(self, alerts) -> list[tuple[str | None, str]]:
        """The players that the alerts stop, and how, in order."""
        assert ENFORCEMENT is not None
        return [
            (alert.player_id, alert.severity)
            for alert in alerts
            if self.detectors.may_stop(alert) and ENFORCEMENT.record_for(alert) is not None
        ]


def test_unconfirmed_money_of_an_affiliate_blocks_each_player_who_has_some_of_it():
    affiliate = Affiliate()
    players = [affiliate.player() for _ in range(3)]
    honest, bystander = affiliate.player(), PlayerStory(affiliate.stream, brand="a:b")
    honest.deposit(T0 + 1_000, 40_000)
    bystander.confirm(T0 + 2_000, 500_000, None)
    for number, player in enumerate(players):
        player.confirm(T0 + MINUTE_MS + number * 1_000, 61_000, None)
    alerts = affiliate.run(T0 + 10 * MINUTE_MS)
    case, *stops = [alert for alert in alerts if alert.reason == "UNCONFIRMED"]
    assert (case.key, case.player_id) == ("a%3Ab:affiliate:partner", None)
    names = [player.player_id for player in players]
    assert json.loads(case.evidence["players"]) == names
    assert case.evidence["players_concerned"] == "3"
    assert affiliate.stopped(alerts) == [(name, "block") for name in names]
    assert [alert.exposed_minor for alert in stops] == [61_000] * 3
    assert {alert.currency for alert in stops} == {"EUR"}
    assert stops[0].key == f"a%3Ab:affiliate:partner:{names[0]}"
    assert len({alert.alert_id for alert in alerts}) == 4


def test_a_player_who_joins_later_is_stopped_at_their_own_deposit_and_once():
    affiliate = Affiliate()
    first, later = affiliate.player(), affiliate.player()
    for number in range(3):
        first.confirm(T0 + MINUTE_MS + number, 70_000, None)
    assert affiliate.stopped(affiliate.run(T0 + 2 * MINUTE_MS)) == [(first.player_id, "block")]
    later.confirm(T0 + 3 * MINUTE_MS, 1_000, None)
    later.confirm(T0 + 4 * MINUTE_MS, 100, None)
    alerts = affiliate.run(T0 + 5 * MINUTE_MS)
    # The case itself is not twice as large, so nothing is published about it.
    assert [(alert.player_id, alert.revision) for alert in alerts] == [
        (later.player_id, 1),
        (later.player_id, 2),
    ]
    assert set(affiliate.stopped(alerts)) == {(later.player_id, "block")}
    assert len({alert.alert_id for alert in alerts}) == 1  # so one event of the log


def test_one_amount_holds_those_who_paid_it_and_a_share_those_who_are_not_confirmed():
    affiliate = Affiliate()
    same = [affiliate.player() for _ in range(12)]
    others = [affiliate.player() for _ in range(9)]
    for number, player in enumerate(same):
        player.deposit(T0 + number * 30 * MINUTE_MS, 7_700)
    for number, player in enumerate(others):
        player.deposit(T0 + number * 31 * MINUTE_MS, 1_000 + number)
    affiliate.player().confirm(T0 + 7 * 60 * MINUTE_MS, 500, None)
    fake = affiliate.player()
    fake.confirm(T0 + 8 * 60 * MINUTE_MS, 600, None)
    alerts = affiliate.run(T0 + 10 * 60 * MINUTE_MS)
    held: dict[str, set[str | None]] = {}
    for alert in alerts:
        held.setdefault(alert.reason, set()).add(alert.player_id)
    assert held["ONE_AMOUNT"] == {None, *(player.player_id for player in same)}
    assert held["SHARE_UNCONFIRMED"] >= {None, fake.player_id}
    assert not held["SHARE_UNCONFIRMED"] & {player.player_id for player in (*same, *others)}
    assert {severity for _, severity in affiliate.stopped(alerts)} == {"hold"}


@pytest.mark.parametrize("changes", [{"stops_player": False}, {"severity": "review"}])
def test_a_rule_that_stops_no_player_has_the_case_alone(changes):
    affiliate = Affiliate(msgspec.structs.replace(RULE, **changes))
    for number in range(21):
        affiliate.player().deposit(T0 + number * 1_000, 1_000 + number)
    alerts = affiliate.run(T0 + DAY_MS // 2)
    assert {(alert.reason, alert.player_id) for alert in alerts} == {("DEPOSITS", None)}


def test_a_large_burst_names_some_players_and_stops_all_of_them():
    affiliate = Affiliate()
    players = [affiliate.player() for _ in range(90)]
    for number, player in enumerate(players):
        player.deposit(T0 + number * 1_000, 1_000 + number)
    alerts = affiliate.run(T0 + DAY_MS // 2)
    assert {name for name, _ in affiliate.stopped(alerts)} == {one.player_id for one in players}
    case = [alert for alert in alerts if alert.player_id is None][-1]
    assert len(json.loads(case.evidence["players"])) == 50
    assert int(case.evidence["players_concerned"]) > 50


def test_who_was_stopped_is_remembered_over_a_snapshot():
    straight, cut = Affiliate(), Affiliate()
    found = []
    for affiliate in (straight, cut):
        players = [affiliate.player() for _ in range(4)]
        alerts = []
        for number, player in enumerate(players):
            player.confirm(T0 + (1 + number) * MINUTE_MS, 100_000, None)
            alerts += affiliate.run(T0 + (1 + number) * MINUTE_MS + 30_000)
            if affiliate is cut:
                state = cut.detectors.state()
                cut.detectors = OrderedDetectors([RULE], INPUTS, Scope.ALL, TOPICS)
                cut.detectors.restore(state)
        found.append(alerts)
    assert found[0] == found[1]
    assert len(straight.stopped(found[0])) == 4
