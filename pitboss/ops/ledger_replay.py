"""The ledger as of a moment, rebuilt beside the live one and compared with it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from ledger_sink.store.database import LedgerDatabase
from pitboss.embedded.databases import create_database, drop_database
from pitboss.ops.rebind import open_mapped
from pitboss.settings import Runtime, runtime_of
from replay.ledger.comparison import LedgerComparison, RowDifference, compare_ledgers
from replay.ledger.rebuild import (
    SQL,
    LedgerPrefix,
    RebuildCounts,
    ShowBatches,
    read_prefix,
    rebuild_ledger,
)
from replay.log.blocks import LogSource
from replay.raw.recompute import EXAMPLES, EventRecomputer, Recomputation, find_without_twin
from runtime.postgres.roles import Role
from schemas import codec
from schemas.errors import Rejected
from schemas.events import WalletTransaction
from schemas.topics import TRANSACTIONS, UNRESOLVED
from streams.normalise.mapping.normaliser import Normaliser
from streams.providers.registry import policies

_COMPARING_MAX_S: Final = 24 * 3600.0


class EventBehind(msgspec.Struct, frozen=True):
    """The record of the log that a differing row was booked from."""

    place: str
    event: WalletTransaction | None
    """None for a record that cannot be read, or is gone."""


class CurrencyTotal(msgspec.Struct, frozen=True):
    """Sums of the rebuilt wallets of one currency, in minor units, as texts of any length."""

    currency: str
    wallets: int
    cash_minor: str
    bonus_minor: str
    held_minor: str


class LedgerReplay(msgspec.Struct, frozen=True):
    """Result of a rebuilt ledger."""

    identical: bool
    at_ms: int | None
    batches: int
    events: int
    unreadable: int
    ends: dict[int, int]
    comparison: LedgerComparison
    events_behind: list[EventBehind]
    totals: list[CurrencyTotal]
    database: str | None
    """Database that holds the rebuilt ledger, if it was kept."""
    from_raw: Recomputation | None = None
    """What came of computing the events again, where that was wanted."""


class RawReading(msgspec.Struct, frozen=True):
    """How raw records are read again, for a ledger of recomputed events."""

    without_keys: Normaliser
    """For records whose events the log has, with the verdicts about their signatures."""
    with_keys: Normaliser
    """For records without an event: those are looked at for the first time."""
    raw_topics: list[str]
    """Their names on the broker."""


async def replay_ledger_to(
    runtime: Runtime,
    source: LogSource,
    at_ms: int | None,
    *,
    keep: bool = False,
    progress: ShowBatches = lambda _, __: None,
    begin: Callable[[str], None] = lambda _: None,
    raw: RawReading | None = None,
) -> LedgerReplay:
    """Rebuild the ledger as of a moment (None: now) and compare it with the live one.

    With `raw`, each event has the content that its raw record has now.

    The rebuilt one is in a database of its own, which is dropped unless `keep`. `begin` is told
    each step. Raises as `replay.ledger`.
    """
    topic = runtime.topic(TRANSACTIONS)
    live = LedgerDatabase(
        runtime.database_url,
        "pitboss.replay",
        role=Role.AUDITOR,
        silence_max_s=_COMPARING_MAX_S,
    )
    try:
        source = await open_mapped(runtime, live, source)
        cuts = None if at_ms is None else source.first_at(topic, at_ms)
        prefix = await read_prefix(live, topic, cuts)
        again = None if raw is None else EventRecomputer(source, raw.without_keys)
        with _shadow(runtime, keep=keep) as shadow:
            begin("booking the log again")
            counts = await rebuild_ledger(
                shadow.database_url,
                source,
                topic,
                prefix,
                policies(),
                progress,
                None if again is None else again.recompute,
            )
            begin("comparing it with the live ledger")
            comparison, totals = await _compare(live, shadow, prefix)
            behind = _read_behind(source, topic, comparison.differences)
            kept = shadow.database if keep else None
            result = _result(at_ms, prefix, counts, comparison, behind, totals, kept)
        if raw is None or again is None:
            return result
        _add_without_twin(runtime, source, raw, again, at_ms, begin)
        return msgspec.structs.replace(result, from_raw=again.result)
    finally:
        await live.close()


def _add_without_twin(
    runtime: Runtime,
    source: LogSource,
    raw: RawReading,
    again: EventRecomputer,
    at_ms: int | None,
    begin: Callable[[str], None],
) -> None:
    """List the raw records that neither the log nor the unresolved topic has events of."""
    decode = codec.decoder(WalletTransaction)
    unresolved = runtime.topic(UNRESOLVED)
    for partition, (first, end) in source.bounds(unresolved).items():
        for block in source.read(unresolved, partition, first, end):
            for value in block.values:
                try:
                    attempt = decode(value or b"").attempt
                except Rejected:
                    continue
                place = (attempt.topic, attempt.partition, attempt.offset)
                again.seen.setdefault(place, set()).add(attempt.record_index)
    until_ms = time.time_ns() // 1_000_000 if at_ms is None else at_ms
    for one in find_without_twin(
        source, raw.with_keys, raw.raw_topics, again.seen, until_ms, begin
    ):
        again.result.without_twin += 1
        if len(again.result.twinless) < EXAMPLES:
            again.result.twinless.append(one)


def _result(
    at_ms: int | None,
    prefix: LedgerPrefix,
    counts: RebuildCounts,
    comparison: LedgerComparison,
    behind: list[EventBehind],
    totals: list[CurrencyTotal],
    database: str | None,
) -> LedgerReplay:
    return LedgerReplay(
        identical=comparison.differing == 0,
        at_ms=at_ms,
        batches=counts.batches,
        events=counts.events,
        unreadable=counts.unreadable,
        ends=prefix.ends,
        comparison=comparison,
        events_behind=behind,
        totals=totals,
        database=database,
    )


async def _compare(
    live: LedgerDatabase, shadow: Runtime, prefix: LedgerPrefix
) -> tuple[LedgerComparison, list[CurrencyTotal]]:
    rebuilt = LedgerDatabase(
        shadow.database_url,
        "pitboss.replay",
        role=Role.AUDITOR,
        silence_max_s=_COMPARING_MAX_S,
    )
    try:
        comparison = await compare_ledgers(live, rebuilt, prefix)
        totals = [CurrencyTotal(*row) for row in await rebuilt.query(SQL["totals"])]
    finally:
        await rebuilt.close()
    return comparison, totals


@contextmanager
def _shadow(runtime: Runtime, *, keep: bool) -> Iterator[Runtime]:
    """Create a database for one rebuilt ledger, and drop it unless it is kept."""
    name = f"replay_{secrets.token_hex(6)}"
    shadow = runtime_of(runtime.broker, runtime.database_url, name)
    create_database(shadow)
    is_complete = False
    try:
        yield shadow
        is_complete = True
    finally:
        if not (keep and is_complete):
            drop_database(shadow)


def _read_behind(
    source: LogSource, topic: str, differences: Collection[RowDifference], most: int = 100
) -> list[EventBehind]:
    places = dict.fromkeys(one.place for one in differences if one.place is not None)
    decode = codec.decoder(WalletTransaction)
    found = []
    for partition, offset in [*places][:most]:
        values: list[Any] = [
            value
            for block in source.read(topic, partition, offset, offset + 1)
            for value in block.values
        ]
        try:
            event = decode(values[0]) if values else None
        except Rejected:
            event = None
        found.append(EventBehind(f"{topic}-{partition}@{offset}", event))
    return found
