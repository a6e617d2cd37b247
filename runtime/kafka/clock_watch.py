"""Compares the broker's append times with this process's clock. Pure.

The clamp of event times, the age of records and what a topic keeps rest on the broker's clock.
"""

from __future__ import annotations

from typing import Final

AHEAD_MAX_MS: Final = 30_000
BEHIND_MAX_MS: Final = 300_000
WINDOW_MS: Final = 600_000
"""If no record of this time was recent, either the broker's clock is slow or the worker lags."""

WARN_EVERY_MS: Final = 60_000


class ClockWatch:
    """Reports a broker's clock that differs from ours; all times are epoch ms."""

    def __init__(self) -> None:
        self._warned_ms: int | None = None
        self._since_ms: int | None = None
        self._least_ms = 0

    def observe(self, now_ms: int, appended_ms: int) -> str | None:
        """Take the append time of a record that was just read; return a warning if one is due."""
        age_ms = now_ms - appended_ms
        if age_ms < -AHEAD_MAX_MS:
            return self._ahead(now_ms, -age_ms)
        if self._since_ms is None or age_ms <= BEHIND_MAX_MS:
            self._since_ms, self._least_ms = now_ms, age_ms
            return None
        is_first = self._least_ms <= BEHIND_MAX_MS
        self._least_ms = age_ms if is_first else min(self._least_ms, age_ms)
        if now_ms - self._since_ms < WINDOW_MS:
            return None
        self._since_ms = now_ms
        return (
            f"for {WINDOW_MS // 60_000} min no record was appended less than"
            f" {_duration(self._least_ms)} ago by this clock: either this worker lags"
            " (`pitboss topics lag`), or the broker's clock is behind; compare both with NTP"
        )

    def _ahead(self, now_ms: int, ahead_ms: int) -> str | None:
        if self._warned_ms is not None and now_ms - self._warned_ms < WARN_EVERY_MS:
            return None
        self._warned_ms = now_ms
        return (
            f"the broker's append times are {_duration(ahead_ms)} ahead of this worker's clock:"
            " compare both with NTP; times of events and ages of records are wrong until then"
        )


def _duration(ms: int) -> str:
    return f"{ms // 3_600_000:,} h" if ms >= 2 * 3_600_000 else f"{ms // 1_000:,} s"
