"""The ledger against the two things that others go by: the topic of balances, and a provider's own
statement.

Pure comparisons, and the reads they need. Amounts are in minor units.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from ledger_sink.rules.journal import Wallet
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.ledger import CONSUMER
from ledger_sink.store.statements import statements
from schemas.events import Outcome, WalletBalance

_SQL: Final = statements("reconcile")
_PROBES_MAX: Final = 5_000


class BalanceFault(msgspec.Struct, frozen=True):
    """A wallet whose last balance on the topic is not the ledger's.

    MISSING: the topic has none. OLDER, NEWER: another version. DIFFERENT: the same version with
    other figures. UNKNOWN: the ledger has no such wallet. Publishing again mends MISSING, OLDER and
    DIFFERENT.
    """

    key: str
    what: Literal["MISSING", "OLDER", "NEWER", "DIFFERENT", "UNKNOWN"]
    ledger_version: int | None
    topic_version: int | None


class BalanceReport(msgspec.Struct, frozen=True):
    """What differs, how many wallets were compared, and how many are on their way to the topic just
    now.
    """

    faults: tuple[BalanceFault, ...]
    compared: int
    in_flight: int


class StatementLine(msgspec.Struct, frozen=True):
    """One line of a provider's statement; a line without an amount is only looked for."""

    event_id: str
    operation: str
    provider_tx_id: str
    currency: str | None
    amount_minor: int | None


class BookedEvent(msgspec.Struct, frozen=True):
    """The ledger's last decision about an event and what it moved between player and house."""

    event_id: str
    operation: str
    provider_tx_id: str
    player_id: str | None
    outcome: str
    reason: str
    currency: str | None
    amount_minor: int


class StatementFault(msgspec.Struct, frozen=True):
    """An item on which provider and ledger do not agree.

    MISSING: on the statement, not in the ledger. EXTRA: the reverse. DIFFERENT: another amount or
    currency. NOT_BOOKED: the ledger knows it and has moved nothing. TWICE: more than one line of
    the statement is this event.
    """

    what: Literal["MISSING", "EXTRA", "DIFFERENT", "NOT_BOOKED", "TWICE"]
    event_id: str
    operation: str
    provider_tx_id: str
    statement: str
    ledger: str


def compare_balances(
    wallets: Iterable[Wallet], balances: Mapping[str, WalletBalance], published: Mapping[int, int]
) -> BalanceReport:
    """Hold the topic's last balances against the wallets.

    `published` has to be read before the topic, and the topic before the wallets: then every wallet
    that was moved before its partition's cursor must stand on the topic as it is, and the others
    are on their way.
    """
    faults: list[BalanceFault] = []
    left = dict(balances)
    compared = in_flight = 0
    for wallet in wallets:
        key = f"{wallet.player_id}:{wallet.currency}"
        balance = left.pop(key, None)
        if wallet.source_offset >= published.get(wallet.partition, 0) and (
            balance is None or balance.version < wallet.version
        ):
            in_flight += 1
            continue
        compared += 1
        what = _difference(wallet, balance)
        if what is not None:
            faults.append(
                BalanceFault(key, what, wallet.version, balance.version if balance else None)
            )
    faults += [BalanceFault(key, "UNKNOWN", None, balance.version) for key, balance in left.items()]
    return BalanceReport(tuple(sorted(faults, key=lambda fault: fault.key)), compared, in_flight)


def _difference(
    wallet: Wallet, balance: WalletBalance | None
) -> Literal["MISSING", "OLDER", "NEWER", "DIFFERENT"] | None:
    if balance is None:
        return "MISSING"
    if balance.version != wallet.version:
        return "OLDER" if balance.version < wallet.version else "NEWER"
    ours = (
        wallet.scale,
        wallet.available_minor,
        wallet.held_minor,
        wallet.bonus_minor,
        wallet.event_id,
    )
    theirs = (
        balance.scale,
        balance.available_minor,
        balance.held_minor,
        balance.bonus_minor,
        balance.event_id,
    )
    is_sum = balance.balance_minor == balance.available_minor + balance.held_minor
    return None if ours == theirs and is_sum else "DIFFERENT"


def compare_statement(
    lines: Sequence[StatementLine], booked: Mapping[str, BookedEvent], moved: Iterable[BookedEvent]
) -> list[StatementFault]:
    """Hold a statement against what is booked of its events, and what its provider has `moved`
    against it.
    """
    faults: list[StatementFault] = []
    seen: set[str] = set()
    for line in lines:
        said = (
            ""
            if line.amount_minor is None
            else f"{line.amount_minor} {line.currency or ''}".strip()
        )
        if line.event_id in seen:
            faults.append(_fault("TWICE", line, said, ""))
            continue
        seen.add(line.event_id)
        entry = booked.get(line.event_id)
        if entry is None:
            faults.append(_fault("MISSING", line, said, ""))
        elif entry.outcome != Outcome.POSTED:
            faults.append(_fault("NOT_BOOKED", line, said, f"{entry.outcome} {entry.reason}"))
        elif line.amount_minor is not None and (
            line.amount_minor != entry.amount_minor
            or (
                line.currency is not None
                and entry.currency is not None
                and line.currency != entry.currency
            )
        ):
            faults.append(_fault("DIFFERENT", line, said, f"{entry.amount_minor} {entry.currency}"))
    faults += [
        _fault("EXTRA", entry, "", entry.player_id or "")
        for entry in moved
        if entry.event_id not in seen
    ]
    return faults


def _fault(
    what: Literal["MISSING", "EXTRA", "DIFFERENT", "NOT_BOOKED", "TWICE"],
    item: StatementLine | BookedEvent,
    statement: str,
    ledger: str,
) -> StatementFault:
    return StatementFault(
        what, item.event_id, item.operation, item.provider_tx_id, statement, ledger
    )


async def read_published(database: LedgerDatabase, topic: str) -> dict[int, int]:
    """The published cursor of each partition of the log."""
    return dict(await database.query(_SQL["published"], {"consumer": CONSUMER, "topic": topic}))


async def read_wallets(database: LedgerDatabase) -> list[Wallet]:
    """Every wallet."""
    return [Wallet(*row) for row in await database.query(_SQL["wallets"])]


async def read_booked_events(
    database: LedgerDatabase, event_ids: Sequence[str]
) -> dict[str, BookedEvent]:
    """What is booked of these events, by event id; one that the ledger does not know is not in it."""
    found: dict[str, BookedEvent] = {}
    for first in range(0, len(event_ids), _PROBES_MAX):
        wanted = list(event_ids[first : first + _PROBES_MAX])
        for row in await database.query(_SQL["booked"], {"event_ids": wanted}):
            found[row[0]] = _booked_event(row)
    return found


async def read_moved_events(
    database: LedgerDatabase,
    *,
    provider: str,
    brand: str,
    operations: Sequence[str],
    from_ms: int,
    until_ms: int,
) -> list[BookedEvent]:
    """Every event of a provider that moved money in a span of event time; reads all entries once."""
    parameters = {
        "provider": provider,
        "brand": brand,
        "operations": list(operations),
        "from_ms": from_ms,
        "until_ms": until_ms,
    }
    return [_booked_event(row) for row in await database.query(_SQL["moved_by"], parameters)]


def _booked_event(row: Sequence[Any]) -> BookedEvent:
    event_id, operation, tx_id, player_id, outcome, reason, currency, moved = row
    return BookedEvent(event_id, operation, tx_id, player_id, outcome, reason, currency, int(moved))
