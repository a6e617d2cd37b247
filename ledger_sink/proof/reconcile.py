"""The ledger compared with the topic of balances and with a provider's own statement.

Pure comparisons, and the reads that they need. Amounts are in minor units.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from ledger_sink.rules.journal import Wallet
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import CONSUMER
from ledger_sink.store.statements import statements
from schemas.events import Outcome, WalletBalance

_SQL: Final = statements("reconcile")
_PROBES_MAX: Final = 5_000

BalanceFaultKind = Literal["MISSING", "OLDER", "NEWER", "DIFFERENT", "UNKNOWN"]
StatementFaultKind = Literal["MISSING", "EXTRA", "DIFFERENT", "NOT_BOOKED", "TWICE"]


class BalanceFault(msgspec.Struct, frozen=True):
    """A wallet whose last balance on the topic is not the ledger's.

    - MISSING: the topic has none.
    - OLDER, NEWER: another version.
    - DIFFERENT: the same version with other figures.
    - UNKNOWN: the ledger has no such wallet.

    Publishing again repairs MISSING, OLDER and DIFFERENT.
    """

    key: str
    what: BalanceFaultKind
    ledger_version: int | None
    topic_version: int | None


class BalanceReport(msgspec.Struct, frozen=True):
    """Differences, and how many wallets were compared and are on their way to the topic."""

    faults: tuple[BalanceFault, ...]
    compared: int
    in_flight: int


class StatementLine(msgspec.Struct, frozen=True):
    """One line of a provider's statement; of a line without an amount only the event is checked."""

    event_id: str
    operation: str
    provider_tx_id: str
    currency: str | None
    amount_minor: int | None


class BookedEvent(msgspec.Struct, frozen=True):
    """The ledger's last decision about an event, and what it moved between player and house."""

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

    - MISSING: on the statement, not in the ledger. EXTRA: the reverse.
    - DIFFERENT: another amount or currency.
    - NOT_BOOKED: the ledger knows it and has moved nothing.
    - TWICE: more than one line of the statement is this event.
    """

    what: StatementFaultKind
    event_id: str
    operation: str
    provider_tx_id: str
    statement: str
    ledger: str


def compare_balances(
    wallets: Iterable[Wallet],
    balances: Mapping[str, WalletBalance],
    published: Mapping[int, int],
) -> BalanceReport:
    """Compare the topic's last balances, by key, with the wallets.

    `published`, the cursor of each partition, has to be read before the topic, and the topic before
    the wallets: then every wallet that was moved before its partition's cursor must be on the topic
    as it is, and the others are on their way.
    """
    faults: list[BalanceFault] = []
    left = dict(balances)
    compared = in_flight = 0
    for wallet in wallets:
        key = f"{wallet.player_id}:{wallet.currency}"
        balance = left.pop(key, None)
        is_unpublished = wallet.source_offset >= published.get(wallet.partition, 0)
        if is_unpublished and (balance is None or balance.version < wallet.version):
            in_flight += 1
            continue
        compared += 1
        what = _difference(wallet, balance)
        if what is not None:
            topic_version = balance.version if balance else None
            faults.append(BalanceFault(key, what, wallet.version, topic_version))
    faults += [BalanceFault(key, "UNKNOWN", None, balance.version) for key, balance in left.items()]
    return BalanceReport(tuple(sorted(faults, key=lambda fault: fault.key)), compared, in_flight)


def _difference(wallet: Wallet, balance: WalletBalance | None) -> BalanceFaultKind | None:
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
    lines: Sequence[StatementLine],
    booked: Mapping[str, BookedEvent],
    moved: Iterable[BookedEvent],
) -> list[StatementFault]:
    """Compare a statement with the ledger, both ways.

    `booked`: what is booked of the statement's events, by event id. `moved`: every event of the
    provider that moved money in the statement's span; those that no line names are EXTRA.
    """
    faults: list[StatementFault] = []
    seen: set[str] = set()
    for line in lines:
        amount = "" if line.amount_minor is None else f"{line.amount_minor} {line.currency or ''}"
        statement = amount.strip()
        if line.event_id in seen:
            faults.append(_fault("TWICE", line, statement, ""))
            continue
        seen.add(line.event_id)
        entry = booked.get(line.event_id)
        if entry is None:
            faults.append(_fault("MISSING", line, statement, ""))
        elif entry.outcome != Outcome.POSTED:
            ledger = f"{entry.outcome} {entry.reason}"
            faults.append(_fault("NOT_BOOKED", line, statement, ledger))
        elif _differs(line, entry):
            ledger = f"{entry.amount_minor} {entry.currency}"
            faults.append(_fault("DIFFERENT", line, statement, ledger))
    faults += [
        _fault("EXTRA", entry, "", entry.player_id or "")
        for entry in moved
        if entry.event_id not in seen
    ]
    return faults


def _differs(line: StatementLine, entry: BookedEvent) -> bool:
    """Return whether a line's amount or currency is another; one that is not stated is not."""
    if line.amount_minor is None:
        return False
    currencies = (line.currency, entry.currency)
    return line.amount_minor != entry.amount_minor or (
        None not in currencies and line.currency != entry.currency
    )


def _fault(
    what: StatementFaultKind, item: StatementLine | BookedEvent, statement: str, ledger: str
) -> StatementFault:
    return StatementFault(
        what, item.event_id, item.operation, item.provider_tx_id, statement, ledger
    )


async def read_published(database: LedgerDatabase, topic: str) -> dict[int, int]:
    """Return the published cursor of each partition of the log."""
    return dict(await database.query(_SQL["published"], {"consumer": CONSUMER, "topic": topic}))


async def read_wallets(database: LedgerDatabase) -> list[Wallet]:
    """Return every wallet."""
    return [Wallet(*row) for row in await database.query(_SQL["wallets"])]


async def read_booked_events(
    database: LedgerDatabase, event_ids: Sequence[str]
) -> dict[str, BookedEvent]:
    """Return what is booked of these events, by event id; without those the ledger has not."""
    booked: dict[str, BookedEvent] = {}
    for first in range(0, len(event_ids), _PROBES_MAX):
        wanted = list(event_ids[first : first + _PROBES_MAX])
        for row in await database.query(_SQL["booked"], {"event_ids": wanted}):
            booked[row[0]] = _booked_event(row)
    return booked


async def read_moved_events(
    database: LedgerDatabase,
    *,
    provider: str,
    brand: str,
    operations: Sequence[str],
    from_ms: int,
    until_ms: int,
) -> list[BookedEvent]:
    """Return every event of a provider that moved money in a span of event time.

    The end is not included. Reads all entries once; `amount_minor` is 0 in the result.
    """
    columns = {
        "provider": provider,
        "brand": brand,
        "operations": list(operations),
        "from_ms": from_ms,
        "until_ms": until_ms,
    }
    return [_booked_event(row) for row in await database.query(_SQL["moved_by"], columns)]


def _booked_event(row: Sequence[Any]) -> BookedEvent:
    event_id, operation, tx_id, player_id, outcome, reason, currency, moved = row
    return BookedEvent(event_id, operation, tx_id, player_id, outcome, reason, currency, int(moved))
