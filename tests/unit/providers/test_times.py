"""Times as providers print them, and the classic fault: a time of one zone read as another's."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta, tzinfo
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import RejectCode, Rejected, UsageError
from schemas.topics import DAY_MS
from streams.normalise.mapping.events import RecordContext, event_time
from streams.providers.fields import epoch_ms
from streams.providers.times import NAIVE_TOLERANCE_MS, ms_of_epoch, ms_of_text, zone_of
from tests.support.dialect_records import raw_record


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]  # numbers, as the caller lists them


UTC_MS = epoch_ms(utc(2026, 11, 22, 14, 3, 20))
MALTA = zone_of("Europe/Malta")


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-11-22T14:03:20Z", 0),
        ("2026-11-22 14:03:20Z", 0),
        ("2026/11/22 14:03:20 Z", 0),
        ("2026-11-22T15:03:20+01:00", 0),
        ("2026-11-22T15:03:20+01", 0),
        ("2026-11-22 14:03:20+0000", 0),
        ("2026-11-22T09:03:20.5-0500", 500),
        ("2026-11-22T19:33:20,123+05:30", 123),
        ("2026-11-22T14:03:20.123456Z", 123),
        ("2026-11-22T14:03:20.000999999Z", 0),
        ("2026-11-22Z", -(14 * 3600 + 3 * 60 + 20) * 1000),
    ],
)
def test_a_printed_time_with_its_zone(text, ms) -> None:
    assert ms_of_text(text) == ms_of_text(text, MALTA) == UTC_MS + ms


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("2026/11/22 14:03:20.123", "UTC", utc(2026, 11, 22, 14, 3, 20, 123000)),
        ("2026/11/22 14:03:20.123", "Europe/Malta", utc(2026, 11, 22, 13, 3, 20, 123000)),
        ("2026-07-01 14:03:20", "Europe/Malta", utc(2026, 7, 1, 12, 3, 20)),
        ("2026-11-22", "Europe/Malta", utc(2026, 11, 21, 23)),
        ("2026-11-22", "Asia/Kathmandu", utc(2026, 11, 21, 18, 15)),
        # The night of 25 October 2026 has 02:30 twice in Malta: the first is meant. 29 March has none.
        ("2026-10-25 02:30:00", "Europe/Malta", utc(2026, 10, 25, 0, 30)),
        ("2026-03-29 02:30:00", "Europe/Malta", utc(2026, 3, 29, 1, 30)),
    ],
)
def test_a_time_without_zone_is_the_providers(text, zone, expected) -> None:
    assert ms_of_text(text, zone_of(zone)) == epoch_ms(expected)


@pytest.mark.parametrize("text", ["24:00:00Z", "24:00:00.000Z", "24:00:00+00:00"])
@pytest.mark.parametrize("day", ["2026-11-21", "2026-02-28", "2026-12-31", "2028-02-29"])
def test_the_end_of_a_day_is_the_beginning_of_the_next(day, text) -> None:
    after = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1)
    assert ms_of_text(f"{day}T{text}") == epoch_ms(after)


def test_the_end_of_a_day_is_the_calendar_s_where_the_clock_changes() -> None:
    # 25 October 2026 has 25 hours in Malta.
    malta = zone_of("Europe/Malta")
    assert ms_of_text("2026-10-25T24:00:00", malta) == ms_of_text("2026-10-26", malta)
    assert ms_of_text("2026-10-26", malta) - ms_of_text("2026-10-25", malta) == 25 * 3_600_000


@pytest.mark.parametrize("decimals", [1, 3, 9, 10, 18, 40])
def test_decimals_of_a_second_have_no_limit(decimals) -> None:
    text = f"2026-11-22T14:03:20.{'9' * decimals}Z"
    whole = epoch_ms(datetime(2026, 11, 22, 14, 3, 20, tzinfo=UTC))
    assert ms_of_text(text) == whole + int("9" * min(decimals, 3)) * 10 ** (3 - min(decimals, 3))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-22 14:03:20",
        "2026-11-22",
        "2026-11/22 14:03:20Z",
        "2026-11-22 14:03Z",
        "2026-02-29T00:00:00Z",
        "1969-12-31T23:59:59.999Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-00:01",
        "2026-13-01Z",
        "0000-01-01Z",
        "2026-11-22T24:00:01Z",
        "2026-11-22T24:01:00Z",
        "2026-11-22T24:00:00.001Z",
        "2026-11-22T25:00:00Z",
        "9999-12-31T24:00:00Z",
        "2026-11-22T14:03:60Z",
        "2026-11-22T14:03:20+19:00",
        "2026-11-22T14:03:20+01:60",
        "٢٠٢٦-11-22T14:03:20Z",
        "2026-11-22T14:03:20." + "1" * 200 + "Z",
        "2026-11-22T14:03:20Z\n",
        " 2026-11-22T14:03:20Z",
        "1790000000123",
    ],
)
def test_what_is_no_time(text) -> None:
    assert refusal(text, None) is RejectCode.BAD_TIME


def refusal(text: str, zone: tzinfo | None) -> RejectCode | None:
    try:
        ms_of_text(text, zone)
    except Rejected as error:
        return error.reason
    return None


@given(st.text(max_size=45))
def test_no_text_raises_anything_else(text) -> None:
    assert refusal(text, MALTA) in {None, RejectCode.BAD_TIME}


@given(st.integers(0, 4_102_444_800_000_000), st.integers(-18 * 4, 18 * 4))
def test_an_offset_is_exact(at_us, quarters) -> None:
    at = utc(1970, 1, 1) + timedelta(microseconds=at_us)
    offset = timedelta(minutes=15 * quarters)
    sign, minutes = "-" if quarters < 0 else "+", abs(quarters) * 15
    local = (at + offset).replace(tzinfo=None).isoformat(timespec="microseconds")
    text = f"{local}{sign}{minutes // 60:02d}:{minutes % 60:02d}"
    assert ms_of_text(text) == at_us // 1000


@pytest.mark.parametrize(
    ("number", "unit", "ms"),
    [
        (1790000000, "s", 1790000000000),
        ("1790000000123", "ms", 1790000000123),
        ("1790000000123999", "us", 1790000000123),
        (0, "s", 0),
        ("00001", "ms", 1),
    ],
)
def test_counts_since_1970(number, unit, ms) -> None:
    assert ms_of_epoch(number, unit) == ms


@pytest.mark.parametrize(
    ("number", "unit"),
    [
        ("", "s"),
        ("-1", "ms"),
        (-1, "ms"),
        ("1.5", "s"),
        ("²", "s"),
        ("٣", "s"),
        ("1e9", "s"),
        ("9" * 19, "us"),
        (True, "s"),
    ],
)
def test_what_counts_nothing(number, unit) -> None:
    with pytest.raises(Rejected) as rejection:
        ms_of_epoch(number, unit)
    assert rejection.value.reason is RejectCode.BAD_TIME


def test_milliseconds_taken_for_seconds_are_refused() -> None:
    with pytest.raises(Rejected, match="is it in s"):
        ms_of_epoch(1790000000123, "s")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Malta/Europe",
        "../../etc/passwd",
        "Europe",
        "zone1970.tab",
        "Europe/__init__.py",
        "Europe/Malta/x/y",
    ],
)
def test_a_zone_that_is_none(name) -> None:
    with pytest.raises(UsageError, match="Europe/Malta"):
        zone_of(name)


def test_zones_come_from_the_pinned_package(monkeypatch) -> None:
    monkeypatch.setattr(zoneinfo, "ZoneInfo", None)
    zoneinfo.reset_tzpath(to=())
    try:
        zone_of.cache_clear()
        assert ms_of_text("2026-07-01 14:03:20", zone_of("America/New_York")) == 1782929000000
    finally:
        zoneinfo.reset_tzpath()


# --- the classic fault ----------------------------------------------------------------------------------------------

ZONES = (files("tzdata") / "zones").read_text().split()


def test_1403_utc_read_in_any_other_zone_is_never_believed() -> None:
    """The provider prints UTC without saying so, 80 ms before the append; the setting names another zone."""
    context = RecordContext(
        raw_record("microgaming", b"x", timestamp=UTC_MS + 80), "acme", "mt", None
    )
    right = event_time(
        context, NAIVE_TOLERANCE_MS, ms_of_text("2026/11/22 14:03:20", zone_of("UTC"))
    )
    assert right == (UTC_MS, "PROVIDER", False)
    wrong = 0
    for name in ZONES:
        read = ms_of_text("2026/11/22 14:03:20", zone_of(name))
        if read == UTC_MS:
            continue
        wrong += 1
        occurred_at, _, clamped = event_time(context, NAIVE_TOLERANCE_MS, read)
        assert clamped, name
        assert UTC_MS + 80 - NAIVE_TOLERANCE_MS <= occurred_at <= UTC_MS + 80
    assert wrong > 300


def test_with_a_days_tolerance_the_fault_would_pass() -> None:
    """Why a provider without zone needs a narrow one: an hour early looks like any late message."""
    context = RecordContext(
        raw_record("microgaming", b"x", timestamp=UTC_MS + 80), "acme", "mt", None
    )
    _, _, clamped = event_time(context, DAY_MS, ms_of_text("2026/11/22 14:03:20", MALTA))
    assert not clamped
