"""Tumbling, hopping, session and exact windows and the merge, each against a reference that tries everything.

Few different times make ties, at equal event times and at the ends of windows, the rule and not the exception.
"""

from __future__ import annotations

import random
from collections import defaultdict

from hypothesis import example, given
from hypothesis import strategies as st

from fraud_agents.windows import (
    Arrival,
    Bounds,
    EventWindow,
    ExactSpec,
    Hopping,
    OrderedMerge,
    SessionWindows,
    Tumbling,
    WindowedSums,
    WindowEntry,
)

times = st.lists(st.integers(-3, 30), max_size=40)
marks = st.lists(st.integers(-3, 60), max_size=8)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("event"), st.integers(-3, 30)),
        st.tuples(st.just("mark"), st.integers(-3, 60)),
    ),
    max_size=50,
)
END = 10**6


def taken(steps):
    """Return the events that are not late, and how many are."""
    mark, kept, late = None, [], 0
    for what, at_ms in steps:
        if what == "mark":
            mark = at_ms if mark is None else max(mark, at_ms)
        elif mark is not None and at_ms < mark:
            late += 1
        else:
            kept.append(at_ms)
    return kept, late


def run_windows(windows, steps):
    """Return the closed windows in order, and what must hold at each closing."""
    closed = []
    for number, (what, at_ms) in enumerate(steps):
        if what == "mark":
            now = windows.advance(at_ms)
            assert all(window.bounds.end_ms <= at_ms for window in now)
            closed += now
        else:
            windows.add(at_ms, number)
    return closed + windows.advance(END)


def values(steps):
    """Return the times of taken events with their values: each one's place among the steps."""
    mark, kept = None, []
    for number, (what, at_ms) in enumerate(steps):
        if what == "mark":
            mark = at_ms if mark is None else max(mark, at_ms)
        elif mark is None or at_ms >= mark:
            kept.append((at_ms, number))
    return kept


def by_every_window(steps, size, hop, offset=0):
    """Try every window there is, and add up what it contains."""
    found = {}
    for start in range(-100, 100):
        inside = [value for at, value in values(steps) if start <= at < start + size]
        if (start - offset) % hop == 0 and inside:
            found[Bounds(start, start + size)] = (len(inside), sum(inside))
    return found


@given(steps, st.integers(1, 7), st.integers(-3, 3))
@example([("event", 4), ("mark", 4), ("event", 4), ("event", 3), ("event", 8)], 4, 0)
def test_tumbling_windows_hold_what_every_window_tried_holds(steps, size, offset):
    windows = WindowedSums(Tumbling(size, offset))
    closed = run_windows(windows, steps)
    assert {w.bounds: (w.events, w.total) for w in closed} == by_every_window(
        steps, size, size, offset
    )
    assert len({w.bounds for w in closed}) == len(closed)  # none is closed twice
    assert windows.late == taken(steps)[1]


@given(steps, st.integers(1, 4), st.integers(1, 4))
@example([("event", 6), ("mark", 6), ("event", 6), ("mark", 7), ("event", 6)], 3, 2)
def test_hopping_windows_hold_what_every_window_tried_holds(steps, hop, factor):
    windows = WindowedSums(Hopping(hop * factor, hop))
    closed = run_windows(windows, steps)
    expected = by_every_window(steps, hop * factor, hop)
    assert {w.bounds: (w.events, w.total) for w in closed} == expected
    assert [w.bounds.end_ms for w in closed] == sorted(w.bounds.end_ms for w in closed)
    assert windows.late == taken(steps)[1]


@given(steps, st.integers(1, 6))
@example([("event", 0), ("event", 5), ("event", 3)], 5)
@example([("event", 0), ("event", 5)], 5)
@example([("event", 0), ("mark", 5), ("event", 5)], 5)
def test_sessions_are_the_runs_of_near_events(steps, gap):
    windows = SessionWindows(gap)
    closed = run_windows(windows, steps)
    events = sorted(values(steps))
    expected: list[list[tuple[int, int]]] = []
    for at, value in events:
        if expected and at - expected[-1][-1][0] < gap:
            expected[-1].append((at, value))
        else:
            expected.append([(at, value)])
    assert [(w.bounds, w.events, w.total) for w in closed] == [
        (Bounds(run[0][0], run[-1][0] + gap), len(run), sum(value for _, value in run))
        for run in expected
    ]
    assert windows.late == taken(steps)[1]


