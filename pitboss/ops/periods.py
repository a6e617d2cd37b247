"""Times, periods and durations as operators write them, in milliseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from schemas.errors import UsageError
from schemas.topics import DAY_MS

ACCEPTED_TIMES: Final = (
    "7d, 2h or -2h (ago; s, m, h, d, w), now, today, yesterday, 2026-11-22,"
    " or RFC 3339 as in 2026-11-22T10:15:30Z"
)
"""Forms of a time, for help and errors."""

_AGO: Final = re.compile(r"-?(\d{1,5})([smhdw])", re.ASCII)
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_RFC_3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?", re.ASCII
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)
_DURATION: Final = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": DAY_MS, "w": 7 * DAY_MS}


def parse_time_ms(text: str, now_ms: int) -> int:
    """Parse a time to epoch ms, as seen at `now_ms`.

    `7d` and `-7d` are that long before now; `today` and `yesterday` begin at 00:00 UTC, and so does
    a date; an RFC 3339 time without an offset is UTC. Times before 1970 count as its beginning: a
    broker refuses negative ones. Times after the year 9999 count as its end. Raises UsageError,
    which names the text and the accepted forms.
    """
    word = text.strip()
    midnight_ms = now_ms - now_ms % DAY_MS
    words = {"now": now_ms, "today": midnight_ms, "yesterday": midnight_ms - DAY_MS}
    if (named := words.get(word.lower())) is not None:
        return named
    if (ago := _AGO.fullmatch(word)) is not None:
        return max(0, now_ms - int(ago[1]) * _UNITS_MS[ago[2]])
    at_ms = _calendar_ms(word.upper())
    if at_ms is None:
        raise UsageError(f"{text!r} is not a time: write {ACCEPTED_TIMES}")
    return min(max(0, at_ms), _LAST_MS)


def _calendar_ms(text: str) -> int | None:
    """Return epoch ms of a date or an RFC 3339 time; None for another text."""
    if _DATE.fullmatch(text) is None and _RFC_3339.fullmatch(text) is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:  # the 30th of February, 25 o'clock
        return None
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // timedelta(milliseconds=1)


def check_period(since_ms: int | None, until_ms: int | None) -> None:
    """Raise UsageError for a period that holds no moment: `since` is in it, `until` is not."""
    if since_ms is not None and until_ms is not None and since_ms >= until_ms:
        raise UsageError(
            f"the period is empty: --since {format_time(since_ms)} (included) is not before"
            f" --until {format_time(until_ms)} (not included)"
        )


def is_within(at_ms: int, since_ms: int | None, until_ms: int | None) -> bool:
    """Return whether a moment is in a period; None is a period without that bound."""
    return (since_ms is None or since_ms <= at_ms) and (until_ms is None or at_ms < until_ms)


def format_time(epoch_ms: int) -> str:
    """Format epoch ms as RFC 3339 in UTC, to the millisecond.

    Raises OverflowError beyond the year 9999.
    """
    at = _EPOCH + timedelta(milliseconds=epoch_ms)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_duration_ms(text: str) -> int:
    """Parse `90s`, `30m`, `12h` or `14d` to milliseconds. Raises UsageError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is not a duration: write 90s, 30m, 12h or 14d")
    return int(match[1]) * _UNITS_MS[match[2]]


def format_instant(epoch_ms: int) -> str:
    """Return an event time in UTC, to the second or, where it has more, to the millisecond."""
    at = datetime.fromtimestamp(epoch_ms // 1_000, UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}" + (f".{epoch_ms % 1_000:03}" if epoch_ms % 1_000 else "")
