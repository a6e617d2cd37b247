"""A wallet's past from the ledger's own rows: its balances at any position, and what moved them.

Every query is a probe of a table's key, so it costs the same in the first month and in the tenth
year; but those of a round without its player and of refused events read all entries. Money is in
minor units with the currency's number of decimals beside it, times are epoch milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final, LiteralString, NoReturn

import msgspec

from ledger_sink.queries.report import bounds_of
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.statements import statements
from schemas.errors import UsageError

_SQL: Final = statements("history")
LAST_VERSION: Final = 2**63 - 1


class MonthAway(UsageError):
    """The rows that a question needs are in a month that was moved away from the tables."""

    code: ClassVar[str] = "MONTH_AWAY"


class WalletAt(msgspec.Struct, frozen=True):
    """A wallet after one transfer.

    `available` is cash and bonus, `balance` is all three.
    """

    currency: str
    scale: int
    version: int
    cash_minor: int
    bonus_minor: int
    held_minor: int
    event_id: str
    partition: int = msgspec.field(name="part")
    source_offset: int

    @property
    def available_minor(self) -> int:
        """Money that may be bet."""
        return self.cash_minor + self.bonus_minor

    @property
    def balance_minor(self) -> int:
        """All of the player's money in this currency."""
        return self.available_minor + self.held_minor


class Movement(msgspec.Struct, frozen=True):
    """One transfer of a wallet, the wallet after it, and the event that caused it."""

    version: int
    debit: str
    credit: str
    amount_minor: int
    cash_minor: int
    bonus_minor: int
    held_minor: int
    event_id: str
    partition: int = msgspec.field(name="part")
    source_offset: int
    occurred_at: int
    kind: str
    provider: str
    operation: str
    provider_tx_id: str
    round_id: str | None
    outcome: str
    reason: str


class DecisionMovement(msgspec.Struct, frozen=True):
    """One movement of a decision."""

    version: int
    debit: str
    credit: str
    amount_minor: int
    cash_minor: int
    bonus_minor: int
    held_minor: int


class EventDecision(msgspec.Struct, frozen=True):
    """One decision about an event, with what it moved in the player's wallet."""

    event_id: str
    decision: int
    brand: str
    provider: str
    provider_version: str
    region: str
    operation: str
    provider_tx_id: str
    kind: str
    player_id: str | None
    round_id: str | None
    game_id: str | None
    reference_event_id: str | None
    attempt_topic: str
    attempt_partition: int = msgspec.field(name="attempt_part")
    attempt_offset: int
    attempt_index: int
    partition: int = msgspec.field(name="part")
    source_offset: int
    occurred_at: int
    outcome: str
    reason: str
    currency: str | None
    available_minor: int | None
    version: int | None
    transfers: int
    moved: tuple[DecisionMovement, ...] = ()


class RefusedEvent(msgspec.Struct, frozen=True):
    """One decision that refused an event. It moved nothing: its amount is in its event only."""

    event_id: str
    decision: int
    provider: str
    operation: str
    provider_tx_id: str
    kind: str
    round_id: str | None
    game_id: str | None
    partition: int = msgspec.field(name="part")
    source_offset: int
    occurred_at: int
    outcome: str
    reason: str
    currency: str | None
    available_minor: int | None


class EventClosing(msgspec.Struct, frozen=True):
    """The event that has closed an event, and how."""

    player_id: str
    action: str
    by_event_id: str
    partition: int = msgspec.field(name="part")
    source_offset: int


class RepeatedAttempt(msgspec.Struct, frozen=True):
    """A further attempt of an event and the answer to it."""

    attempt_topic: str
    attempt_partition: int = msgspec.field(name="attempt_part")
    attempt_offset: int
    attempt_index: int
    partition: int = msgspec.field(name="part")
    source_offset: int
    outcome: str
    reason: str
    redelivered: bool


class EventHistory(msgspec.Struct, frozen=True):
    """Everything that the ledger holds about one event."""

    decisions: tuple[EventDecision, ...]
    closed_by: tuple[EventClosing, ...]
    repeats: tuple[RepeatedAttempt, ...]


class RoundEvent(msgspec.Struct, frozen=True):
    """One decision about an event of a round; `closed` is how the event was closed since."""

    event_id: str
    decision: int
    provider: str
    operation: str
    provider_tx_id: str
    kind: str
    player_id: str | None
    partition: int = msgspec.field(name="part")
    source_offset: int
    occurred_at: int
    outcome: str
    reason: str
    currency: str | None
    available_minor: int | None
    version: int | None
    transfers: int
    round_closed: bool
    closed: str | None


async def current_wallets(database: LedgerDatabase, player_id: str) -> list[WalletAt]:
    """Return a player's wallets as they are now, by currency."""
    return await _read(database, _SQL["wallets"], WalletAt, player=player_id)


async def wallets_before(
    database: LedgerDatabase, player_id: str, next_offset: int
) -> list[WalletAt]:
    """Return a player's wallets once the log was booked up to an offset, which is not included.

    The offset is one of the player's partition. Raises MonthAway where a wallet may have had a
    version that is not in the tables: an error is better than an answer that lacks a wallet or
    states an older balance.
    """
    columns = {"player": player_id, "next_offset": next_offset}
    rows = await database.query(_SQL["wallets_at"], columns)
    for is_known, currency, _, version, *_ in rows:
        if not is_known:
            await _raise_month_away(database, f"{player_id}:{currency}", version)
    return [WalletAt(*wallet) for _, *wallet in rows if wallet[2]]


