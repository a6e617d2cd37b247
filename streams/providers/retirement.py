"""Warnings of provider versions that are about to be retired and still have traffic.

Pure: the caller passes the day.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Final

from streams.providers.versions import VersionRow

WARN_DAYS: Final = 30
"""Days before retirement at which warnings of a version with traffic begin; they do not end."""


def find_retiring(rows: Iterable[VersionRow], today: date) -> list[VersionRow]:
    """Return the versions that retire within 30 days, or have retired, the most urgent first."""
    due = [
        (days, row)
        for row in rows
        if (days := row.days_to_retirement(today)) is not None and days <= WARN_DAYS
    ]
    return [row for _, row in sorted(due, key=lambda pair: pair[0])]


def format_warnings(
    rows: Iterable[VersionRow],
    events: Mapping[tuple[str, str], int],
    today: date,
    since: str = "in the last day",
) -> list[str]:
    """Format a sentence for each version that is retired, or about to be, and still had `events`.

    `events` counts by provider and version; `since` names the period in words.
    """
    sentences = []
    for row in find_retiring(rows, today):
        count = events.get((row.provider, row.version), 0)
        if count:
            sentences.append(
                f"{row.name} {_when(row, today)}, and {_format_count(count)} of it came {since}: "
                f"{_advice(row, rows)}"
            )
    return sentences


def _format_count(count: int) -> str:
    return "1 event" if count == 1 else f"{count:,} events"


def _when(row: VersionRow, today: date) -> str:
    days = row.days_to_retirement(today)
    assert days is not None
    if days == 0:
        return f"is retired today ({row.retires_on})"
    unit = "day" if abs(days) == 1 else "days"
    return (
        f"is retired in {days} {unit} ({row.retires_on})"
        if days > 0
        else f"was retired {-days} {unit} ago ({row.retires_on})"
    )


def _advice(row: VersionRow, rows: Iterable[VersionRow]) -> str:
    others = [
        other.version
        for other in rows
        if other.provider == row.provider and other.version != row.version
    ]
    if others:
        return f"have its connector speak version {' or '.join(others)}"
    return "no other version of it is registered: see docs/tutorial/first-adapter.md"
