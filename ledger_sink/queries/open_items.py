"""What waits for a person or for another record, by kind, with its age and its sums.

`UNRESOLVED` decisions without an answer, split into money in suspense, events in quarantine and the
rest; events without a player that wait for the one they refer to; raw records behind a dead letter;
barriers that are not passed; and proposals without an approval.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from ledger_sink.queries.people import read_open_proposals
from ledger_sink.rules.journal import OperatorLimit
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.statements import statements
from schemas import codec
from schemas.errors import Rejected
from schemas.events import WalletTransaction
from schemas.money import minor_units

PARKED_MAX: Final = 10_000
"""Parked events that are decoded for their amounts; of more, the oldest."""

KINDS: Final = (
    "suspense",
    "quarantine",
    "unresolved",
    "proposal",
    "parked",
    "held",
    "barrier",
)
_SQL: Final = statements("open_items")


class OpenGroup(msgspec.Struct, frozen=True):
    """Everything open of one kind, reason and currency.

    `total_minor` is the sum of the amounts that are known, in minor units; `unknown_amounts` counts
    the others. `since_ms` is the time of the oldest.
    """

    kind: str
    reason: str
    currency: str | None
    count: int
    total_minor: int
    unknown_amounts: int
    since_ms: int


class OpenEntry(msgspec.Struct, frozen=True):
    """One decision that waits for a person. `amount_minor` may be unknown."""

    kind: str
    reason: str
    event_id: str
    provider: str
    brand: str
    operation: str
    provider_tx_id: str
    player_id: str | None
    currency: str | None
    amount_minor: int | None
    since_ms: int
    partition: int
    source_offset: int


class OpenWork(msgspec.Struct, frozen=True):
    """Everything that is open: groups in the order of `KINDS`, and the oldest entries."""

    groups: list[OpenGroup]
    entries: list[OpenEntry]


async def read_open_work(
    database: LedgerDatabase, *, entries_max: int, barrier_age_s: float
) -> OpenWork:
    """Return what is open, and its oldest `entries_max` decisions.

    Barriers count from an age of `barrier_age_s` on. Needs the rights of the auditor: what is
    parked holds the bytes of events.
    """
    groups = [
        OpenGroup(kind, reason, currency, count, int(total or 0), unknown, since_ms)
        for kind, reason, currency, count, total, unknown, since_ms in await database.query(
            _SQL["item_totals"]
        )
    ]
    groups += await _read_proposals(database)
    groups += await _read_parked(database)
    for topic, code, partition, waits_for, count, since_ms in await database.query(
        _SQL["held_records"]
    ):
        reason = f"{code} {topic}-{partition}@{waits_for}"
        groups.append(OpenGroup("held", reason, None, count, 0, count, since_ms))
    for number, is_of_raw, count, since_ms in await database.query(
        _SQL["barriers"], {"min_age_s": barrier_age_s}
    ):
        stage = "raw topics" if is_of_raw else "log"
        reason = f"barrier {number} before the {stage}"
        groups.append(OpenGroup("barrier", reason, None, count, 0, count, since_ms))
    groups.sort(key=lambda group: KINDS.index(group.kind))
    rows = await database.query(_SQL["items"], {"limit": entries_max})
    return OpenWork(groups, [OpenEntry(*row) for row in rows])


async def read_open_entry(database: LedgerDatabase, event_id: str) -> OpenEntry | None:
    """Return one decision that waits for a person; None if it does not."""
    rows = await database.query(_SQL["item"], {"event_id": event_id})
    return OpenEntry(*rows[0]) if rows else None


async def read_limits(database: LedgerDatabase) -> dict[str, OperatorLimit]:
    """Return what one operator may move alone, by currency."""
    rows = await database.query(_SQL["limits"])
    return {row[0]: OperatorLimit(*row) for row in rows}


async def _read_proposals(database: LedgerDatabase) -> list[OpenGroup]:
    proposals = await read_open_proposals(database)
    return _sum_up(
        ("proposal", one.act, one.currency, one.amount_minor, one.occurred_at_ms)
        for one in proposals
    )


async def _read_parked(database: LedgerDatabase) -> list[OpenGroup]:
    """Return what waits for the event that it refers to, by provider."""
    rows = await database.query(_SQL["parked"], {"limit": PARKED_MAX})
    groups = _sum_up(_parked_amount(bytes(body), since_ms) for body, since_ms, _ in rows)
    if rows and rows[0][2] > len(rows):
        left = rows[0][2] - len(rows)
        groups.append(OpenGroup("parked", "younger ones", None, left, 0, left, rows[-1][1]))
    return groups


def _parked_amount(body: bytes, since_ms: int) -> tuple[str, str, str | None, int | None, int]:
    event: WalletTransaction = codec.decoder(WalletTransaction)(body)
    leg = event.legs[0]
    amount_minor = None
    if leg.amount is not None and leg.currency is not None:
        try:
            amount_minor = minor_units(leg.amount, leg.currency)
        except Rejected:
            amount_minor = None
    return "parked", event.provider, leg.currency, amount_minor, since_ms


def _sum_up(found: Iterable[tuple[str, str, str | None, int | None, int]]) -> list[OpenGroup]:
    """Return one group for each kind, reason and currency."""
    groups: dict[tuple[Any, ...], OpenGroup] = {}
    for kind, reason, currency, amount_minor, since_ms in found:
        known = groups.get((kind, reason, currency))
        count, total, unknown = (
            (0, 0, 0) if known is None else (known.count, known.total_minor, known.unknown_amounts)
        )
        groups[kind, reason, currency] = OpenGroup(
            kind,
            reason,
            currency,
            count + 1,
            total + (amount_minor or 0),
            unknown + (amount_minor is None),
            since_ms if known is None else min(since_ms, known.since_ms),
        )
    return list(groups.values())