async def _raise_month_away(database: LedgerDatabase, wallet: str, version: int) -> NoReturn:
    away = [str(month) for (month,) in await database.query(_SQL["months_away"])]
    where = f"wallet {wallet}: its movement after version {version} is not in the tables"
    if not away:
        raise MonthAway(f"{where}, and no month was moved away: run `pitboss ledger verify`")
    raise MonthAway(
        f"{where}: that month is away. `pitboss ledger months back` brings it back; away:"
        f" {', '.join(away)}"
    )


async def movements(
    database: LedgerDatabase,
    player_id: str,
    currency: str,
    *,
    before_version: int = LAST_VERSION,
    since_ms: int | None = None,
    until_ms: int | None = None,
    kinds: Sequence[str] = (),
    count: int = 50,
) -> list[Movement]:
    """Return at most `count` movements of a wallet before a version, newest first.

    Of events from `since_ms` on and before `until_ms`, by event time, and of these kinds, if there
    are any. A refused event moves nothing, so it is not among them: see `refused_events`.
    """
    from_ms, to_ms = bounds_of(since_ms, until_ms)
    return await _read(
        database,
        _SQL["movements"],
        Movement,
        player=player_id,
        currency=currency,
        before=before_version,
        since_ms=from_ms,
        until_ms=to_ms,
        kinds=list(kinds) or None,
        count=count,
    )


async def event_history(
    database: LedgerDatabase, event_id: str, *, repeats_max: int = 100
) -> EventHistory:
    """Return every decision about an event, what it moved, what closed it, and its repeats.

    Empty for an unknown event.
    """
    decisions = [
        msgspec.structs.replace(decision, moved=tuple(await _moved_by(database, decision)))
        for decision in await _read(database, _SQL["entries"], EventDecision, event_id=event_id)
    ]
    closings = await _read(database, _SQL["closings"], EventClosing, event_id=event_id)
    repeats = await _read(
        database, _SQL["repeats"], RepeatedAttempt, event_id=event_id, count=repeats_max
    )
    return EventHistory(tuple(decisions), tuple(closings), tuple(repeats))


async def operations_of(database: LedgerDatabase, provider: str) -> list[str]:
    """Return the operations of a provider that the ledger has decided, in alphabetical order.

    Of many entries, those among the first.
    """
    rows = await database.query(_SQL["operations"], {"provider": provider})
    return [operation for (operation,) in rows]


async def round_events(
    database: LedgerDatabase,
    round_id: str,
    *,
    provider: str | None = None,
    player_id: str | None = None,
    count: int = 1_000,
) -> list[RoundEvent]:
    """Return the events that name a round, in the order of the log within a partition.

    With a player only what moved that player's money, by key; without one all entries are read.
    """
    if player_id is not None:
        return await _read(
            database,
            _SQL["round_of_player"],
            RoundEvent,
            round_id=round_id,
            provider=provider,
            player=player_id,
            count=count,
        )
    columns = {"round_id": round_id, "provider": provider, "count": count}
    return await _read_all(database, _SQL["round"], RoundEvent, **columns)


async def refused_events(
    database: LedgerDatabase,
    player_id: str,
    *,
    currency: str | None = None,
    since_ms: int | None = None,
    until_ms: int | None = None,
    kinds: Sequence[str] = (),
    count: int = 50,
) -> list[RefusedEvent]:
    """Return at most `count` events of a player that the ledger refused, newest first.

    Of a span of event time, of one currency, and of these kinds, if they are given. It reads all
    entries.
    """
    from_ms, to_ms = bounds_of(since_ms, until_ms)
    return await _read_all(
        database,
        _SQL["refused"],
        RefusedEvent,
        player=player_id,
        currency=currency,
        since_ms=from_ms,
        until_ms=to_ms,
        kinds=list(kinds) or None,
        count=count,
    )


async def _moved_by(database: LedgerDatabase, decision: EventDecision) -> list[DecisionMovement]:
    if not decision.transfers or decision.version is None or decision.player_id is None:
        return []
    return await _read(
        database,
        _SQL["movements_of"],
        DecisionMovement,
        player=decision.player_id,
        currency=decision.currency,
        event_id=decision.event_id,
        decision=decision.decision,
        first=decision.version - decision.transfers + 1,
        last=decision.version,
    )


async def _read(
    database: LedgerDatabase, statement: LiteralString, row: type[Any], **parameters: Any
) -> list[Any]:
    """Return the rows of a statement as values of a type."""
    return [row(*values) for values in await database.query(statement, parameters)]


async def _read_all(
    database: LedgerDatabase, statement: LiteralString, row: type[Any], **parameters: Any
) -> list[Any]:
    """Do as `_read`, for a statement that reads a whole table and may take its time."""
    async with database.transaction() as connection:
        await connection.execute("SET LOCAL statement_timeout = 0")
        cursor = await connection.execute(statement, parameters)
        return [row(*values) for values in await cursor.fetchall()]
