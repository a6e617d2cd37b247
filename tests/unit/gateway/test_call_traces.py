"""The trace of a call: begun with the request under ids of ours, and kept or not by how it ended."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.call_traces import CallTraces
from gateway.decisions.call_trace import CallTrace, why_kept
from lab.conformance.calls import CallOrder
from lab.conformance.intents import Verb
from runtime.telemetry.spans import FinishedSpan, SpanQueue
from runtime.telemetry.traces import parse_traceparent
from schemas.events import Outcome
from tests.unit.gateway.scene import SECRETS, Scene, in_virtual_time, signed_call

BET = CallOrder(Verb.BET, "p-1", "11", 150)


def trace_of(ending: str = "decided", *outcomes: str, is_sampled: bool = False) -> CallTrace:
    trace = CallTrace(5, 6, 1_000, is_sampled=is_sampled)
    trace.ending, trace.outcomes = ending, list(outcomes)
    return trace


@pytest.mark.parametrize("outcome", Outcome)
def test_what_the_ledger_keeps_by_its_outcome_is_kept_here(outcome):
    ordinary = {Outcome.POSTED, Outcome.CANCELLED, Outcome.INFORMATIONAL}
    assert bool(why_kept(trace_of("decided", outcome.value), is_slow=False)) == (
        outcome not in ordinary
    )


@pytest.mark.parametrize(
    ("ending", "why"),
    [
        ("taken back", "not decided"),
        ("unavailable, not decided in time", "not decided"),
        ("joined, unavailable", "not decided"),
        ("failed", "not decided"),
        ("refused, not signed by its provider", "refused"),
        ("refused, the circuit is open", "refused"),
        ("decided", ""),
        ("joined", ""),
        ("kept", ""),
    ],
)
def test_what_is_not_decided_or_refused_is_kept(ending, why):
    assert why_kept(trace_of(ending), is_slow=False) == why


def test_slow_calls_and_a_sample_are_kept():
    assert why_kept(trace_of(), is_slow=True) == "slow"
    assert why_kept(trace_of(is_sampled=True), is_slow=False) == "sampled"


def test_ids_are_new_for_each_call_and_stand_in_the_header():
    traces = CallTraces(SpanQueue(), 1.0)
    one, other = traces.begin(), traces.begin()
    assert one.trace_id != other.trace_id
    assert parse_traceparent(one.traceparent) == (one.trace_id, one.span_id, True)
    assert not parse_traceparent(CallTraces(SpanQueue(), 0.0).begin().traceparent).is_sampled


def spans_after(trace: CallTrace, status: int) -> list[FinishedSpan]:
    queue = SpanQueue()
    route, _ = signed_call("playngo", BET)
    CallTraces(queue, 0.0).finish(trace, route, status)
    return queue.take()


def test_a_span_is_that_of_a_server_and_says_how_the_call_ended():
    trace = trace_of("decided", "REFUSED_FUNDS")
    trace.first = trace_of()
    [span] = spans_after(trace, 200)
    assert (span.trace_id, span.span_id, span.parent_id, span.kind) == (5, 6, None, "server")
    assert span.start_ns == 1_000 < span.end_ns
    assert span.name == f"POST {span.attributes['http.route']}"
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["pitboss.outcome"] == "REFUSED_FUNDS"
    assert [link[:2] for link in span.links] == [(5, 6)]
    assert not span.error
    [late] = spans_after(trace_of("taken back"), 200)
    assert late.error == "taken back"
    assert not spans_after(trace_of("decided", "POSTED"), 200)


# --- what a call notes ------------------------------------------------------------------------------------------------


async def answer(scene: Scene, trace: CallTrace, *, outcome: str = "", **more: Any) -> None:
    call = scene.start("playngo", BET, trace=trace, **more)
    if outcome:
        while not scene.appender.records:  # noqa: ASYNC110 - a plain list
            await asyncio.sleep(0)
        while not len(scene.attempts):  # noqa: ASYNC110
            await asyncio.sleep(0)
        scene.decide(0, outcome, "R")
    await asyncio.wait_for(call, 60)


async def test_a_decided_call_notes_its_outcome_and_its_record_has_our_header():
    scene, trace = Scene(), trace_of("")
    await answer(scene, trace, outcome="REFUSED_FUNDS")
    assert (trace.ending, trace.outcomes) == ("decided", ["REFUSED_FUNDS"])
    [(_, _, _, headers)] = scene.appender.records
    assert headers["traceparent"] == trace.traceparent


async def test_a_forged_call_notes_why_it_is_refused():
    scene, trace = Scene(), trace_of("")
    secrets = {name: secret[::-1] + "00" for name, secret in SECRETS["playngo"].items()}
    await answer(scene, trace, secrets=secrets)
    assert trace.ending == "refused, not signed by its provider"
    assert not scene.appender.records


@in_virtual_time
async def test_a_late_call_is_taken_back_in_its_own_trace():
    scene, trace = Scene(patience_ms=30), trace_of("")
    await answer(scene, trace)
    assert trace.ending == "taken back"
    assert {one[3]["traceparent"] for one in scene.appender.records} == {trace.traceparent}
    assert len(scene.appender.records) == 2


async def test_the_same_call_again_points_to_the_first():
    scene, first, second = Scene(), trace_of(""), trace_of("")
    calls = [scene.start("playngo", BET, trace=one) for one in (first, second)]
    while not len(scene.attempts):  # noqa: ASYNC110
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    scene.decide(0, "POSTED")
    await asyncio.wait_for(asyncio.gather(*calls), 60)
    assert (first.ending, second.ending) == ("decided", "joined")
    assert second.first is first
    assert second.outcomes == ["POSTED"]
