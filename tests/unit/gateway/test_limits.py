"""Buckets, places and the circuit, by counts and a clock that the tests hold."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.decisions.limits import Circuit, Places, TokenBuckets


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
