"""The figures that go with an alert, as text, in integers and ratios: the same on every machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import isqrt
from typing import Final

import msgspec

from fraud_agents.rules import Rule
from fraud_agents.windows import Contribution, SlidingWindow

UNDEFINED: Final = "undefined"
COUNTS_MAX: Final = 20
"""Games and providers listed by name at most; a player at more of them is itself a finding, shown
as `others`."""

REGULAR_CV_THOUSANDTHS: Final = 100
REGULAR_EVENTS_MIN: Final = 100
"""A coefficient of variation below 0.1 over at least 100 bets is a machine's rhythm; our default,
to be tuned."""


def even_sample(items: Sequence[str], limit: int) -> list[str]:
    """Return at most `limit` items, spread evenly, the first and the last among them."""
    if len(items) <= limit:
        return list(items)
    return [items[place * (len(items) - 1) // (limit - 1)] for place in range(limit)]


def median_text(numbers: Sequence[int]) -> str:
    """Return the median, exactly: halves are the only fractions that it can have."""
    if not numbers:
        return UNDEFINED
    ordered = sorted(numbers)
    double = ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]
    return f"{double // 2}.5" if double % 2 else str(double // 2)


def variation_thousandths(numbers: Sequence[int]) -> int | None:
    """Return the coefficient of variation in thousandths, cut; None without a positive mean.

    It is the population deviation over the mean.
    """
    total = sum(numbers)
    if total <= 0:
        return None
    # (deviation / mean)^2 = (n * sum of squares - total^2) / total^2: one integer root, no float.
    spread = len(numbers) * sum(number * number for number in numbers) - total * total
    return isqrt(spread * 1_000_000) // total


def counts_text(names: Iterable[str]) -> str:
    """Return the counts of names as a JSON object: the most frequent first, the rest together."""
    ranked = sorted(Counter(names).items(), key=lambda item: (-item[1], item[0]))
    counts = dict(ranked[:COUNTS_MAX])
    if len(ranked) > COUNTS_MAX:
        counts["others"] = sum(count for _, count in ranked[COUNTS_MAX:])
    return msgspec.json.encode(counts).decode()


def stakes_by_currency(events: Iterable[Contribution]) -> dict[str, int]:
    """Return the stakes of a window's bets in minor units, by currency.

    Of bets whose stake is known: their labels end with its currency.
    """
    sums: Counter[str] = Counter()
    for event in events:
        if currency := event.label[3]:
            sums[currency] += event.value
    return dict(sorted(sums.items()))


def evidence_of(
    rule: Rule, window: SlidingWindow, events: Sequence[Contribution]
) -> dict[str, str]:
    """Return what a person needs in addition to the count.

    `events` are those of one window, ordered by event time; their labels are provider, game,
    region, and the stake's currency.
    """
    gaps = [later.at_ms - earlier.at_ms for earlier, later in pairwise(events)]
    variation = variation_thousandths(gaps)
    is_regular = (
        variation is not None
        and variation < REGULAR_CV_THOUSANDTHS
        and len(events) >= REGULAR_EVENTS_MIN
    )
    return {
        "rule_digest": rule.digest,
        "operator": ">=",
        "games": counts_text(f"{event.label[0]}/{event.label[1]}" for event in events),
        "providers": counts_text(event.label[0] for event in events),
        "regions": counts_text(event.label[2] for event in events),
        "stakes_minor": msgspec.json.encode(stakes_by_currency(events)).decode(),
        "inter_arrival_p50_ms": median_text(gaps),
        "inter_arrival_cv": UNDEFINED
        if variation is None
        else f"{variation // 1000}.{variation % 1000:03}",
        "is_regular": str(is_regular).lower(),
        "late_events": str(window.late),
        "duplicate_events": str(window.duplicates),
        "warm_from_offset": str(window.first_offset()),
    }
