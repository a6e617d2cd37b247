"""What two versions of the code made of the same raw records, side by side. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal, localcontext
from typing import Any, Final

import msgspec

_EXAMPLES: Final = 20
_DIGITS: Final = 100
"""Of sums: exact for any number of amounts of 64 bits."""

Row = Mapping[str, Any]


class VersionOutput(msgspec.Struct, frozen=True):
    """Result of `runner`; rows are plain JSON, since versions may have other fields."""

    records: int
    watched: int
    """Events of all topics that were shown to the detectors."""
    cpu_ns: int
    detectors_ns: int
    latencies_ns: dict[str, int]
    events: list[dict[str, Any]]
    player_events: list[dict[str, Any]]
    settlements: list[dict[str, Any]]
    outcomes: list[dict[str, Any]]
    balances: list[dict[str, Any]]
    alerts: list[dict[str, Any]]
    rejected: list[dict[str, Any]]


class VersionFigures(msgspec.Struct, frozen=True):
    """What one version did; times are of one run, and say more the more records there are."""

    name: str
    records: int
    events: int
    rejected: int
    alerts: int
    cpu_us_per_record: float
    detector_cpu_us_per_event: float
    latency_us: dict[str, float]
    """p50 and p99 of the work on one record."""


class RowDifferences(msgspec.Struct, frozen=True):
    """Differences in one kind of result."""

    kind: str
    first_rows: int
    second_rows: int
    added: int
    """Rows of the second version only."""
    dropped: int
    changed: int
    changed_fields: dict[str, int]
    examples: list[dict[str, Any]]


class SumDifference(msgspec.Struct, frozen=True):
    """A sum of money that differs, as exact decimal texts in major units."""

    of: str
    """`events` for the amounts of legs, `balances` for what players have in the end."""
    provider: str | None
    kind: str | None
    currency: str
    first: str
    second: str
    difference: str


class VersionComparison(msgspec.Struct, frozen=True):
    """Result of a comparison; times play no part in `identical`."""

    identical: bool
    first: VersionFigures
    second: VersionFigures
    differences: list[RowDifferences]
    sums: list[SumDifference]


_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "events": ("event_id", "attempt"),
    "player_events": ("event_id", "attempt"),
    "settlements": ("event_id", "attempt"),
    "outcomes": ("event_id", "attempt"),
    "balances": ("player_id", "currency"),
    "alerts": ("alert_id", "revision"),
    "rejected": ("place", "index"),
}


def compare_versions(
    names: tuple[str, str], first: VersionOutput, second: VersionOutput
) -> VersionComparison:
    """Compare events of all topics, outcomes, balances, alerts and dead letters, row by row."""
    differences = [
        _compare_rows(kind, key, getattr(first, kind), getattr(second, kind))
        for kind, key in _KEYS.items()
    ]
    is_same = not any(one.added or one.dropped or one.changed for one in differences)
    with localcontext(prec=_DIGITS):
        sums = [
            *_compare_sums("events", _leg_sums(first.events), _leg_sums(second.events)),
            *_compare_sums("balances", _totals(first.balances), _totals(second.balances)),
        ]
    figures = (_figures(names[0], first), _figures(names[1], second))
    return VersionComparison(is_same, *figures, differences, sums)


def _figures(name: str, output: VersionOutput) -> VersionFigures:
    records, watched = max(1, output.records), max(1, output.watched)
    return VersionFigures(
        name,
        output.records,
        len(output.events),
        len(output.rejected),
        len(output.alerts),
        round(output.cpu_ns / 1_000 / records, 2),
        round(output.detectors_ns / 1_000 / watched, 2),
        {percentile: round(ns / 1_000, 1) for percentile, ns in output.latencies_ns.items()},
    )


def _compare_rows(
    kind: str, key: tuple[str, ...], first: Iterable[Row], second: Iterable[Row]
) -> RowDifferences:
    ones, others = _by_key(key, first), _by_key(key, second)
    added, dropped = others.keys() - ones.keys(), ones.keys() - others.keys()
    fields: Counter[str] = Counter()
    examples = [{"what": "added", **_named(key, others[each])} for each in sorted(added)]
    examples += [{"what": "dropped", **_named(key, ones[each])} for each in sorted(dropped)]
    changed = 0
    for each in sorted(ones.keys() & others.keys()):
        differing = _differing(ones[each], others[each])
        if differing:
            changed += 1
            fields.update(differing)
            before = {name: ones[each].get(name) for name in differing}
            after = {name: others[each].get(name) for name in differing}
            named = _named(key, ones[each])
            examples.append({"what": "changed", **named, "first": before, "second": after})
    return RowDifferences(
        kind,
        len(ones),
        len(others),
        len(added),
        len(dropped),
        changed,
        dict(sorted(fields.items())),
        examples[:_EXAMPLES],
    )


def _by_key(key: tuple[str, ...], rows: Iterable[Row]) -> dict[str, Row]:
    """Return the rows by their key as text; of copies each has a number."""
    found: dict[str, Row] = {}
    copies: Counter[str] = Counter()
    for row in rows:
        name = msgspec.json.encode([row.get(part) for part in key], order="sorted").decode()
        copies[name] += 1
        found[f"{name}#{copies[name]}"] = row
    return found


def _named(key: tuple[str, ...], row: Row) -> dict[str, Any]:
    return {part: row.get(part) for part in key}


def _differing(one: Row, other: Row) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


SumKey = tuple[str | None, str | None, str]


def _leg_sums(events: Iterable[Row]) -> dict[SumKey, Decimal]:
    sums: dict[SumKey, Decimal] = defaultdict(Decimal)
    for event in events:
        for leg in event["legs"]:
            amount, currency = leg.get("amount"), leg.get("currency")
            if amount is not None and currency is not None:
                exact = Decimal(amount["unscaled"]).scaleb(-amount["scale"])
                sums[event["provider"], leg["kind"], currency] += exact
    return sums


def _totals(balances: Iterable[Row]) -> dict[SumKey, Decimal]:
    sums: dict[SumKey, Decimal] = defaultdict(Decimal)
    for row in balances:
        sums[None, None, row["currency"]] += Decimal(row["total"])
    return sums


def _compare_sums(
    of: str, first: Mapping[SumKey, Decimal], second: Mapping[SumKey, Decimal]
) -> Iterable[SumDifference]:
    for key in sorted(first.keys() | second.keys(), key=repr):
        one, other = first.get(key, Decimal()), second.get(key, Decimal())
        if one != other:
            yield SumDifference(of, *key, f"{one:f}", f"{other:f}", f"{other - one:f}")
