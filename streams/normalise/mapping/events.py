"""Drafts to events of our own topics: adds an event's origin, its time and its identity.

Three clocks are kept and one is believed: the provider's, else the connector's, else the broker's.
The believed time is never after the broker's append and never further before it than the dialect's
tolerance.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from runtime.kafka.records import RawRecord
from schemas.events import Attempt, MarketSettlement, PlayerEvent, TimeSource, WalletTransaction
from schemas.identity import FINGERPRINT_VERSION, event_id, fingerprint
from streams.providers.dialect import Draft, MarketDraft, PlayerDraft
from streams.providers.routing import VersionReader

Event: TypeAlias = WalletTransaction | PlayerEvent | MarketSettlement

_PROVIDER = TimeSource.PROVIDER.value
_CONNECTOR = TimeSource.CONNECTOR.value
_BROKER = TimeSource.BROKER.value


class RecordContext(msgspec.Struct, frozen=True, gc=False):
    """Fields shared by a raw record's items; `received_at` is the connector's clock, epoch ms."""

    record: RawRecord
    brand: str
    region: str
    received_at: int | None


EventTime: TypeAlias = tuple[int, str, bool]
"""The believed time, its source, and whether it had to be moved to be believed.

A bare tuple: each event has one, and a named one would cost as much as the rest of it.
"""


def event_time(context: RecordContext, tolerance_ms: int, provider_at: int | None) -> EventTime:
    """Return the event time in epoch ms, clamped to [append - tolerance, append]."""
    appended_at = context.record.timestamp
    occurred_at, source = appended_at, _BROKER
    if provider_at is not None:
        occurred_at, source = provider_at, _PROVIDER
    elif context.received_at is not None:
        occurred_at, source = context.received_at, _CONNECTOR
    if appended_at - tolerance_ms <= occurred_at <= appended_at:
        return occurred_at, source, False
    return min(max(occurred_at, appended_at - tolerance_ms), appended_at), source, True


def build_transaction(
    context: RecordContext, reader: VersionReader, index: int, draft: Draft
) -> tuple[WalletTransaction, bool]:
    """Return the event of `wallet.transactions.v1`, and whether its clock was not believed."""
    record, brand = context.record, context.brand
    occurred_at, time_source, clamped = event_time(context, reader.tolerance_ms, draft.provider_at)
    transaction = WalletTransaction(
        event_id(brand, reader.provider, draft.operation, draft.provider_tx_id),
        brand,
        reader.provider,
        reader.version,
        context.region,
        draft.operation,
        draft.provider_tx_id,
        Attempt(record.topic, record.partition, record.offset, index),
        draft.player_id,
        draft.legs,
        draft.reference,
        draft.round_id,
        draft.round_closed,
        draft.game_id,
        occurred_at,
        time_source,
        draft.provider_at,
        context.received_at,
        record.timestamp,
        fingerprint(draft.player_id, draft.legs, draft.reference, draft.round_id, draft.game_id),
        FINGERPRINT_VERSION,
        draft.signature,
        draft.decision_required,
        draft.cause,
        None,
        draft.is_billable,
    )
    return transaction, clamped


def build_player_event(
    context: RecordContext, reader: VersionReader, index: int, draft: PlayerDraft
) -> tuple[PlayerEvent, bool]:
    """Return the event of `player.events.v1`, and whether its clock was not believed."""
    record, brand = context.record, context.brand
    occurred_at, time_source, clamped = event_time(context, reader.tolerance_ms, draft.provider_at)
    event = PlayerEvent(
        event_id(brand, reader.provider, draft.operation, draft.provider_event_id),
        brand,
        reader.provider,
        reader.version,
        context.region,
        draft.operation,
        draft.provider_event_id,
        Attempt(record.topic, record.partition, record.offset, index),
        draft.player_id,
        draft.type,
        draft.attributes,
        occurred_at,
        time_source,
        draft.provider_at,
        context.received_at,
        record.timestamp,
        draft.signature,
        draft.scope,
    )
    return event, clamped


def build_settlement(
    context: RecordContext, reader: VersionReader, index: int, draft: MarketDraft
) -> tuple[MarketSettlement, bool]:
    """Return the event of `sports.settlements.v1`, and whether its clock was not believed."""
    record, brand = context.record, context.brand
    occurred_at, time_source, clamped = event_time(context, reader.tolerance_ms, draft.provider_at)
    provider_event_id = settlement_id(draft)
    settlement = MarketSettlement(
        event_id(brand, reader.provider, draft.operation, provider_event_id),
        brand,
        reader.provider,
        reader.version,
        context.region,
        draft.operation,
        provider_event_id,
        Attempt(record.topic, record.partition, record.offset, index),
        draft.match_id,
        draft.market_id,
        draft.specifiers,
        draft.outcome_id,
        draft.action,
        draft.result,
        draft.void_factor,
        draft.dead_heat_factor,
        draft.certainty,
        draft.from_at,
        draft.until_at,
        occurred_at,
        time_source,
        draft.provider_at,
        context.received_at,
        record.timestamp,
        draft.signature,
        draft.void_reason,
        draft.superseded_by,
    )
    return settlement, clamped


def settlement_id(draft: MarketDraft) -> str:
    """Return an id for a settlement of a feed without ids.

    It consists of match, market, specifiers, outcome and the settlement's own time.

    Each field has its length before it, so that no two markets have the same text; the operation is
    a field of the event id anyway. A settlement that comes live and again confirmed has two times:
    two events, which the reader counts as one.
    """
    at = "" if draft.provider_at is None else str(draft.provider_at)
    fields = (draft.match_id, draft.market_id, draft.specifiers, draft.outcome_id or "", at)
    return "|".join([f"{len(text)}:{text}" for text in fields])
