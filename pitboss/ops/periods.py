"""Times and durations as operators write them, in milliseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from schemas.errors import UsageError
from schemas.topics import DAY_MS

_AGO: Final = re.compile(r"([1-9]\d{0,4})([mhdw])", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DURATION: Final = re.compile(r"(\d{1,9})([smhd])")
_UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": DAY_MS, "w": 7 * DAY_MS}


def parse_instant_ms(text: str) -> int:
    """Parse an RFC 3339 time to epoch ms; without an offset it is UTC. Raises UsageError."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a time: write it as in 2026-11-22T10:15:30Z") from None
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // timedelta(milliseconds=1)


def parse_since_ms(text: str, now_ms: int) -> int:
    """Parse `7d`, `24h`, `90m` or `2w` before `now_ms`, or an RFC 3339 time, to epoch ms.

    Raises UsageError.
    """
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return now_ms - int(ago[1]) * _UNITS_MS[ago[2]]
    try:
        return parse_instant_ms(text)
    except UsageError:
        raise UsageError(
            f"{text!r} is not a time: write 7d, 24h, or as in 2026-11-22T10:15:30Z"
        ) from None


def parse_duration_ms(text: str) -> int:
    """Parse `90s`, `30m`, `12h` or `14d` to milliseconds. Raises UsageError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is not a duration: write 90s, 30m, 12h or 14d")
    return int(match[1]) * _UNITS_MS[match[2]]