@given(st.lists(st.tuples(st.integers(0, 25), st.integers(0, 12)), max_size=30), st.integers(1, 9))
@example([(0, 0), (5, 1), (5, 2), (10, 3)], 5)
def test_exact_windows_hold_what_their_definition_states(events, size):
    spec = ExactSpec(grace_ms=8, horizon_ms=20)
    window = EventWindow()
    kept: list[WindowEntry] = []
    for offset, (at, number) in enumerate(events):
        newest = max((e.at_ms for e in kept), default=at)
        retained = [e for e in kept if e.at_ms >= newest - spec.horizon_ms]
        expected = Arrival.COUNTED
        if any(e.event_id == str(number) for e in retained):
            expected = Arrival.DUPLICATE
        elif at < newest - spec.grace_ms:
            expected = Arrival.LATE
        entry = WindowEntry(at, offset, str(number), 10**number)
        assert window.add(entry, spec) is expected
        if expected is not Arrival.COUNTED:
            continue
        kept.append(entry)
        runs = list(window.runs(at, size))
        newest = max(e.at_ms for e in kept)
        retained = sorted(
            (e for e in kept if e.at_ms >= newest - spec.horizon_ms),
            key=lambda e: (e.at_ms, e.offset),
        )
        ends = sorted({e.at_ms for e in retained if at <= e.at_ms < at + size})
        assert runs == [[e for e in retained if end - size < e.at_ms <= end] for end in ends]
        for end in range(at, at + size):
            # A window that ends elsewhere and contains the event holds no more than one of these.
            other = [e for e in retained if end - size < e.at_ms <= end]
            assert window.ending(end, size) == other
            assert any(set(map(id, other)) <= set(map(id, run)) for run in runs)


def test_a_full_exact_window_drops_its_oldest_and_takes_none_of_them_again():
    spec, window = ExactSpec(grace_ms=50, horizon_ms=100, capacity=3), EventWindow()
    for at in range(5):
        window.add(WindowEntry(at, at, str(at)), spec)
    assert [entry.at_ms for entry in window.entries] == [2, 3, 4]
    assert window.add(WindowEntry(1, 9, "1"), spec) is Arrival.LATE


INPUTS = (("log", 0), ("log", 1), ("players", 0))
logs = st.lists(
    st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=12), min_size=3, max_size=3
)


def merge(logs, order, cut=None):
    """Push each input's log, interleaved as `order` has it; a snapshot is taken and restored at `cut`."""
    merged: OrderedMerge[str] = OrderedMerge(INPUTS, grace_ms=4)
    places = [0, 0, 0]
    released, late = [], []
    for step, number in enumerate(order):
        if places[number] == len(logs[number]):
            continue
        at, is_heartbeat = logs[number][places[number]]
        offset, places[number] = places[number], places[number] + 1
        if is_heartbeat:
            merged.beat(INPUTS[number], at)
        else:
            merged.push(INPUTS[number], at, offset, [f"{number}/{offset}"])
        released += merged.drain()
        late += merged.take_late()
        if step == cut:
            state, items = merged.dump()
            merged = OrderedMerge(INPUTS, grace_ms=4)
            merged.restore(state, items)
            assert merged.dump() == (state, items)
    for name in INPUTS:
        merged.beat(name, END)
    return released + merged.drain(), late, merged.late_counts


@given(logs, st.randoms(use_true_random=False), st.integers(0, 40))
def test_a_merge_releases_one_order_however_its_inputs_interleave(logs, rng, cut):
    straight = [number for number, log in enumerate(logs) for _ in log]
    shuffled = list(straight)
    rng.shuffle(shuffled)
    expected, late, counts = merge(logs, straight)
    released, other_late, other_counts = merge(logs, shuffled, cut)
    assert released == expected
    assert counts == other_counts
    assert sorted(late) == sorted(other_late)
    assert [r[:4] for r in released] == sorted(r[:4] for r in released)
    # What is late is decided by the input's own log: its newest event time before, less the grace.
    expected_late: dict[tuple[str, int], int] = defaultdict(int)
    for number, log in enumerate(logs):
        newest = None
        for at, is_heartbeat in log:
            if not is_heartbeat and newest is not None and at < newest - 4:
                expected_late[INPUTS[number]] += 1
            else:
                newest = at if newest is None else max(newest, at)
    assert counts == {name: expected_late[name] for name in INPUTS}
    assert len(released) + len(late) == sum(not beat for log in logs for _, beat in log)


def test_an_idle_input_holds_the_merge_until_its_heartbeat():
    merged: OrderedMerge[str] = OrderedMerge(INPUTS[:2], grace_ms=2)
    merged.push(INPUTS[0], 10, 0, ["a"])
    merged.push(INPUTS[0], 20, 1, ["b"])
    assert merged.drain() == []
    merged.beat(INPUTS[1], 12)
    assert merged.drain() == []  # an item at the watermark itself waits for those of its time
    merged.beat(INPUTS[1], 13)
    assert [released.item for released in merged.drain()] == ["a"]


def test_equal_times_come_in_the_order_of_inputs_and_offsets():
    merged: OrderedMerge[tuple[int, int, int]] = OrderedMerge(INPUTS, grace_ms=0)
    for number in (2, 1, 0):
        for offset in (0, 1):
            merged.push(INPUTS[number], 5, offset, [(number, offset, 0), (number, offset, 1)])
    for name in INPUTS:
        merged.beat(name, 6)
    items = [released.item for released in merged.drain()]
    assert items == [(n, o, i) for n in range(3) for o in range(2) for i in range(2)]


def test_the_seeds_of_random_are_not_what_decides():
    """A merge of many records in random order, beyond what the search tries."""
    rng = random.Random(7)
    logs = [[(rng.randrange(200), False) for _ in range(200)] for _ in range(3)]
    order = [number for number in range(3) for _ in range(200)]
    first = merge(logs, order)
    rng.shuffle(order)
    second = merge(logs, order, cut=300)
    assert first[0] == second[0]
    assert sorted(first[1]) == sorted(second[1])
