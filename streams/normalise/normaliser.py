"""Raw records to events of the log: pure, one record in, its items out, in order.

The dialect says what the provider meant; this adds where it came from (brand, region, attempt), when (three
clocks, one of them believed), who it is (event id), what it says (fingerprint) and where it goes (topic, key, bytes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypeAlias

import msgspec

from schemas import codec
from schemas.errors import RejectCode, Rejected
from schemas.events import Attempt, Kind, TimeSource, WalletTransaction
from schemas.identity import FINGERPRINT_VERSION, event_id, fingerprint
from schemas.topics import TRANSACTIONS, UNRESOLVED, provider_of
from streams.normalise.cancel import CANCEL_HEADER, cancelled_attempt, cancels
from streams.providers.dialect import Dialect, Draft, KeyMaterial, RawRecord, Reader, Unreadable

VALUE_MAX_BYTES: Final = 1_000_000
"""Of a raw value; a broker's own default (message.max.bytes) is a little above."""

DETAIL_MAX: Final = 300
BRAND_DEFAULT: Final = "default"

_WITHOUT_MONEY: Final = frozenset({Kind.INFORMATIONAL.value, Kind.HEARTBEAT.value})
_PROVIDER: Final = TimeSource.PROVIDER.value
_CONNECTOR: Final = TimeSource.CONNECTOR.value
_BROKER: Final = TimeSource.BROKER.value
_CONTEXT_TEXT_MAX: Final = 64
_CACHE_MAX: Final = 4096

Encode: TypeAlias = Callable[[WalletTransaction], bytes]


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """An event with the topic (unqualified), key and bytes it goes out with; `clamped`: its clock was not believed."""

    transaction: WalletTransaction
    topic: str
    key: bytes
    value: bytes
    clamped: bool


class RejectedItem(msgspec.Struct, frozen=True, gc=False):
    """What a dead letter has to say; `record_index` is None where the whole record is unusable."""

    code: RejectCode
    detail: str
    record_index: int | None
    player_id: str | None


class _Voice(NamedTuple):
    """What a raw topic's records have in common."""

    read: Reader
    provider: str
    version: str
    tolerance_ms: int


class _Context(msgspec.Struct, frozen=True, gc=False):
    """What the items of one record have in common."""

    record: RawRecord
    voice: _Voice
    brand: str
    region: str
    received_at: int | None


class Normaliser:
    """Reads raw records of every provider that it has a dialect for."""

    def __init__(
        self,
        dialects: Mapping[str, Dialect],
        keyring: Mapping[str, KeyMaterial],
        encode: Encode | None = None,
    ) -> None:
        """`keyring` holds key material by provider; one without an entry is not checked.

        Raises UsageError for key material that cannot be used.
        """
        self._by_provider = {
            name: _Voice(dialect.reader(keyring.get(name)), name, dialect.version, dialect.time_tolerance_ms)
            for name, dialect in dialects.items()
        }
        self._by_topic: dict[str, _Voice] = {}
        self._texts: dict[bytes, str] = {}
        self._encode: Encode = encode or codec.encoder(WalletTransaction)

    def normalise(self, record: RawRecord) -> list[Accepted | RejectedItem]:
        """The record's items in the order of its body; it raises nothing, whatever the bytes."""
        try:
            voice = self._by_topic.get(record.topic) or self._voice(record.topic)
            _check_usable(record)
            headers = dict(record.headers)
            context = _Context(
                record,
                voice,
                self._text(headers.get("brand"), BRAND_DEFAULT),
                self._text(headers.get("region"), ""),
                _received_at(headers.get("received-at")),
            )
            items = voice.read(record, headers)
            cancel = headers.get(CANCEL_HEADER)
            if cancel is not None:
                items = cancels(items, cancelled_attempt(cancel, record))
        except Rejected as error:
            return [_rejected(error, None)]
        return [self._item(context, index, item) for index, item in enumerate(items)]

    def _item(self, context: _Context, index: int, item: Draft | Rejected) -> Accepted | RejectedItem:
        if isinstance(item, Rejected):
            return _rejected(item, index)
        try:
            topic, key = _route(item)
            transaction, clamped = _completed(context, index, item)
            return Accepted(transaction, topic, key, self._encode(transaction), clamped)
        except Rejected as error:
            return _rejected(error, index)

    def _voice(self, topic: str) -> _Voice:
        try:
            voice = self._by_topic[topic] = self._by_provider[provider_of(topic)]
        except (ValueError, KeyError):
            raise Rejected(RejectCode.UNKNOWN_PROVIDER, f"no dialect speaks on {topic!r}") from None
        return voice

    def _text(self, raw: bytes | None, default: str) -> str:
        """A header of few different values as text, decoded and checked once."""
        if not raw:
            return default
        text = self._texts.get(raw)
        if text is None:
            text = _context_text(raw)
            if len(self._texts) >= _CACHE_MAX:
                self._texts.clear()
            self._texts[raw] = text
        return text


