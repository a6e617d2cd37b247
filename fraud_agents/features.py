"""The feature contract: what every detector measures, defined once. Pure.

Live, shadow and replay call these functions and no others, so one feature cannot have two meanings.
Each entry of `FEATURES` states the clock, the bounds, and what happens to late records, to other
currencies and to missing values. `pitboss fraud features` prints them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from math import asin, cos, isqrt, radians, sin, sqrt
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from fraud_agents.windows import EventWindow, SlidingWindow, WindowEntry
from schemas.errors import Rejected
from schemas.events import Kind, Leg, WalletTransaction
from schemas.money import AMOUNT_MAX, EXPONENTS, exponent_of, minor_units

REFERENCE_CURRENCY: Final = "EUR"
RATES_VERSION: Final = "2026-11-01"
RATES: Final = {
    "EUR": 1_000_000,
    "USD": 900_000,
    "GBP": 1_150_000,
    "CAD": 650_000,
    "SEK": 88_000,
    "JPY": 6_000,
    "KWD": 2_900_000,
}
"""Millionths of a euro for one major unit: round figures of ours, fixed for this version, since a
rate that moves would give a replay other answers than the live run."""

EARTH_RADIUS_KM: Final = 6_371
_BET: Final = Kind.BET.value
_FREE_KINDS: Final = frozenset({_BET})


def leg_minor(leg: Leg) -> int | None:
    """Return a leg's amount in minor units of its currency; None where it has none."""
    if leg.amount is None or leg.currency is None:
        return None
    try:
        minor: int = minor_units(leg.amount, leg.currency)
    except Rejected:
        return None
    return minor


def sum_legs(event: WalletTransaction, kind: str) -> tuple[int, str | None]:
    """Return the sum of an event's legs of one kind in minor units, and their currency."""
    total, currency = 0, None
    for leg in event.legs:
        if leg.kind == kind and not (leg.is_free and kind in _FREE_KINDS):
            minor = leg_minor(leg)
            if minor is not None:
                total, currency = total + minor, leg.currency
    return total, currency


def stake_of(event: WalletTransaction) -> tuple[int, str | None] | None:
    """Return an event's stake in minor units, and its currency; None of an event without a bet."""
    legs = event.legs
    if len(legs) == 1:  # nearly all records; the rest is what `sum_legs` does, for a tenth of it
        leg = legs[0]
        if leg.kind != _BET:
            return None
        amount, currency = leg.amount, leg.currency
        if (
            amount is not None
            and currency is not None
            and not leg.is_free
            and EXPONENTS.get(currency) == amount.scale
        ):
            return amount.unscaled, currency
    elif not any(leg.kind == _BET for leg in legs):
        return None
    minor, currency = sum_legs(event, _BET)
    # The legs fit 64 bits one by one.
    return min(minor, AMOUNT_MAX), currency


def reference_minor(minor: int, currency: str | None) -> int | None:
    """Return an amount in minor units of the reference currency, cut; None without a rate."""
    if currency is None or currency not in RATES:
        return None
    units: int = 10 ** exponent_of(currency)
    cents = abs(minor) * RATES[currency] * 100 // (units * 1_000_000)
    return cents if minor >= 0 else -cents


def sum_currencies(sums: Mapping[str, int]) -> tuple[int | None, str | None]:
    """Return the sum of amounts by currency: in their own if it is one, else in the reference's."""
    if not sums:
        return None, None
    [(currency, minor), *others] = sums.items()
    if others:
        minor = sum(reference_minor(own, name) or 0 for name, own in sums.items())
        currency = REFERENCE_CURRENCY
    return min(minor, AMOUNT_MAX), currency  # an alert's money has 64 bits


def sum_reference(event: WalletTransaction, kind: str) -> int:
    """Return the sum of an event's legs of one kind in the reference currency; 0 if unknown."""
    if len(event.legs) == 1 and event.legs[0].kind != kind:
        return 0
    minor, currency = sum_legs(event, kind)
    return reference_minor(minor, currency) or 0


def count_events(window: Sequence[WindowEntry]) -> int:
    """Return the distinct events of a window."""
    return len(window)


def sum_values(window: Sequence[WindowEntry]) -> int:
    """Return the sum of a window's values."""
    return sum(entry.value for entry in window)


def commonest_share_percent(window: Sequence[WindowEntry]) -> int:
    """Return the share of the most frequent label, in whole percent, cut; 0 of an empty window."""
    if not window:
        return 0
    return 100 * max(Counter(entry.label for entry in window).values()) // len(window)


def exceeds_percent(part: int, whole: int, percent: int) -> bool:
    """Return whether `part` is more than `percent` of `whole`, exactly; not of nothing."""
    return whole > 0 and 100 * part > percent * whole


def percent_of(part: int, whole: int) -> int | None:
    """Return `part` in whole percent of `whole`, cut; None of nothing."""
    return None if whole <= 0 else 100 * part // whole


def distance_km(first: tuple[int, int], second: tuple[int, int]) -> int:
    """Return the great-circle distance of two places in ten-thousandths of a degree, cut."""
    (north_a, east_a), (north_b, east_b) = (
        (radians(north / 10_000), radians(east / 10_000)) for north, east in (first, second)
    )
    half = (
        sin((north_b - north_a) / 2) ** 2
        + cos(north_a) * cos(north_b) * sin((east_b - east_a) / 2) ** 2
    )
    return int(2 * EARTH_RADIUS_KM * asin(sqrt(min(1.0, half))))


