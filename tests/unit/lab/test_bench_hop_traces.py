"""The traces of bets beside their hops: what is the same moment, and what is missing or doubled."""

from __future__ import annotations

import json

import pytest

from lab.bench.hop_traces import (
    SHOWN_STEPS,
    STEPS,
    BetTimes,
    ExportedSpan,
    compare_shown,
    compare_spans,
    read_spans,
    tap_shown_ms,
    tap_steps_ms,
)
from lab.bench.load_generator import stamp_receipt

MS = 1_000_000
TOPICS = ("raw", "log", "outcomes")
EVENT = "00000000-0000-0000-0000-00000000000a"
TRACE = EVENT.replace("-", "")
BET = BetTimes(
    EVENT,
    1_000 * MS + 700_000,
    1_002 * MS,
    1_006 * MS + 900_000,
    1_030 * MS,
    1_031 * MS + 200_000,
    1_033 * MS,
)


def spans(shift_ns: int = 0) -> list[ExportedSpan]:
    ends = [1_000 * MS, 1_002 * MS, 1_006 * MS, 1_030 * MS, 1_033 * MS + shift_ns]
    names = ("send raw", "process raw", "process log", "send outcomes")
    steps = [
        ExportedSpan(name, b"%d" % number, b"root", ends[number], ends[number + 1])
        for number, name in enumerate(names)
    ]
    return [ExportedSpan("decide BET", b"root", b"", ends[0], ends[-1]), *steps]


def compare(found: list[ExportedSpan]):
    return compare_spans("200 a second", [BET], {TRACE: found}, TOPICS)


def test_times_of_records_are_whole_milliseconds_on_both_sides():
    assert tap_steps_ms(BET) == [2, 4, 24, 3]
    assert tap_shown_ms(BET) == [2, 4, 25]  # until its record is packed


def test_a_trace_with_the_same_times_holds():
    output = json.loads(json.dumps(compare(spans()).as_json()))
    assert output["holds"] is True
    assert output["incomplete"] == 0
    assert output["bets_within"] == 1
    assert tuple(output["steps"]) == (*STEPS, "whole")
    assert output["steps"]["book"] == {"trace_ms": 24, "tap_ms": 24, "difference": 0}
    assert output["steps"]["whole"]["trace_ms"] == 33
    assert len(compare(spans()).rows()) == 6


@pytest.mark.parametrize(("shift_ns", "holds"), [(299_000, True), (310_000, False)])
def test_a_step_may_differ_by_a_tenth(shift_ns, holds):
    found = compare(spans(shift_ns))
    assert found.holds is holds
    assert found.difference("publish") == pytest.approx(shift_ns / MS / 3)
    assert found.bets_within == 1  # of the whole it is less


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        spans()[:-1],
        spans()[1:],
        [*spans(), spans()[2]],
        [*spans(), ExportedSpan("another", b"9", b"elsewhere", 1, 2)],
        [*spans()[:-1], spans()[-1]._replace(name="send raw")],
    ],
    ids=["no trace", "a step too few", "no root", "a step twice", "a stray span", "a wrong name"],
)
def test_a_trace_without_each_step_exactly_once_does_not_hold(wrong):
    found = compare(wrong)
    assert found.incomplete == 1
    assert not found.holds
    assert found.as_json()["steps"] == {}


def test_one_incomplete_trace_among_many_does_not_hold():
    other = BET._replace(event_id="00000000-0000-0000-0000-00000000000b")
    found = compare_spans("load", [BET, other], {TRACE: spans()}, TOPICS)
    assert (found.bets, found.incomplete, found.holds) == (2, 1, False)


SHOWN = [
    ("received", 1_000),
    ("raw", 1_002),
    ("log", 1_006),
    ("outcome", 1_030),
    ("balance", 1_030),
]


def test_what_the_command_shows_is_compared_up_to_the_outcome():
    found = compare_shown("load", [BET], [SHOWN])
    assert found.holds
    assert tuple(found.trace_ms) == (*SHOWN_STEPS, "whole")
    late = [(step, at_ms + 5 * (step == "outcome")) for step, at_ms in SHOWN]
    assert not compare_shown("load", [BET], [late]).holds


@pytest.mark.parametrize("shown", [SHOWN[:-1], [*SHOWN, ("balance", 1_031)], SHOWN[1:]])
def test_a_hop_that_is_missing_or_doubled_in_the_command_does_not_hold(shown):
    assert compare_shown("load", [BET], [shown]).incomplete == 1


def test_exported_requests_are_read_by_their_trace():
    service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    request = service.ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for span in spans():
        scope.spans.add(
            name=span.name,
            trace_id=bytes.fromhex(TRACE),
            span_id=span.span_id,
            parent_span_id=span.parent_id,
            start_time_unix_nano=span.start_ns,
            end_time_unix_nano=span.end_ns,
        )
    assert read_spans([request.SerializeToString()]) == {TRACE: spans()}


def test_a_record_is_stamped_with_one_receipt():
    record = (b"k", b"v", [("brand", b"b"), ("received-at", b"1")], None)
    assert stamp_receipt(record, 1_234) == (
        b"k",
        b"v",
        [("brand", b"b"), ("received-at", b"1234")],
        None,
    )
