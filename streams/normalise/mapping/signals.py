"""Risk signals of the normaliser, from the signatures of records.

One wrong signature is a broken proxy or a stale key; many are an attempt to guess keys. So each is
sent to `risk.signals.v1`, beside the dead letter or the event, and a detector interprets it.
"""

from __future__ import annotations

from typing import Final

from runtime.kafka.records import RawRecord, readable_headers
from schemas.errors import RejectCode
from schemas.events import Position, RiskSignal, SignalKind, SignatureVerdict
from schemas.identity import signal_id
from schemas.topics import provider_of
from streams.normalise.mapping.normaliser import (
    BRAND_DEFAULT,
    AcceptedTransaction,
    ItemResult,
    RejectedItem,
)
from streams.providers.fields import received_at_of

ATTRIBUTE_CHARACTERS_MAX: Final = 200
_STALE: Final = SignatureVerdict.STALE.value
_HEADERS_KEPT: Final = ("connector", "http-path")


def signal_for(record: RawRecord, item: ItemResult) -> RiskSignal | None:
    """Return the signal of an item: a wrong signature, or one from outside its window; else None.

    `occurred_at` is the connector's time, else the broker's: the provider's own time is in doubt.
    """
    if isinstance(item, RejectedItem):
        if item.code is not RejectCode.BAD_SIGNATURE:
            return None
        kind, attributes = SignalKind.BAD_SIGNATURE, {"detail": item.detail}
        return _signal(record, kind, item.record_index, item.player_id, attributes)
    event = item.transaction if isinstance(item, AcceptedTransaction) else item.event
    if event.signature != _STALE:
        return None
    player_id = None if not hasattr(event, "player_id") else event.player_id
    kind, attributes = SignalKind.STALE_SIGNATURE, {"event_id": event.event_id}
    return _signal(record, kind, event.attempt.record_index, player_id, attributes)


def signal_key(signal: RiskSignal) -> bytes:
    """Return the key of the signal's record: the provider for a wrong signature, else the player.

    All wrong signatures of a provider are in one partition, where they are counted; the player that
    such a record names is not to be believed. Without a player it is the provider.
    """
    if signal.kind == SignalKind.BAD_SIGNATURE:
        return signal.provider.encode()
    return (signal.player_id or signal.provider).encode()


def _signal(
    record: RawRecord,
    kind: SignalKind,
    index: int | None,
    player_id: str | None,
    attributes: dict[str, str],
) -> RiskSignal:
    headers = dict(readable_headers(record))
    source = Position(record.topic, record.partition, record.offset)
    attributes |= {name: _printable(headers[name]) for name in _HEADERS_KEPT if headers.get(name)}
    return RiskSignal(
        signal_id(kind, source, index),
        kind.value,
        provider_of(record.topic),
        _printable(headers.get("brand")) or BRAND_DEFAULT,
        source,
        index,
        player_id,
        min(received_at_of(headers) or record.timestamp, record.timestamp),
        attributes,
    )


def _printable(raw: bytes | None) -> str:
    """Return a header as short printable text: nothing of such a record is trusted."""
    text = (raw or b"")[:ATTRIBUTE_CHARACTERS_MAX].decode("utf-8", "replace")
    return text if text.isprintable() else ascii(text)