def _check_usable(record: RawRecord) -> None:
    if not record.value:
        raise Rejected(RejectCode.MALFORMED, "the record has no value")
    if len(record.value) > VALUE_MAX_BYTES:
        raise Rejected(RejectCode.TOO_LARGE, f"{len(record.value)} bytes; {VALUE_MAX_BYTES} are allowed")
    if record.timestamp < 0:
        raise Rejected(RejectCode.BAD_TIME, "the broker gave the record no timestamp")


def _completed(context: _Context, index: int, draft: Draft) -> tuple[WalletTransaction, bool]:
    record, voice, brand, received_at = context.record, context.voice, context.brand, context.received_at
    appended_at = record.timestamp
    occurred_at, source = appended_at, _BROKER
    if draft.provider_at is not None:
        occurred_at, source = draft.provider_at, _PROVIDER
    elif received_at is not None:
        occurred_at, source = received_at, _CONNECTOR
    believed = min(max(occurred_at, appended_at - voice.tolerance_ms), appended_at)
    transaction = WalletTransaction(
        event_id(brand, voice.provider, draft.operation, draft.provider_tx_id),
        brand,
        voice.provider,
        voice.version,
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
        believed,
        source,
        draft.provider_at,
        received_at,
        appended_at,
        fingerprint(draft.player_id, draft.legs, draft.reference, draft.round_id, draft.game_id),
        FINGERPRINT_VERSION,
        draft.signature,
        draft.decision_required,
        draft.cause,
    )
    return transaction, believed != occurred_at


def _route(draft: Draft) -> tuple[str, bytes]:
    """Topic and key. Money without a player goes to the resolver, beside what it refers to."""
    if draft.player_id is not None:
        return TRANSACTIONS, draft.player_id.encode()
    if all(leg.kind in _WITHOUT_MONEY for leg in draft.legs):
        return TRANSACTIONS, draft.provider_tx_id.encode()
    if draft.reference is None:
        raise Rejected(RejectCode.MISSING_FIELD, "neither a player nor a reference: nobody's money")
    return UNRESOLVED, draft.reference.tx_id.encode()


def _rejected(error: Rejected, index: int | None) -> RejectedItem:
    detail = error.detail[:DETAIL_MAX]
    if not detail.isprintable():
        detail = ascii(detail)
    player_id = error.player_id if isinstance(error, Unreadable) else None
    return RejectedItem(error.reason, detail, index, player_id)


def _received_at(raw: bytes | None) -> int | None:
    if raw is None:
        return None
    if not raw.isdigit() or len(raw) > 15:
        raise Rejected(RejectCode.BAD_TIME, "the header received-at is not epoch milliseconds")
    return int(raw)


def _context_text(raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise Rejected(RejectCode.BAD_FIELD, "the headers brand and region must be UTF-8") from None
    if len(text) > _CONTEXT_TEXT_MAX or not text.isprintable():
        raise Rejected(RejectCode.BAD_FIELD, "the headers brand and region must be short and printable")
    return text
