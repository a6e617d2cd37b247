"""The sliding windows against an oracle that knows no trick: all events in a list, every window counted anew.

Goal: the window holds exactly what its definition states, for any arrival order, with duplicates and late events.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec
from hypothesis import example, given, note
from hypothesis import strategies as st

from fraud_agents.detectors.partition import PartitionDetectors
from fraud_agents.explanation import explain, first_offset_of
from fraud_agents.rules import Rule
from fraud_agents.windows import Arrival, SlidingWindow, Span, WindowSpec
from schemas.events import FraudAlert, Leg
from tests.support.fraud_log import bet

SPEC = WindowSpec(window_ms=3_000, grace_ms=4_000, dedup_horizon_ms=7_000, capacity=1_000)
WIDE = WindowSpec(window_ms=3_000, grace_ms=2_500, dedup_horizon_ms=9_000, capacity=1_000)
NO_LABEL = ("", "", "")


@dataclass
class Oracle:
    spec: WindowSpec
    counted: list[tuple[int, str]] = field(default_factory=list)

    def add(self, at_ms: int, event_id: str) -> Arrival:
        newest = max((at for at, _ in self.counted), default=at_ms)
        known = {seen for at, seen in self.counted if at >= newest - self.spec.dedup_horizon_ms}
        if event_id in known:
            return Arrival.DUPLICATE
        if at_ms < newest - self.spec.grace_ms:
            return Arrival.LATE
        self.counted.append((at_ms, event_id))
        return Arrival.COUNTED

    def peak(self, at_ms: int) -> Span:
        seconds, second = self.spec.window_ms // 1_000, at_ms // 1_000
        spans = []
        for first in range(second - seconds + 1, second + 1):
            size = sum(first <= at // 1_000 < first + seconds for at, _ in self.counted)
            spans.append(Span(first * 1_000, (first + seconds) * 1_000, size))
        return spans[0] if not spans else max(spans, key=lambda span: (span.size, -span.start_ms))


# Quarter seconds put events on borders and between them; few ids make duplicates, also with another time.
arrivals = st.lists(
    st.tuples(st.integers(0, 80).map(lambda quarter: quarter * 250), st.integers(0, 40).map(str)),
    max_size=60,
)
drifting = st.lists(st.tuples(st.integers(-16, 6), st.integers(0, 40).map(str)), max_size=80)


def walk(steps: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Event times around a time that moves on: most are taken, some are late, some are duplicates."""
    now, out = 100, []
    for step, event_id in steps:
        now += max(step, 1)
        out.append(((now + min(step, 0)) * 250, event_id))
    return out


def same_as_oracle(spec: WindowSpec, events: list[tuple[int, str]]) -> None:
    window, oracle = SlidingWindow(spec), Oracle(spec)
    for offset, (at_ms, event_id) in enumerate(events):
        expected = oracle.add(at_ms, event_id)
        assert window.add(at_ms, event_id, offset, NO_LABEL) is expected
        if expected is Arrival.COUNTED:
            best = oracle.peak(at_ms)
            found = window.peak(at_ms, 1)
            # Ends in seconds without events are not tried, so of equally full windows only the size must agree.
            assert found is not None
            assert found.size == best.size
            assert found.start_ms <= at_ms < found.end_ms
            assert found.end_ms - found.start_ms == spec.window_ms
            inside = [
                event for event in oracle.counted if found.start_ms <= event[0] < found.end_ms
            ]
            contributions = list(window.contributions(found.start_ms, found.end_ms))
            assert sorted((c.at_ms, c.event_id) for c in contributions) == sorted(inside)
            assert window.peak(at_ms, best.size) == found
            assert window.peak(at_ms, best.size + 1) is None


@given(arrivals)
@example([(0, "a"), (2_999, "b"), (3_000, "c")])
@example([(3_000, "c"), (2_999, "b"), (0, "a")])
def test_any_arrival_order_counts_as_the_definition_states(events):
    same_as_oracle(SPEC, events)


@given(drifting)
def test_moving_time_with_stragglers_counts_as_the_definition_states(steps):
    same_as_oracle(SPEC, walk(steps))
    same_as_oracle(WIDE, walk(steps))


RULE = Rule(
    rule_id="D01",
    version=7,
    severity="hold",
    threshold=4,
    unit="bets",
    window_ms=3_000,
    grace_ms=4_000,
    dedup_horizon_ms=8_000,
    close_below=3,
    cooldown_ms=7_000,
    idle_ms=9_000,
    reason="small, so that few events reach it",
)
BET = [Leg("BET")]
WIN = [Leg("WIN")]


def observation(at_ms, event_id, player, legs):
    event = bet(player, at_ms, event_id, game=f"g{event_id[-1]}")
    return msgspec.structs.replace(event, event_id=event_id, legs=legs, provider_at=None)


def run(watch: PartitionDetectors, events, start: int = 0) -> list[FraudAlert]:
    alerts = []
    for offset, (at_ms, event_id, player, legs) in enumerate(events, start):
        alerts += watch.observe(observation(at_ms, event_id, player, legs), offset)
    return alerts


