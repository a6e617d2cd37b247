"""Report of bets, wins and bonus cost, checked against the accounts of the ledger.

By provider, game, brand, region and day. Gross gaming revenue is what the games kept: bets less
wins less contributions to jackpots, with bets and wins that were rolled back taken off. Over all
groups it is what the accounts of the providers gained; the jackpots' contributions less what they
paid is what the pools gained; the bonus cost is what the promotions' accounts lost. What a provider
does not count towards the revenue that it invoices (`is_billable`) is not in the revenue but stands
beside it, and only both together are what the accounts gained. Amounts are in
minor units, sums without limit. A day is a UTC day of event time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.statements import statements
from schemas.errors import UsageError

DIMENSIONS: Final = ("provider", "game", "brand", "region", "day")
ALWAYS_MS: Final = (-(2**62), 2**62)
_SQL: Final = statements("report")


def bounds_of(since_ms: int | None, until_ms: int | None) -> tuple[int, int]:
    """Return a period's bounds for a query; None is a period without that bound."""
    return (
        ALWAYS_MS[0] if since_ms is None else since_ms,
        ALWAYS_MS[1] if until_ms is None else until_ms,
    )


class ReportRow(msgspec.Struct, frozen=True):
    """One group of a report.

    A dimension is None if it was not requested, or if the group's events do not name it. The
    `unbillable_` sums are what was left out of those before them.
    """

    provider: str | None
    game: str | None
    brand: str | None
    region: str | None
    day: str | None
    currency: str
    bets_minor: int
    wins_minor: int
    contributions_minor: int
    jackpot_wins_minor: int
    bonus_cost_minor: int
    transfers: int
    unbillable_bets_minor: int = 0
    unbillable_wins_minor: int = 0
    unbillable_contributions_minor: int = 0

    @property
    def ggr_minor(self) -> int:
        """Gross gaming revenue that its provider invoices."""
        return self.bets_minor - self.wins_minor - self.contributions_minor

    @property
    def unbillable_ggr_minor(self) -> int:
        """Gross gaming revenue that its provider leaves out."""
        return (
            self.unbillable_bets_minor
            - self.unbillable_wins_minor
            - self.unbillable_contributions_minor
        )


class AccountMismatch(msgspec.Struct, frozen=True):
    """A sum of the report that differs from what the house's accounts gained: a ledger fault."""

    account: str
    currency: str
    reported_minor: int
    booked_minor: int


class RevenueReport(msgspec.Struct, frozen=True):
    """The groups of a report, and where their sums differ from the ledger's accounts."""

    rows: tuple[ReportRow, ...]
    mismatches: tuple[AccountMismatch, ...]


async def make_report(
    database: LedgerDatabase,
    by: Sequence[str],
    *,
    from_ms: int = ALWAYS_MS[0],
    until_ms: int = ALWAYS_MS[1],
) -> RevenueReport:
    """Return the report of a span of event time, the end not included.

    Raises UsageError for an unknown dimension.
    """
    unknown = [name for name in by if name not in DIMENSIONS]
    if unknown:
        raise UsageError(
            f"a report has no dimension {unknown[0]!r}: choose from {', '.join(DIMENSIONS)}"
        )
    span = {"from_ms": from_ms, "until_ms": until_ms}
    async with database.transaction() as connection:
        # Both statements have to see the same rows while the ledger keeps booking.
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        await connection.execute("SET LOCAL statement_timeout = 0")
        cursor = await connection.execute(_SQL["totals"], {"by": list(by), **span})
        rows = tuple(_row(values) for values in await cursor.fetchall())
        cursor = await connection.execute(_SQL["house"], span)
        house = await cursor.fetchall()
    gains = {(account, currency): int(gained) for account, currency, gained in house}
    return RevenueReport(rows, tuple(find_mismatches(rows, gains)))


def _row(values: Sequence[str | int | None]) -> ReportRow:
    counts = [int(number or 0) for number in values[6:]]
    return ReportRow(*values[:6], *counts)  # type: ignore[arg-type]  # as the statement lists them


def find_mismatches(
    rows: Iterable[ReportRow], house: Mapping[tuple[str, str], int]
) -> list[AccountMismatch]:
    """Return where the sums of the rows differ from what the accounts gained.

    `house`: the gain by class of account and currency.
    """
    reported: dict[tuple[str, str], int] = {}
    for row in rows:
        for account, gained in (
            ("provider", row.ggr_minor + row.unbillable_ggr_minor),
            (
                "jackpot",
                row.contributions_minor
                + row.unbillable_contributions_minor
                - row.jackpot_wins_minor,
            ),
            ("promotions", -row.bonus_cost_minor),
        ):
            key = account, row.currency
            reported[key] = reported.get(key, 0) + gained
    return [
        AccountMismatch(*key, reported.get(key, 0), house.get(key, 0))
        for key in sorted(reported.keys() | house.keys())
        if reported.get(key, 0) != house.get(key, 0)
    ]
