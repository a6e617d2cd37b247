"""The hops of a bet: from the notes of the taps to times that sum to the whole."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.bench.hops import (
    DECIDE_PARTS,
    HOPS,
    WHOLE,
    HopFigures,
    RecordPlace,
    TapNotes,
    hop_times_ns,
    match_places,
    to_decide_parts_ms,
    to_hops_ms,
)
from lab.bench.load_generator import Call
from lab.bench.processes import BenchFailed
from runtime import hop_tap

MS = 1_000_000
RAW, LOG = RecordPlace(3, 70, 1_002), RecordPlace(5, 900)
TOPICS = ("raw", "log")


def lines(fetched=1_004, normalised=1_006, produced=1_009, **ledger: int) -> list[str]:
    raw = {"fetched": fetched, "normalised": normalised, "produced": produced}
    log = {"fetched": 1_010, "decided": 1_014, "committed": 1_020, "published": 1_023} | ledger
    return [
        *(f"{step} raw 3 64 72 {at_ms * MS}" for step, at_ms in raw.items()),
        *(f"{step} log 5 900 901 {at_ms * MS}" for step, at_ms in log.items()),
    ]


def hops(notes: list[str], arrived_ms: int = 1_024) -> list[float]:
    call = Call(b"p", 1_001 * MS, arrived_ms * MS)
    return to_hops_ms(hop_times_ns(call, RAW, LOG, TOPICS, TapNotes(notes)))


def test_each_hop_ends_where_the_next_begins():
    assert dict(zip(HOPS, hops(lines()), strict=True)) == {
        "append": 1,
        "fetch_raw": 2,
        "normalise": 2,
        "produce": 3,
        "fetch_log": 1,
        "decide": 4,
        "commit": 6,
        "publish": 3,
        "fetch_outcome": 1,
    }


@pytest.mark.parametrize(
    ("taken", "grouped", "parts"),
    [(1_011, 1_013, [1, 2, 1]), (1_009, 1_020, [0, 4, 0])],
    ids=["in between", "outside"],
)
def test_the_parts_of_the_decision_sum_to_it(taken, grouped, parts):
    notes = TapNotes(lines(taken=taken, grouped=grouped))
    times = hop_times_ns(Call(b"p", 1_001 * MS, 1_024 * MS), RAW, LOG, TOPICS, notes)
    assert to_decide_parts_ms(times, LOG, "log", notes) == parts


def test_an_acknowledgement_that_is_read_late_ends_no_hop():
    found = hops(lines(produced=1_012, published=1_099))
    assert found[3:5] == [4, 0]  # the ledger had the event at 1,010
    assert found[7:] == [4, 0]
    assert sum(found) == 23


def test_a_broker_whose_clock_shows_whole_milliseconds_is_not_ahead_of_the_send():
    call = Call(b"p", 1_002 * MS + 700_000, 1_024 * MS)
    times = hop_times_ns(call, RAW, LOG, TOPICS, TapNotes(lines()))
    assert to_hops_ms(times)[:2] == [0, 1.3]


@given(st.lists(st.integers(-50, 50), min_size=7, max_size=7))
def test_the_hops_of_a_bet_are_never_negative_and_sum_to_its_whole_time(shifts):
    names = ("fetched", "normalised", "produced")
    notes = lines(**{name: 1_005 + shift for name, shift in zip(names, shifts, strict=False)})
    notes[4:] = [
        f"{line.rpartition(' ')[0]} {(1_010 + shift) * MS}"
        for line, shift in zip(notes[4:], shifts[3:], strict=False)
    ]
    found = hops(notes)
    assert min(found) >= 0
    assert sum(found) == pytest.approx(23)


def test_the_first_note_of_a_fetch_counts_and_the_last_of_any_other_step():
    notes = TapNotes(
        ["fetched raw 0 0 2 5", "fetched raw 0 0 9 6", "decided log 0 1 2 7", "decided log 0 1 2 8"]
    )
    assert notes.of("fetched", "raw", RecordPlace(0, 1)) == 5
    assert notes.of("fetched", "raw", RecordPlace(0, 8)) == 6
    assert notes.of("decided", "log", RecordPlace(0, 1)) == 8


def test_a_step_that_no_tap_noted_is_an_error_with_its_record():
    with pytest.raises(BenchFailed, match=r"log-5@900: no tap noted when it was decided"):
        hops([line for line in lines() if not line.startswith("decided")])


def test_calls_of_a_player_find_their_records_in_order():
    first, second, other = Call(b"p", 1, 4), Call(b"p", 2, 6), Call(b"q", 1, 5)
    places = [(b"p", RecordPlace(0, 9)), (b"q", RecordPlace(0, 8)), (b"p", RecordPlace(0, 7))]
    assert [place.offset for place in match_places([first, other, second], places)] == [7, 8, 9]


def test_a_record_too_many_is_an_error():
    with pytest.raises(BenchFailed, match="1 calls came back, and 2 records"):
        match_places([Call(b"p", 1, 2)], [(b"p", RecordPlace(0, 1)), (b"p", RecordPlace(0, 2))])


def test_the_object_has_every_hop_and_the_whole():
    both = [hops(lines()), hops(lines(), arrived_ms=1_034)]
    figures = HopFigures.of("16 in flight", both, [[1, 2, 1]] * 2)
    output = json.loads(json.dumps(figures.as_json()))
    assert tuple(output) == (*HOPS, WHOLE)
    assert output["fetch_outcome"] == {"p50_ms": 1, "p99_ms": 11, "mean_ms": 6}
    assert output["whole"] == {"p50_ms": 23, "p99_ms": 33, "mean_ms": 28}
    assert sum(output[hop]["mean_ms"] for hop in HOPS) == 28
    assert tuple(figures.parts_as_json()) == DECIDE_PARTS
    assert figures.parts_as_json()["queue"]["p50_ms"] == 2
    assert len(figures.rows()) == 14


def test_a_tap_writes_what_the_bench_reads(tmp_path, monkeypatch):
    taps: list = []
    monkeypatch.setattr(hop_tap, "_TAPS", taps)
    hop_tap.note_step("fetched", "raw", 0, 0, 1)  # closed: nothing happens
    monkeypatch.setattr("atexit.register", lambda _: None)
    hop_tap.open_tap(tmp_path / "tap")
    hop_tap.note_step("fetched", "raw", 1, 5, 7)
    taps[0].close()
    notes = TapNotes((tmp_path / "tap").read_text().splitlines())
    assert notes.of("fetched", "raw", RecordPlace(1, 6)) > 1_600_000_000_000_000_000
