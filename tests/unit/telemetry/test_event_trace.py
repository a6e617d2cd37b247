"""`pitboss trace` draws what was found, and says what was not."""

from __future__ import annotations

from types import SimpleNamespace

from pitboss.cli.trace import draw
from pitboss.ops.event_trace import AttemptTrace, EventTrace, TraceHop, _raw_hops


def test_hops_are_drawn_in_the_order_of_their_times():
    hops = [
        TraceHop("log", 1_790_000_000_100, "wallet.transactions.v1-3@9"),
        TraceHop("received", 1_790_000_000_000, ""),
        TraceHop("raw", 1_790_000_000_020, "provider.hub88.raw.v1-0@4"),
        TraceHop("alert", 1_790_000_000_200, "risk.alerts.v1-0@1", "D01 high"),
    ]
    attempts = [
        AttemptTrace("POSTED", "BOOKED", is_repeat=False, hops=hops),
        AttemptTrace("EXISTS", "BOOKED", is_repeat=True),
    ]
    lines = list(draw(EventTrace("e-1", "abc", "bet", "hub88", attempts, ["x is away"])))
    assert lines[:4] == [
        "event e-1: bet of hub88",
        "trace abc",
        "attempt 1: POSTED BOOKED",
        "  begins 2026-09-21T14:13:20.000Z",
    ]
    assert [line.split()[0] for line in lines[4:8]] == ["received", "raw", "log", "alert"]
    assert "      20 ms      +20 " in lines[5]
    assert "     100 ms      +80 " in lines[6]
    assert "+" not in lines[4]
    assert lines[5].endswith("provider.hub88.raw.v1-0@4")
    assert lines[7].endswith("─● risk.alerts.v1-0@1  D01 high")
    assert lines[8:] == ["attempt 2 (again): EXISTS BOOKED", "note: x is away"]


def test_hops_of_one_moment_are_drawn():
    one = AttemptTrace("POSTED", "", is_repeat=False, hops=[TraceHop("raw", 5, "t-0@1")])
    assert list(draw(EventTrace("e", "t", "bet", "p", [one])))[-1].split()[:4] == [
        "raw", "0", "ms", "●",
    ]  # fmt: skip


def test_a_record_without_a_receipt_begins_with_its_append():
    record = SimpleNamespace(topic="t", partition=0, offset=4, timestamp=90, headers=[])
    assert _raw_hops(record) == [TraceHop("raw", 90, "t-0@4")]
    record.headers = [("received-at", b"80")]
    assert [hop.at_ms for hop in _raw_hops(record)] == [80, 90]
    record.headers = [("received-at", b"yesterday")]
    assert [hop.at_ms for hop in _raw_hops(record)] == [90]
