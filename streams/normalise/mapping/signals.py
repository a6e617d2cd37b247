"""Risk signals of the normaliser: what a record's signature says of whoever sent it.

One wrong signature is a broken proxy or a stale key; many are somebody trying keys. So each is told
to `risk.signals.v1`, beside the dead letter or the event, and what to make of them is a detector's
business.
"""

from __future__ import annotations

from typing import Final

from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode
from schemas.events import Position, RiskSignal, SignalKind, SignatureVerdict
from schemas.identity import signal_id
from schemas.topics import provider_of
from streams.normalise.mapping.normaliser import (
    BRAND_DEFAULT,
    AcceptedEvent,
    AcceptedTransaction,
    RejectedItem,
)
from streams.providers.fields import received_at_of

ATTRIBUTE_CHARACTERS_MAX: Final = 200
_STALE: Final = SignatureVerdict.STALE.value
_HEADERS_TOLD: Final = ("connector", "http-path")


def signal_for(
    record: RawRecord, item: AcceptedTransaction | AcceptedEvent | RejectedItem
) -> RiskSignal | None:
    """What this item of a record is to risk; None for all but a wrong signature and one from
    outside its window.

    `occurred_at` is the connector's time, else the broker's: the provider's own is what is in
    doubt.
    """
    if isinstance(item, RejectedItem):
        if item.code is not RejectCode.BAD_SIGNATURE:
            return None
        return _signal(
            record,
            SignalKind.BAD_SIGNATURE,
            item.record_index,
            item.player_id,
            {"detail": item.detail},
        )
    said = item.transaction if isinstance(item, AcceptedTransaction) else item.event
    if said.signature != _STALE:
        return None
    player_id = None if not hasattr(said, "player_id") else said.player_id
    return _signal(
        record,
        SignalKind.STALE_SIGNATURE,
        said.attempt.record_index,
        player_id,
        {"event_id": said.event_id},
    )


def signal_key(signal: RiskSignal) -> bytes:
    """The key of the signal's record: the player, else the provider."""
    return (signal.player_id or signal.provider).encode()


def _signal(
    record: RawRecord,
    kind: SignalKind,
    index: int | None,
    player_id: str | None,
    attributes: dict[str, str],
) -> RiskSignal:
    headers = dict(record.headers)
    source = Position(record.topic, record.partition, record.offset)
    attributes |= {name: _shown(headers[name]) for name in _HEADERS_TOLD if headers.get(name)}
    return RiskSignal(
        signal_id(kind, source, index),
        kind.value,
        provider_of(record.topic),
        _shown(headers.get("brand")) or BRAND_DEFAULT,
        source,
        index,
        player_id,
        min(received_at_of(headers) or record.timestamp, record.timestamp),
        attributes,
    )


def _shown(raw: bytes | None) -> str:
    """A header as short printable text, whatever its bytes: nothing about this record is trusted."""
    text = (raw or b"")[:ATTRIBUTE_CHARACTERS_MAX].decode("utf-8", "replace")
    return text if text.isprintable() else ascii(text)
