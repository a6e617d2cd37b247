"""Buckets, places and the circuit, by counts and a clock that the tests hold."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.decisions.limits import Circuit, FairTurns, Places, TokenBuckets


def test_a_bucket_has_its_burst_and_then_its_rate():
    buckets = TokenBuckets(rate=2, burst=3)
    assert [buckets.take("p", 0.0) for _ in range(4)] == [True, True, True, False]
    assert not buckets.take("p", 0.4)
    assert buckets.take("p", 0.5)
    assert not buckets.take("p", 0.5)
    assert buckets.take("q", 0.5)


@given(st.lists(st.floats(0, 1), max_size=60), st.floats(0.5, 50), st.integers(1, 20))
def test_no_key_gets_more_than_burst_and_rate_together(gaps, rate, burst):
    buckets, now, taken = TokenBuckets(rate, burst), 0.0, 0
    for gap in gaps:
        now += gap
        taken += buckets.take("p", now)
    assert taken <= burst + rate * now + 1e-6


def test_memory_is_bounded_by_the_keys_that_are_kept():
    buckets = TokenBuckets(1, 1, keys_max=10)
    for number in range(1_000):
        assert buckets.take(number, 0.0)
    assert len(buckets._buckets) == 10


def test_a_greedy_provider_leaves_the_shares_of_the_others():
    places = Places(100, ("greedy", "modest"))
    greedy = sum(places.take("greedy") for _ in range(1_000))
    assert greedy == 75  # its share of 25, and the common half
    assert sum(places.take("modest") for _ in range(1_000)) == 25
    for _ in range(greedy):
        places.give_back("greedy")
    assert sum(places.take("modest") for _ in range(1_000)) == 50
    assert places.held == 75


@given(st.integers(1, 60), st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=300))
def test_places_are_never_more_than_there_are_and_every_share_is_there(count, acts):
    held: Counter[str] = Counter()
    places = Places(count, "abc")
    share = max(1, count // 2 // 3)
    for provider, takes in acts:
        if takes:
            was_taken = places.take(provider)
            assert was_taken or held[provider] >= share
            held[provider] += was_taken
        elif held[provider]:
            places.give_back(provider)
            held[provider] -= 1
        assert places.held == held.total() <= max(count, 3)


def test_the_circuit_opens_after_failures_in_a_row_and_closes_by_a_trial():
    circuit = Circuit(failures_max=3, trial_s=1.0)
    for _ in range(2):
        circuit.note_late(0.0)
    circuit.note_decided()
    for _ in range(3):
        assert circuit.lets_in(0.0)
        circuit.note_late(0.0)
    assert circuit.is_open
    assert not circuit.lets_in(0.5)
    assert circuit.lets_in(1.0)
    assert not circuit.lets_in(1.0)
    circuit.note_late(1.5)
    assert circuit.lets_in(2.0)
    circuit.note_decided()
    assert not circuit.is_open
    assert circuit.lets_in(2.0)


def test_turns_go_round_the_lines_whatever_their_length():
    turns = FairTurns[str](2)
    assert turns.take("greedy")
    assert turns.take("greedy")
    for number in range(10):
        turns.line_up("greedy", f"g{number}")
    assert not turns.take("greedy")
    for number in range(3):
        turns.line_up("modest", f"m{number}")
    given = [turns.give_back() for _ in range(8)]
    assert given == ["m0", "g0", "m1", "g1", "m2", "g2", "g3", "g4"]
    assert turns.waiting == 5


def test_a_line_is_not_passed_by():
    turns = FairTurns[str](1)
    assert turns.take("a")
    turns.line_up("a", "waits")
    assert not turns.take("b")
    assert turns.give_back() == "waits"
    assert not turns.take("b")
    assert turns.give_back() is None
    assert turns.take("b")


def test_weights_share_the_turns():
    turns = FairTurns[str](1, {"heavy": 3.0})
    assert turns.take("other")
    for number in range(100):
        turns.line_up("heavy", f"h{number}")
        turns.line_up("light", f"l{number}")
    given = Counter((turns.give_back() or "")[0] for _ in range(80))
    assert given == {"h": 60, "l": 20}
    with pytest.raises(ValueError, match="above zero"):
        FairTurns[str](1, {"a": 0.0})


def test_what_was_not_used_is_not_kept_for_later():
    turns = FairTurns[str](1)
    assert turns.take("busy")
    for number in range(50):
        turns.line_up("busy", f"b{number}")
        turns.give_back()
    for number in range(10):
        turns.line_up("busy", f"c{number}")
        turns.line_up("quiet", f"q{number}")
    given = "".join((turns.give_back() or "")[0] for _ in range(10))
    assert given.count("q") in {5, 6}


def test_who_leaves_a_line_gets_no_turn():
    turns = FairTurns[str](1)
    assert turns.take("a")
    turns.line_up("a", "first")
    turns.line_up("a", "second")
    turns.leave("a", "first")
    turns.leave("a", "first")
    assert turns.give_back() == "second"
    turns.leave("a", "second")
    assert turns.give_back() is None


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["take", "give", "leave"]))),
)
def test_every_turn_is_had_by_one_or_free(count, acts):
    turns, number = FairTurns[tuple[str, int]](count), 0
    waiting: list[tuple[str, int]] = []
    held: Counter[str] = Counter()
    for provider, act in acts:
        if act == "take":
            if turns.take(provider):
                assert not waiting
                held[provider] += 1
            else:
                number += 1
                waiting.append((provider, number))
                turns.line_up(provider, waiting[-1])
        elif act == "leave" and waiting:
            leaving = waiting.pop(number % len(waiting))
            turns.leave(leaving[0], leaving)
        elif act == "give" and held[provider]:
            held[provider] -= 1
            following = turns.give_back()
            assert (following is None) is (not waiting)
            if following is not None:
                earlier = [one for one in waiting if one[0] == following[0]]
                assert following == earlier[0]
                waiting.remove(following)
                held[following[0]] += 1
        assert held.total() <= count
        assert turns.waiting == len(waiting)
        assert not waiting or held.total() == count
