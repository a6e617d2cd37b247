"""Strategies for the records of our topics, over everything that their schemas can hold."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st

from schemas import events, rule_changes

INT = st.integers(-(2**31), 2**31 - 1)
LONG = (
    st.integers(-(2**63), 2**63 - 1)
    | st.integers(0, 20_000)
    | st.integers(1_500_000_000_000, 1_900_000_000_000)
)
# UTF-8 has no half surrogate pairs; the lengths around 63 and 8191 are where the encoder changes its way of writing.
TEXT = (
    st.text(st.characters(exclude_categories=["Cs"]), max_size=70)
    | st.text(st.sampled_from("abc0-é€😀"), min_size=60, max_size=70)
    | st.sampled_from(
        ["", "a" * 63, "a" * 64, "é" * 32, "a" * 8191, "a" * 8192, "\0", "\x7f\x80\xff"]
    )
)
BYTES = st.binary(max_size=80) | st.sampled_from([b"x" * 63, b"x" * 64, b"\xff" * 9000])
INTS = {
    "scale",
    "partition",
    "record_index",
    "fingerprint_version",
    "rule_version",
    "index",
    "size",
    "revision",
}


def _fields(
    struct: type[msgspec.Struct], **special: st.SearchStrategy[Any]
) -> st.SearchStrategy[Any]:
    strategies = {}
    for field in msgspec.structs.fields(struct):
        strategy = special.get(field.name)
        if strategy is None:
            strategy = _of_type(field.type, INT if field.name in INTS else LONG)
        strategies[field.name] = strategy
    return st.builds(struct, **strategies)


def _of_type(annotation: Any, integers: st.SearchStrategy[int]) -> st.SearchStrategy[Any]:
    plain = {int: integers, str: TEXT, bytes: BYTES, bool: st.booleans()}
    if annotation in plain:
        return plain[annotation]
    for known, strategy in plain.items():
        if annotation == known | None:
            return st.none() | strategy
    raise AssertionError(f"no strategy for {annotation}")


def _some(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    # More than 63 items make a count of two bytes.
    return st.lists(strategy, max_size=4) | st.integers(64, 70).flatmap(
        lambda n: strategy.map(lambda item: [item] * n)
    )


ATTEMPT = _fields(events.Attempt)
POSITION = _fields(events.Position)
TIME_SOURCE = st.sampled_from([source.value for source in events.TimeSource])
AMOUNT = _fields(events.Amount)
LEG = _fields(events.Leg, amount=st.none() | AMOUNT)
TEXT_MAP = st.dictionaries(TEXT, TEXT, max_size=4)

REFERENCE = st.none() | _fields(events.Reference, other_operations=st.lists(TEXT, max_size=2))
CAUSE = st.none() | _fields(events.Cause)
MEMBER = _fields(
    events.GroupMember,
    legs=st.lists(LEG, max_size=2),
    reference=REFERENCE,
    time_source=TIME_SOURCE,
    cause=CAUSE,
)

RECORDS: dict[type[msgspec.Struct], st.SearchStrategy[Any]] = {
    events.WalletTransaction: _fields(
        events.WalletTransaction,
        attempt=ATTEMPT,
        legs=_some(LEG),
        reference=REFERENCE,
        time_source=TIME_SOURCE,
        cause=CAUSE,
        group=st.none() | _fields(events.Group, members=st.lists(MEMBER, max_size=2)),
    ),
    events.WalletBalance: _fields(events.WalletBalance, source=POSITION),
    events.WalletOutcome: _fields(events.WalletOutcome, attempt=ATTEMPT, scale=st.none() | INT),
    events.PlayerEvent: _fields(
        events.PlayerEvent, attempt=ATTEMPT, attributes=TEXT_MAP, time_source=TIME_SOURCE
    ),
    events.MarketSettlement: _fields(
        events.MarketSettlement, attempt=ATTEMPT, time_source=TIME_SOURCE
    ),
    events.RiskSignal: _fields(
        events.RiskSignal, source=POSITION, record_index=st.none() | INT, attributes=TEXT_MAP
    ),
    events.FraudAlert: _fields(
        events.FraudAlert,
        sources=_some(_fields(events.OffsetRange)),
        sample_event_ids=_some(TEXT),
        evidence=TEXT_MAP,
    ),
    events.DeadLetter: _fields(
        events.DeadLetter,
        source=POSITION,
        record_index=st.none() | INT,
        headers=_some(_fields(events.Header)),
    ),
    events.SchemaDrift: _fields(events.SchemaDrift, source=POSITION),
    rule_changes.RuleChange: _fields(rule_changes.RuleChange, percent=st.none() | INT),
    events.GameResult: _fields(events.GameResult, attempt=ATTEMPT, time_source=TIME_SOURCE),
}

ANY_RECORD: st.SearchStrategy[msgspec.Struct] = st.one_of(*RECORDS.values())
