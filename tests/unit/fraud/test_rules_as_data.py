"""Rules as data: files, the book of changes, the sets they come to, and what becomes of alerts."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_agents.activations import Marker, Timeline
from fraud_agents.detectors import D01_BET_VELOCITY, DEFAULT_RULES
from fraud_agents.detectors.partition import PartitionDetectors
from fraud_agents.rule_book import RuleBook, decode_rule, encode_rule
from fraud_agents.rule_files import differences, file_detectors, rule_of, schema_of
from fraud_agents.rule_set import RuleEntry, RuleSet, RuleState, Snooze, share_of
from fraud_agents.rules import ControlGroup, Rule, RuleScope
from lab.fraud.story import DAY_MS, PlayerStory, Stream
from pitboss.workers.fraud import create_enforcement
from schemas.errors import UsageError
from schemas.rule_changes import RuleChange, RuleChangeKind
from tests.support.fraud_log import T0, bet, burst

D01, D02 = D01_BET_VELOCITY, next(rule for rule in DEFAULT_RULES if rule.rule_id == "D02")


def written(**more) -> bytes:
    document = {
        "rule": "D01",
        "version": 3,
        "detector": "D01",
        "owner": "risk",
        "reason": "a tighter warning in Germany",
    }
    return json.dumps(document | more).encode()


def change(kind: RuleChangeKind, rule_id="D01", version=3, **more) -> RuleChange:
    return RuleChange(
        change_id="c",
        kind=kind.value,
        rule_id=rule_id,
        rule_version=version,
        actor="kim",
        reason="a test",
        made_at=0,
        **more,
    )


def publish(rule: Rule) -> RuleChange:
    return change(RuleChangeKind.PUBLISHED, rule.rule_id, rule.version, rule=encode_rule(rule))


def state(name: str, version=3, percent=None, rule_id="D01") -> RuleChange:
    return change(RuleChangeKind.STATE, rule_id, version, state=name, percent=percent)


def third(**more) -> Rule:
    return msgspec.structs.replace(D01, **{"version": 3, "owner": "risk", **more})


class TestFiles:
    def test_a_file_states_what_differs_and_the_rule_holds_every_number(self):
        rule = rule_of(
            written(severity="block", parameters={"threshold": 300, "limits": {"warn": 90}}), "f"
        )
        assert (rule.threshold, rule.limit("warn"), rule.severity) == (300, 90, "block")
        assert (rule.window_ms, rule.owner, rule.version) == (D01.window_ms, "risk", 3)
        assert decode_rule(encode_rule(rule)) == rule
        fields = [field for field, _, _ in differences(D01, rule)]
        assert fields == [
            *("limits.warn.source", "limits.warn.value", "owner", "reason", "severity"),
            *("threshold", "version"),
        ]

    def test_a_rule_of_another_name_runs_the_detector_beside_the_default(self):
        rule = rule_of(written(rule="D01-DE", version=1, scope={"regions": ["DE"]}), "f")
        assert (rule.rule_id, rule.detector_id, rule.scope) == (
            "D01-DE",
            "D01",
            RuleScope(regions=["DE"]),
        )
        watch = PartitionDetectors([D01, rule], 0)
        events = [
            msgspec.structs.replace(one, region=region)
            for region in ("DE", "MT")
            for one in burst(f"p-{region}", T0, 120)
        ]
        alerts = [a for n, one in enumerate(events) for a in watch.observe(one, n)]
        assert sorted((a.rule_id, a.player_id) for a in alerts) == [
            ("D01", "p-DE"),
            ("D01", "p-MT"),
            ("D01-DE", "p-DE"),
        ]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"[", "not JSON"),
            (b"[]", "does not run a detector"),
            (written(detector="D99"), "does not run a detector 'D99'"),
            (written(parameters={"treshold": 3}), r"parameters.*'treshold' was unexpected"),
            (written(parameters={"limits": {"none": 3}}), "'none' was unexpected"),
            (written(parameters={"threshold": "many"}), "threshold.*'many' is not of type"),
            (written(reason="why"), "reason"),
            (written(severity="fatal"), "severity"),
            (
                written(control={"percent": 90, "exposed_minor_max": 1, "day_minor_max": 1}),
                "percent.*maximum",
            ),
            (written(detector="D02", rule="D02", scope={"games": ["g"]}), "'games' was unexpected"),
            (written(parameters={"cooldown_ms": 5}), "cooldown_ms 5 is less than"),
            (
                written(detector="D19", rule="D19", severity="block"),
                "rule D19 version 3: D19 opens a case for a person and stops no player.*not block",
            ),
            (written(detector="D19", rule="HARM", severity="hold"), "severity review or info"),
            (written(detector="D19", rule="D19", stops_player=True), "stops_player false"),
        ],
    )
    def test_what_is_not_a_rule_is_refused_with_the_place(self, content, message):
        with pytest.raises(UsageError, match=message):
            rule_of(content, "rule.json")

    @pytest.mark.parametrize("base", file_detectors().values(), ids=lambda one: one.rule_id)
    def test_every_detector_of_the_worker_has_a_schema_with_its_own_numbers(self, base):
        parameters = schema_of(base)["properties"]["parameters"]["properties"]
        assert set(parameters["limits"]["properties"]) == set(base.limits)
        assert set(parameters["words"]["properties"]) == set(base.words)


class TestBook:
    def test_a_version_goes_from_draft_to_active_and_takes_the_place_of_the_one_before(self):
        book = RuleBook(DEFAULT_RULES)
        base = book.rule_set().name
        names = []
        for offset, one in enumerate(
            [publish(third()), state("shadow"), state("canary", percent=5), state("active")]
        ):
            assert book.apply(one, offset) is None
            names.append([name for name in book.rule_set().name.split(",") if "D01@" in name])
        second, own = names[0][0], f"D01@3#{third().digest}"
        assert names == [
            [second],
            [second, f"{own}:shadow"],
            [second, f"{own}:canary5"],
            [own],
        ]
        assert [book.rule_set_at(n).name for n in (0, 1)] == [base, base]
        assert book.rule_set_at(2).name.split(",").count(f"{own}:shadow") == 1
        assert book.rule_set_at(4) == book.rule_set()
        with pytest.raises(UsageError, match="as of position 9"):
            book.rule_set_at(9)

    @pytest.mark.parametrize(
        ("refused", "message"),
        [
            (publish(third(threshold=400)), "published with other contents"),
            (publish(msgspec.structs.replace(D01, threshold=400)), "other contents"),
            (state("active", version=7), "D01:7 is not published"),
            (state("draft"), "not a state that can be set"),
            (state("canary", percent=7), "1, 5, 25, 100 %"),
            (state("paused"), "draft: there is nothing to pause"),
            (publish(third(version=4, detector="D02")), "of the detector"),
            (publish(third(rule_id="X1", detector="D99")), "no detector D99"),
            (publish(third(rule_id="X1", detector="D01", limits={})), "needs warn"),
            (change(RuleChangeKind.PUBLISHED, rule="{"), "not a rule"),
            (change(RuleChangeKind.PUBLISHED, version=8, rule=encode_rule(third())), "holds D01:3"),
            (change(RuleChangeKind.SNOOZED, until=1), "names a player or a key"),
            (change(RuleChangeKind.SNOOZED, rule_id="X", until=1, key="k"), "X is not known"),
            (msgspec.structs.replace(state("active"), kind="MERGED"), "does not know"),
        ],
    )
    def test_a_change_that_contradicts_the_ones_before_is_refused_and_passed_over(
        self, refused, message
    ):
        book = RuleBook(DEFAULT_RULES)
        book.apply(publish(third()), 0)
        before = book.rule_set()
        assert message in str(book.apply(refused, 1))
        assert (book.rule_set(), book.position) == (before, 2)
        assert [one.offset for one in book.refused] == [1]
        with pytest.raises(UsageError):
            book.check(refused)

    @given(st.lists(st.integers(0, 11), max_size=12), st.integers(0, 12))
    def test_the_set_at_a_position_is_that_of_the_changes_before_it(self, picks, position):
        """Also among changes that are refused, and whatever comes later."""
        pool = [publish(third()), publish(msgspec.structs.replace(third(), version=4))]
        pool += [state(s, v, p) for v in (3, 4) for s, p in (("shadow", None), ("canary", 5))]
        pool += [state(s, v) for v in (2, 3, 4) for s in ("active", "paused")]
        changes = [pool[pick] for pick in picks]
        position = min(position, len(changes))
        whole, half = RuleBook(DEFAULT_RULES), RuleBook(DEFAULT_RULES)
        for offset, one in enumerate(changes):
            whole.apply(one, offset)
            if offset < position:
                half.apply(one, offset)
        assert whole.rule_set_at(position) == half.rule_set()


@given(
    st.dictionaries(st.integers(0, 30), st.integers(0, 9), max_size=6).map(
        lambda found: [Marker(offset, position) for offset, position in found.items()]
    ),
    st.integers(0, 30),
)
def test_a_partition_that_begins_anywhere_obeys_the_markers_as_one_that_began_at_the_start(
    markers, start
):
    """Judged record by record: the position before a snapshot, and the switches from it on."""
    timeline = Timeline(markers)

    def positions(first: int) -> list[int]:
        position = timeline.judged_before(first) or 0
        due, found = timeline.switches_from(first), []
        for offset in range(first, 40):
            for marker in due:
                if marker.from_offset == offset:
                    position = marker.position
            found.append(position)
        return found

    if not markers or min(markers).from_offset == 0:
        assert positions(start) == positions(0)[start:]


def test_markers_of_harm_stop_no_player_whoever_publishes_the_rule():
    """A record of the topic goes by no file: the rule itself refuses."""
    base = next(rule for rule in DEFAULT_RULES if rule.rule_id == "D19")
    fields = msgspec.to_builtins(base) | {"version": 2, "owner": "risk"}
    for changed in ({"severity": "hold"}, {"severity": "block"}, {"stops_player": True}):
        text = json.dumps(fields | changed)
        book = RuleBook(DEFAULT_RULES)
        refused = book.apply(change(RuleChangeKind.PUBLISHED, "D19", 2, rule=text), 0)
        assert "D19 opens a case for a person" in str(refused)
    allowed = msgspec.structs.replace(base, version=2, severity="info")
    assert RuleBook(DEFAULT_RULES).apply(publish(allowed), 0) is None


class TestAlerts:
    def alert(self, player="p", *, rule=D02, amount=1_000):
        """Return the alert of a made-up deposit."""
        stream = Stream(3)
        story = PlayerStory(stream)
        story.confirm(T0, amount, None)
        [found] = PartitionDetectors([rule], 0).observe(stream.in_order()[0].record, 0)
        return msgspec.structs.replace(found, player_id=player)

    def test_a_canary_and_the_active_version_share_the_players_out(self):
        new = RuleEntry(msgspec.structs.replace(D02, version=9), RuleState.CANARY, 25)
        old = RuleEntry(D02)
        rules = RuleSet((old, new))
        by_new = 0
        for number in range(2_000):
            alert = self.alert_of(f"p{number}")
            raised = [rules.handling_of(alert, entry) for entry in (old, new)]
            assert raised.count(None) == 1
            by_new += raised[1] is not None
        assert 400 < by_new < 600

    def alert_of(self, player, **more):
        self.made = getattr(self, "made", None) or self.alert()
        return msgspec.structs.replace(self.made, player_id=player, **more)

    def test_a_larger_canary_keeps_the_players_of_the_smaller_one(self):
        shares = {share_of("D01", self.alert_of(f"p{n}")) for n in range(500)}
        assert len(shares) > 450
        assert share_of("D01", self.alert_of("p1")) != share_of("D02", self.alert_of("p1"))

    def test_the_control_group_is_held_and_capped_in_money(self):
        rule = msgspec.structs.replace(D02, control=ControlGroup(10, 50_000, 10**9))
        rules = RuleSet((RuleEntry(rule),))
        held = []
        for number in range(1_000):
            small = self.alert_of(f"p{number}", exposed_minor=49_999, currency="EUR")
            large = msgspec.structs.replace(small, exposed_minor=50_000)
            found = rules.handle(small, rules.entries[0])
            assert rules.handle(large, rules.entries[0]) == large
            assert found is not None
            if found.handling == "control":
                assert (found.severity, found.evidence["rule_severity"]) == ("hold", "block")
                held.append(number)
            else:
                assert found == small
        assert 70 < len(held) < 130
        enforcement = create_enforcement(frozenset({"block", "hold"}), {})
        assert enforcement is not None
        small = self.alert_of(f"p{held[0]}", exposed_minor=1, currency="EUR")
        alert = rules.handle(small, rules.entries[0])
        assert alert is not None
        order = enforcement.record_for(alert)
        assert order is not None
        assert b"player.held" in order[1]
        only_blocks = create_enforcement(frozenset({"block"}), {})
        assert only_blocks is not None
        # Where blocks are enforced, the money of the control group waits all the same.
        assert only_blocks.record_for(alert) == order

    def test_the_control_group_is_capped_in_money_a_day(self):
        """So many players cannot make up the sum that one may not: also after a restart."""
        rule = msgspec.structs.replace(D02, control=ControlGroup(50, 50_000, 100_000))
        stream, day_ms = Stream(8), 86_400_000
        for day in range(2):
            for number in range(60):
                PlayerStory(stream).confirm(T0 + day * day_ms + number * 60_000, 30_000, None)
        straight, cut = PartitionDetectors([rule], 0), PartitionDetectors([rule], 0)
        found, again = [], []
        for offset, sent in enumerate(stream.in_order()):
            found += straight.observe(sent.record, offset)
            state = cut.state()
            cut = PartitionDetectors([rule], 0)
            cut.restore(state)
            again += cut.observe(sent.record, offset)
        assert again == found
        opened = [alert for alert in found if alert.status == "OPEN"]
        held = [alert for alert in opened if alert.handling == "control"]
        # Three of EUR 300 fit into EUR 1,000, and on the next day three more.
        assert [alert.occurred_at // day_ms - T0 // day_ms for alert in held] == [0] * 3 + [1] * 3
        assert len(opened) == 120
        assert {alert.severity for alert in opened if alert not in held} == {"block"}
        # An alert that is closed says the same as when it was opened.
        said = {alert.alert_id: alert.handling for alert in opened}
        assert all(alert.handling == said[alert.alert_id] for alert in found)

    def test_an_alert_that_grows_beyond_the_days_money_is_a_block(self):
        rule = msgspec.structs.replace(D02, control=ControlGroup(50, 10**9, 100_000))
        stream = Stream(8)
        for _ in range(20):
            story = PlayerStory(stream)
            story.confirm(T0, 4_000, None)
        watch = PartitionDetectors([rule], 0)
        held = [
            alert
            for offset, sent in enumerate(stream.in_order())
            for alert in watch.observe(sent.record, offset)
            if alert.handling == "control"
        ]
        story.player_id = held[0].player_id or ""
        stream.sent.clear()
        story.confirm(T0 + 60_000, 200_000, None)
        [sent] = stream.sent
        [alert] = watch.observe(sent.record, 20)
        assert (alert.alert_id, alert.handling, alert.severity) == (
            held[0].alert_id,
            "normal",
            "block",
        )

    def test_a_segment_limits_a_rule_to_its_players_from_a_record_on(self):
        rule = msgspec.structs.replace(D02, scope=RuleScope(segments=["vip", "new"]))
        book = RuleBook([rule])
        changes = [("vip", "in", "p-1"), ("new", "in", "p-2"), ("new", "out", "p-2")]
        for offset, (name, state, player) in enumerate(changes):
            change = self.member(name, state, player)
            assert book.apply(change, offset) is None
        sets = [book.rule_set_at(position) for position in range(4)]
        assert [sets[n].players_of(rule) for n in range(4)] == [
            frozenset(),
            {"p-1"},
            {"p-1", "p-2"},
            {"p-1"},
        ]
        stream = Stream(4)
        stories = [PlayerStory(stream) for _ in range(3)]
        for number, story in enumerate(stories, start=1):
            story.player_id = f"p-{number}"
        watch = PartitionDetectors(sets[0], 0)
        found: list[tuple[int, str | None]] = []
        for offset, rules in enumerate(sets):
            watch.switch_rules(rules)
            for story in stories:
                story.confirm(T0 + offset * DAY_MS * 2, 1_000, None)
            for sent in stream.sent:
                found += [
                    (offset, alert.player_id)
                    for alert in watch.observe(sent.record, len(found) + 10 * offset)
                    if alert.status == "OPEN"
                ]
            stream.sent.clear()
        assert found == [(1, "p-1"), (2, "p-1"), (2, "p-2"), (3, "p-1")]

    @pytest.mark.parametrize("bad", [("VIP", "in", "p"), ("vip", "maybe", "p"), ("vip", "in", "")])
    def test_a_change_of_a_segment_that_says_too_little_is_refused(self, bad):
        assert RuleBook([D02]).apply(self.member(*bad), 0) is not None

    def member(self, name, state, player):
        return RuleChange(
            change_id="c",
            kind=RuleChangeKind.SEGMENT.value,
            rule_id=name,
            rule_version=0,
            actor="kim",
            reason="a test",
            made_at=0,
            state=state,
            player_id=player,
        )

    def test_a_snooze_is_of_one_player_and_ends(self):
        alert = self.alert_of("p", occurred_at=1_000)
        other, later = self.alert_of("q", occurred_at=1_000), self.alert_of("p", occurred_at=1_001)
        by_player, by_key = (
            RuleSet((RuleEntry(D02),), (snooze,))
            for snooze in (Snooze("D02", "p", None, 1_001), Snooze("D02", None, alert.key, 2_000))
        )
        elsewhere = msgspec.structs.replace(alert, key="k")
        for rules, one, expected in [
            (by_player, alert, "snoozed"),
            (by_player, other, "normal"),
            (by_player, later, "normal"),
            (by_key, other, "snoozed"),
            (by_key, elsewhere, "normal"),
        ]:
            found = rules.handle(one, rules.entries[0])
            assert found is not None
            assert found.handling == expected

    def test_two_active_versions_of_a_rule_are_not_a_set(self):
        with pytest.raises(UsageError, match="two versions of one rule"):
            RuleSet((RuleEntry(D01), RuleEntry(third())))


class TestSwitches:
    """One version after another over one burst."""

    def run(self, *sets, count=130):
        """Show a burst, a set of rules for each `count` bets of it, and return what is raised."""
        watch, found = PartitionDetectors(sets[0], 0), []
        for number, event in enumerate(burst("p", T0, count * len(sets))):
            if number and number % count == 0:
                found += [(a, number) for a in watch.switch_rules(sets[number // count])]
            found += [(a, number) for a in watch.observe(event, number)]
        return [(a.rule_version, a.status, a.handling, number) for a, number in found]

    def test_an_alert_of_a_trial_is_closed_and_opened_anew_once_its_rule_is_active(self):
        trial = RuleSet((RuleEntry(third(), RuleState.SHADOW),))
        assert self.run(trial, RuleSet((RuleEntry(third()),))) == [
            (3, "OPEN", "shadow", 119),
            (3, "CLOSED", "shadow", 130),
            (3, "OPEN", "normal", 130),
        ]

    def test_an_alert_goes_on_under_the_next_version(self):
        stricter = RuleSet((RuleEntry(third(threshold=200)),))
        assert self.run(RuleSet((RuleEntry(D01),)), stricter) == [
            (2, "OPEN", "normal", 119),
            (3, "UPDATED", "normal", 199),
        ]

    def test_a_paused_rule_closes_its_alerts_and_a_new_one_is_warm(self):
        assert self.run(RuleSet((RuleEntry(D01),)), RuleSet(())) == [
            (2, "OPEN", "normal", 119),
            (2, "CLOSED", "normal", 130),
        ]
        trial = RuleSet((RuleEntry(D01), RuleEntry(third(), RuleState.SHADOW)))
        assert self.run(RuleSet((RuleEntry(D01),)), trial) == [
            (2, "OPEN", "normal", 119),
            (3, "OPEN", "shadow", 130),
        ]

    def test_a_shadow_alert_stops_no_player_and_has_an_id_of_its_own(self):
        made = {}
        for name in ("active", "shadow"):
            rules = RuleSet((RuleEntry(D01, RuleState(name)),))
            watch = PartitionDetectors(rules, 0)
            events = [*burst("p", T0, 120)]
            [alert] = [a for n, one in enumerate(events) for a in watch.observe(one, n)]
            made[name] = (alert, watch.may_stop(alert))
        assert [may for _, may in made.values()] == [True, False]
        assert made["active"][0].alert_id != made["shadow"][0].alert_id


@pytest.mark.parametrize("stops_player", [True, False])
def test_a_rule_of_a_name_of_its_own_stops_its_players_if_it_says_so(stops_player):
    rule = third(rule_id="D01-DE", detector="D01", stops_player=stops_player)
    watch = PartitionDetectors(RuleSet((RuleEntry(D01), RuleEntry(rule))), 0)
    events = burst("p", T0, 500)
    alerts = [a for n, one in enumerate(events) for a in watch.observe(one, n)]
    enforcement = create_enforcement(frozenset({"block", "hold"}), {})
    assert enforcement is not None
    held = [a.rule_id for a in alerts if watch.may_stop(a) and enforcement.record_for(a)]
    assert held == (["D01", "D01-DE"] if stops_player else ["D01"])


def test_a_scope_names_region_brand_and_game():
    scope = RuleScope(regions=["DE"], brands=["a"], games=["g"])
    assert scope.includes("DE", "a", "g")
    assert not scope.includes("MT", "a", "g")
    assert not scope.includes("DE", "b", "g")
    assert not scope.includes("DE", "a", None)
    assert RuleScope().includes("", "", None)
    rule = msgspec.structs.replace(D01, scope=RuleScope(games=["other"]))
    watch = PartitionDetectors([rule], 0)
    events = [bet("p", T0 + n, f"t{n}", game="slot-1" if n % 2 else "other") for n in range(400)]
    assert [a.observed for n, one in enumerate(events) for a in watch.observe(one, n)] == [120]
