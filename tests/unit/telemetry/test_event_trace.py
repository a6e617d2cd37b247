"""`pitboss trace` draws what was found, and says what was not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from ledger_sink.queries.history import EventDecision
from pitboss.cli.trace import draw
from pitboss.ops import event_trace
from pitboss.ops.event_trace import AttemptTrace, EventTrace, TraceHop, _raw_hops
from schemas import codec
from schemas.events import Position, WalletBalance
from schemas.topics import ALERTS, BALANCES, OUTCOMES, UNRESOLVED
from tests.support.ledger_events import bet

EVENT = bet("tx-1", 100)
PLACE = (0, 5)
"""Partition and offset of the event in the log."""


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


class Topics:
    """Topics with records that are read in place of the broker's."""

    def __init__(self, monkeypatch) -> None:
        self.records: dict[str, list] = {}
        monkeypatch.setattr(event_trace, "_records_since", self._records_since)

    async def _records_since(self, _runtime, topic, since_ms):
        for record in self.records.get(topic, ()):
            if record.timestamp >= since_ms:
                yield record

    def append(self, topic: str, value, at_ms: int) -> None:
        records = self.records.setdefault(topic, [])
        body = codec.encoder(type(value))(value)
        records.append(
            SimpleNamespace(
                topic=topic, partition=0, offset=len(records), timestamp=at_ms, value=body
            )
        )

    async def add_to(self, attempt: AttemptTrace) -> list[str]:
        """Add what is found to an attempt that moved money, and return the notes."""
        at = EVENT.attempt
        columns: list[Any] = [EVENT.event_id, 0, *["x"] * 7, "p-1", None, None, None]
        columns += [at.topic, at.partition, at.offset, 0, *PLACE, 0, "POSTED", "BOOKED"]
        columns += ["EUR", 0, 1, 1]
        step = EventDecision(*columns)
        notes: list[str] = []
        runtime: Any = SimpleNamespace(topic=lambda name: name)
        await event_trace._add_answers(runtime, EVENT.event_id, [step], [attempt], notes)
        return notes


@pytest.fixture
def topics(monkeypatch):
    return Topics(monkeypatch)


def booked_attempt() -> AttemptTrace:
    hops = [TraceHop("raw", 100, "r-0@1"), TraceHop("log", 300, "l-0@5")]
    return AttemptTrace("POSTED", "BOOKED", is_repeat=False, hops=hops)


async def test_an_event_that_named_no_player_has_the_topic_of_unresolved_events_on_its_way(topics):
    other = bet("other", 5)
    for event in (other, EVENT, EVENT):
        topics.append(UNRESOLVED, msgspec.structs.replace(event, player_id=None), 200)
    attempt = booked_attempt()
    assert await topics.add_to(attempt) == []
    assert attempt.hops[2:] == [TraceHop("unresolved", 200, f"{UNRESOLVED}-0@1")]


async def test_what_was_not_looked_through_is_said_of_every_topic(topics, monkeypatch):
    monkeypatch.setattr(event_trace, "SCAN_MAX", 3)
    balance = WalletBalance("p-2", "EUR", 2, 1, 1, 0, 0, 1, "e", Position("other", 0, 1))
    for topic in (UNRESOLVED, OUTCOMES, BALANCES, ALERTS):
        for _ in range(4):
            topics.append(topic, balance, 400)
    notes = await topics.add_to(booked_attempt())
    assert notes == [
        f"{topic}: only 3 records were looked through"
        for topic in (UNRESOLVED, OUTCOMES, BALANCES, ALERTS)
    ]


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
