"""Times as providers print them, in epoch ms.

They come with and without zone, as dates, in seconds to microseconds. A time without zone names no
moment until the dialect states its zone; taking one zone for another is the classic fault (14:03:20
UTC read as Malta's is an hour early). Zones come from the pinned package `tzdata` and not from the
machine, so that the same bytes are the same time on every worker and in every replay.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cache
from importlib.resources import files
from typing import Final, Literal, TypeAlias
from zoneinfo import ZoneInfo

from schemas.errors import RejectCode, Rejected, UsageError
from streams.providers.fields import LAST_MS, check_ms, epoch_ms

NAIVE_TOLERANCE_MS: Final = 14 * 60 * 1000
"""The `time_tolerance_ms` for a live provider that prints no zone.

It is less than the 15 minutes by which any two zones differ at least (tz database, since 1972), so
that a time read in the wrong zone is never believed, be it early or late.
"""

DIGITS_MAX: Final = 18
_TEXT_MAX: Final = 100
"""Characters of a printed time: XML Schema sets no limit to the decimals of a second."""

EpochUnit: TypeAlias = Literal["s", "ms", "us"]

_PER_MS: Final = {"ms": 1, "us": 1000}
_TEXT: Final = re.compile(
    r"(\d{4})([-/])(\d\d)\2(\d\d)"
    r"(?:[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d+))?)? ?(Z|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)
_ZONE_NAME: Final = re.compile(r"[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,2}", re.ASCII)


@cache
def zone_of(name: str) -> tzinfo:
    """Return a zone of the tz database by its name, as in `Europe/Malta`.

    Raises UsageError for an unknown name.
    """
    if name == "UTC":
        return UTC
    if _ZONE_NAME.fullmatch(name):
        file = files("tzdata").joinpath("zoneinfo", *name.split("/"))
        if file.is_file():
            try:
                with file.open("rb") as data:
                    return ZoneInfo.from_file(data, key=name)
            except ValueError:
                pass  # a list or a module of the package, not a zone
    raise UsageError(
        f"time zone {name!r} is not in the tz database: name it as in Europe/Malta, or UTC"
    )


def ms_of_text(text: str, zone: tzinfo | None = None, *, field: str = "time") -> int:
    """Return a printed time in epoch ms; what follows the milliseconds is cut off.

    `2026-11-22 14:03:20`, `2026/11/22 14:03:20.123`, `2026-11-22T14:03:20.123456+01:00`,
    `2026-11-22`: the date with dashes or slashes, T or a space, any decimals, `Z` or an offset.
    Without an offset it is `zone`'s, an hour that the clock showed twice being the first of the
    two; a date alone is the first moment of its day, and 24:00:00 that of the next one (XML Schema
    part 2, dateTime). Raises Rejected(BAD_TIME) for anything else, before 1970, and where neither
    the text nor the dialect names a zone.
    """
    match = _TEXT.fullmatch(text) if len(text) <= _TEXT_MAX else None
    if match is None:
        raise Rejected(RejectCode.BAD_TIME, f"{field} is not a time as this provider prints it")
    year, _, month, day, hour, minute, second, fraction, offset = match.groups()
    known = zone if offset is None else _offset_of(offset)
    if known is None:
        raise Rejected(RejectCode.BAD_TIME, f"{field} has no zone")
    clock = (int(hour), int(minute), int(second)) if hour else (0, 0, 0)
    is_day_end = clock == (24, 0, 0) and not (fraction or "").strip("0")
    try:
        at = datetime(
            int(year), int(month), int(day), *(0, 0, 0) if is_day_end else clock, tzinfo=known
        )
        # Of the calendar, not of the clock: a day may have 23 or 25 hours.
        whole = epoch_ms(at + timedelta(days=1) if is_day_end else at)
    except (ValueError, OverflowError):
        raise Rejected(
            RejectCode.BAD_TIME, f"{field} is not a day and time of the calendar"
        ) from None
    return check_ms(whole + (int(fraction[:3].ljust(3, "0")) if fraction else 0), field)


def ms_of_epoch(number: int | str, unit: EpochUnit, *, field: str = "time") -> int:
    """Return a count of seconds, milliseconds or microseconds since 1970, in epoch ms.

    Fractions are cut off. The dialect states the unit: if it were guessed from the size, a wrong
    guess would be a plausible day of another year. Raises Rejected(BAD_TIME) for anything but ASCII
    digits, and for times after the year 9999.
    """
    text = str(number)
    if not text.isdigit() or not text.isascii() or len(text) > DIGITS_MAX:
        raise Rejected(RejectCode.BAD_TIME, f"{field} is not a count since 1970")
    ms = int(text) * 1000 if unit == "s" else int(text) // _PER_MS[unit]
    if ms > LAST_MS:
        raise Rejected(RejectCode.BAD_TIME, f"{field} is after the year 9999: is it in {unit}?")
    return ms


def _offset_of(text: str) -> tzinfo | None:
    if text == "Z":
        return UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if hours > 18 or minutes > 59:
        return None
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if text[0] == "-" else offset)