@given(st.permutations([0, 250, 999, 1_000, 2_999, 3_000, 3_500, 4_000]))
def test_every_order_of_a_burst_within_grace_raises_exactly_one_alert(times):
    """No window of the set holds fewer because of the order: the alert comes with the event that completes one."""
    events = [(at, f"e{at}", "p", BET) for at in times]
    oracle, expected_offset = Oracle(RULE.window_spec()), None
    for offset, (at_ms, event_id, _, _) in enumerate(events):
        assert oracle.add(at_ms, event_id) is Arrival.COUNTED
        if expected_offset is None and oracle.peak(at_ms).size >= RULE.threshold:
            expected_offset = offset
    alerts = run(PartitionDetectors([RULE], 0), events)
    assert len(alerts) == 1
    assert alerts[0].observed == RULE.threshold
    assert alerts[0].occurred_at == times[expected_offset]
    assert len(alerts[0].sample_event_ids) == RULE.threshold


def log_of(seed: int, length: int) -> list[tuple[int, str, str, list[Leg]]]:
    """Bursts of two players; some stragglers and copies; pauses, the longest of which end episodes and forget players."""
    rng, now, seen = random.Random(seed), 100, {"p": ["p"], "q": ["q"]}
    out: list[tuple[int, str, str, list[Leg]]] = []
    hurry = rng.choice([0.5, 0.7, 0.9])
    while len(out) < length:
        player = rng.choice("pppq")
        now += rng.choice([0, 1]) if rng.random() < hurry else rng.choice([2, 4, 8, 30, 45])
        back = rng.randrange(1, 22) if rng.random() < 0.1 else 0
        is_copy = rng.random() < 0.1
        event_id = rng.choice(seen[player][-12:]) if is_copy else f"{player}{len(out)}"
        seen[player].append(event_id)
        out.append(((now - back) * 250, event_id, player, WIN if rng.random() < 0.1 else BET))
    return out


# A seed and a length: a failure shrinks to the shortest log of the seed, and long logs come up often enough.
logs = st.builds(log_of, st.integers(0, 2**32), st.integers(0, 250))


@given(logs)
def test_each_alert_is_one_that_the_definition_demands(log):
    """Per player: silent below the threshold, one alert when it is first reached, distinct ids for distinct episodes."""
    # Nothing is forgotten here, so that the oracle needs no watermark.
    rule = RULE.__class__(
        **{**{n: getattr(RULE, n) for n in RULE.__struct_fields__}, "idle_ms": 10**9}
    )
    alerts = [alert for alert in run(PartitionDetectors([rule], 0), log) if alert.status == "OPEN"]
    assert len({alert.alert_id for alert in alerts}) == len(alerts)
    for player in "pq":
        oracle, busy_ms, expected = Oracle(rule.window_spec()), None, []
        for at_ms, event_id, who, legs in log:
            if who != player or legs is WIN or oracle.add(at_ms, event_id) is not Arrival.COUNTED:
                continue
            size = oracle.peak(at_ms).size
            if busy_ms is not None and at_ms > busy_ms + rule.cooldown_ms:
                busy_ms = None
            if busy_ms is None and size >= rule.threshold:
                busy_ms = at_ms
                expected.append((at_ms, size))
            elif busy_ms is not None and size >= rule.close_below:
                busy_ms = max(busy_ms, at_ms)
        found = [
            (alert.occurred_at, alert.observed) for alert in alerts if alert.player_id == player
        ]
        assert found == expected
        assert all(observed == rule.threshold for _, observed in found)


@given(logs, st.lists(st.integers(0, 250), max_size=4))
def test_a_snapshot_anywhere_changes_nothing(log, cuts):
    """Run straight, or stop, save and go on elsewhere, as often as one likes: equal alerts, equal final bytes."""
    straight = PartitionDetectors([RULE], 3)
    expected = run(straight, log)
    borders = [0, *sorted(min(cut, len(log)) for cut in cuts), len(log)]
    watch, alerts = PartitionDetectors([RULE], 3), []
    for begin, end in pairwise(borders):
        alerts += run(watch, log[begin:end], begin)
        saved = watch.state()
        note(f"{len(saved)} bytes at {end}")
        watch = PartitionDetectors([RULE], 3)
        watch.restore(saved)
        assert watch.state() == saved
    assert alerts == expected
    assert watch.state() == straight.state()


@given(logs)
def test_every_alert_can_be_explained_from_its_own_offsets(log):
    """The records of the player, from the offset in the alert to its last source, raise the very same alert again.

    That is so where copies come under the time of the first, as from providers that send a time. For others the copy of
    an event that was already forgotten may need a longer way back: see `pitboss alerts explain`.
    """
    times: dict[str, int] = {}
    log = [
        (times.setdefault(event_id, at_ms), event_id, player, legs)
        for at_ms, event_id, player, legs in log
    ]
    events = [
        (offset, observation(at_ms, event_id, player, legs))
        for offset, (at_ms, event_id, player, legs) in enumerate(log)
    ]
    for alert in run(PartitionDetectors([RULE], 0), log):
        if alert.status == "CLOSED":
            continue  # nothing is explained but what opened or raised it
        own = [
            event
            for event in events
            if event[0] >= first_offset_of(alert) and event[1].player_id == alert.player_id
        ]
        explanation = explain(alert, own, [RULE])
        assert explanation.differences == []
        assert explanation.seconds[-1].running == alert.observed
        assert sum(second.is_crossing for second in explanation.seconds) == 1