def speed_kmh(distance: int, elapsed_ms: int) -> int:
    """Return the speed of a journey in whole km/h, cut; one in no time takes a millisecond."""
    return distance * 3_600_000 // max(1, elapsed_ms)


def of_age_ms(born_on: str, years: int, zone: str) -> int | None:
    """Return when a person comes of an age: local midnight; None of an unreadable date.

    `born_on` is YYYY-MM-DD. A zone that is not known counts as UTC. Who is born on a 29 February
    comes of age on 1 March.
    """
    try:
        born = date.fromisoformat(born_on)
        month, day = (3, 1) if (born.month, born.day) == (2, 29) else (born.month, born.day)
        try:
            where = ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError):
            where = ZoneInfo("UTC")
        return int(datetime(born.year + years, month, day, tzinfo=where).timestamp()) * 1_000
    except (ValueError, OverflowError):
        return None


def z_thousandths(observed: int, expected: int, variance: int) -> int:
    """Return a deviation in thousandths of its standard deviation, cut toward zero."""
    if variance <= 0:
        return 0
    root = isqrt(variance * 1_000_000)
    size = abs(observed - expected) * 1_000_000 // max(1, root)
    return size if observed >= expected else -size


class Feature(msgspec.Struct, frozen=True):
    """One line of the contract."""

    function: Callable[..., Any]
    clock: str
    bounds: str
    late: str
    currency: str
    nulls: str

    @property
    def name(self) -> str:
        """Name of the feature: that of its function, with the class of a window's."""
        return str(self.function.__qualname__)

    @property
    def meaning(self) -> str:
        """What the feature is, in a sentence."""
        return (self.function.__doc__ or "").partition("\n")[0]


_EVENT: Final = "occurred_at: the provider's clock, clamped to the append"
_WINDOW: Final = "(end - size, end], for every end at an event"
_SECONDS: Final = "[end - size, end), for every end at a whole second"
_ONE: Final = "one event"
_LATE: Final = "older than the key's newest by more than the grace: counted, in no window"
_AS_OF: Final = "as of the event in the log's order"
_OWN: Final = "the leg's own currency, minor units"
_REFERENCE: Final = f"{REFERENCE_CURRENCY} cents at the rates of {RATES_VERSION}, cut"
_NONE: Final = "none is involved"
_FULL: Final = "never null"
_NO_DATE: Final = "a date that cannot be read: null"

FEATURES: Final = (
    Feature(leg_minor, _EVENT, _ONE, _AS_OF, _OWN, "no amount, currency or exact value: null"),
    Feature(sum_legs, _EVENT, _ONE, _AS_OF, _OWN, "a leg without an amount adds nothing"),
    Feature(stake_of, _EVENT, _ONE, _AS_OF, _OWN, "no bet: null; a stake that is unknown: 0, null"),
    Feature(reference_minor, _EVENT, _ONE, _AS_OF, _REFERENCE, "a currency without a rate: null"),
    Feature(
        sum_currencies,
        _EVENT,
        _WINDOW,
        _LATE,
        f"one currency: its own; several: {_REFERENCE} each, one without a rate adds nothing",
        "no amount at all: null",
    ),
    Feature(sum_reference, _EVENT, _ONE, _AS_OF, _REFERENCE, "null adds nothing"),
    Feature(count_events, _EVENT, _WINDOW, _LATE, _NONE, _FULL),
    Feature(sum_values, _EVENT, _WINDOW, _LATE, _REFERENCE, "a null value is entered as 0"),
    Feature(commonest_share_percent, _EVENT, _WINDOW, _LATE, _NONE, "an empty window: 0"),
    Feature(percent_of, _EVENT, _ONE, _AS_OF, "both sides in one currency", "of nothing: null"),
    Feature(exceeds_percent, _EVENT, _ONE, _AS_OF, "both sides in one currency", "of nothing: no"),
    Feature(distance_km, _EVENT, "two places", _LATE, _NONE, "no place: the event is skipped"),
    Feature(speed_kmh, _EVENT, "two places", _LATE, _NONE, _FULL),
    Feature(of_age_ms, _EVENT, "[local midnight of the birthday, ...)", _LATE, _NONE, _NO_DATE),
    Feature(z_thousandths, _EVENT, _WINDOW, _LATE, "one currency a game", "no variance: 0"),
    Feature(SlidingWindow.add, _EVENT, _ONE, _LATE, _OWN, "a null value is entered as 0"),
    Feature(SlidingWindow.peak, _EVENT, _SECONDS, _LATE, _NONE, "too few events: null"),
    Feature(SlidingWindow.contributions, _EVENT, _SECONDS, _LATE, _OWN, _FULL),
    Feature(EventWindow.add, _EVENT, _ONE, _LATE, _REFERENCE, "a null value is entered as 0"),
    Feature(EventWindow.runs, _EVENT, _WINDOW, _LATE, _REFERENCE, "no event: no window"),
    Feature(EventWindow.ending, _EVENT, _WINDOW, _LATE, _REFERENCE, "no event: empty"),
)
"""Every feature that a detector may use: functions, and the windows that events go into."""
