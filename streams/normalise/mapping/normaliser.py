"""Raw records to events of the log: pure, one record in, its items out, in order.

The dialect says what the provider meant; this adds where it came from (brand, region, attempt),
when (three clocks, one of them believed), who it is (event id), what it says (fingerprint) and
where it goes (topic, key, bytes).
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from runtime.dead_letters.headers import DROP_OF, PARKED_BEHIND, REDRIVE_OF, cause_from_headers
from runtime.kafka.records import RawRecord
from schemas import codec
from schemas.errors import RejectCode, Rejected
from schemas.events import Kind, MarketSettlement, PlayerEvent, WalletTransaction
from schemas.topics import PLAYER_EVENTS, SETTLEMENTS, TRANSACTIONS, UNRESOLVED, provider_of
from streams.normalise.mapping.cancel import CANCEL_HEADER, build_cancels, parse_cancel_header
from streams.normalise.mapping.events import (
    RecordContext,
    build_player_event,
    build_settlement,
    build_transaction,
)
from streams.normalise.mapping.operator_marks import read_drop_mark, with_cause
from streams.providers.dialect import Dialect, Draft, Headers, Item, PlayerDraft, UnreadableItem
from streams.providers.fields import received_at_of
from streams.providers.keyring import Keyring
from streams.providers.registry import Dialects, by_provider
from streams.providers.routing import Fallback, FallbacksByIndex, ProviderRouter, VersionReader

VALUE_MAX_BYTES: Final = 1_000_000
"""Of a raw value; a broker's own default (message.max.bytes) is a little above."""

DETAIL_CHARACTERS_MAX: Final = 300
BRAND_DEFAULT: Final = "default"

_WITHOUT_MONEY: Final = frozenset({Kind.INFORMATIONAL.value, Kind.HEARTBEAT.value})
_CONTEXT_TEXT_MAX: Final = 64
_CACHE_MAX: Final = 4096

Encode: TypeAlias = Callable[[WalletTransaction], bytes]


class AcceptedTransaction(msgspec.Struct, frozen=True, gc=False):
    """An event with the topic (unqualified), key and bytes it goes out with; `clamped`: its clock
    was not believed.
    """

    transaction: WalletTransaction
    topic: str
    key: bytes
    value: bytes
    clamped: bool
    fallback: Fallback | None = None


class AcceptedEvent(msgspec.Struct, frozen=True, gc=False):
    """The same for what no ledger books: something about a player, or a market that a feed has
    settled.
    """

    event: PlayerEvent | MarketSettlement
    topic: str
    key: bytes
    value: bytes
    clamped: bool
    fallback: Fallback | None = None


class RejectedItem(msgspec.Struct, frozen=True, gc=False):
    """What a dead letter has to say; `record_index` is None where the whole record is unusable."""

    code: RejectCode
    detail: str
    record_index: int | None
    player_id: str | None


ItemResult: TypeAlias = AcceptedTransaction | AcceptedEvent | RejectedItem
"""What became of one item of a raw record."""

_Said: TypeAlias = tuple[RecordContext, VersionReader, list[Item], FallbacksByIndex]
_Made: TypeAlias = tuple[
    Callable[..., AcceptedTransaction | AcceptedEvent],
    Callable[[Any], bytes],
    Any,
    str,
    bytes,
    bool,
    Fallback | None,
    int,
]
"""An event still to be written: what it becomes, what writes it, itself, where it goes, and which
item it is.
"""


class Normaliser:
    """Reads raw records of every provider that it has a dialect for, each version beside the
    others.
    """

    def __init__(
        self, dialects: Mapping[str, Dialect], keyring: Keyring, encode: Encode | None = None
    ) -> None:
        """`keyring` holds key material by provider; one without an entry is not checked.

        Raises UsageError for key material that cannot be used.
        """
        known = dialects if isinstance(dialects, Dialects) else by_provider(dialects.values())
        self._speakers = {
            name: ProviderRouter(known.versions(name), keyring.get(name)) for name in known
        }
        self._by_topic: dict[str, ProviderRouter] = {}
        self._origins: dict[tuple[bytes | None, bytes | None], tuple[str, str]] = {}
        self._encode: Encode = encode or codec.encoder(WalletTransaction)

    def normalise(self, record: RawRecord) -> list[ItemResult]:
        """The record's items in the order of its body; it raises nothing, whatever the bytes."""
        return [self._written(item) for item in self._made(self._read(record))]

    def normalise_all(self, records: Sequence[RawRecord]) -> list[list[ItemResult]]:
        """The same for each record, all of them going through each step together: the code of one
        stays in the caches.

        Of hundreds at a time, what a step made has left them when the next one comes
        (docs/adr/0011).
        """
        read = [self._read(record) for record in records]
        made = [self._made(said) for said in read]
        return [[self._written(item) for item in items] for items in made]

    def _read(self, record: RawRecord) -> _Said | RejectedItem:
        try:
            speaker = self._by_topic.get(record.topic) or self._speaker(record.topic)
            _check_usable(record)
            headers = dict(record.headers)
            where = headers.get("brand"), headers.get("region")
            brand, region = self._origins.get(where) or self._origin(where)
            context = RecordContext(record, brand, region, received_at_of(headers))
            voice, items, fallen = _reading(speaker, record, headers)
            cancel = headers.get(CANCEL_HEADER)
            if cancel is not None:
                items = build_cancels(items, parse_cancel_header(cancel, record))
            if REDRIVE_OF in headers or PARKED_BEHIND in headers:
                items = with_cause(items, cause_from_headers(headers, record))
        except Rejected as error:
            return _rejected(error, None)
        except Exception as error:
            return _rejected(_failure(record, error), None)
        return context, voice, items, fallen

    def _made(self, said: _Said | RejectedItem) -> list[_Made | RejectedItem]:
        if isinstance(said, RejectedItem):
            return [said]
        context, voice, items, fallen = said
        if fallen:
            return [
                self._item(context, index, item, *fallen.get(index, (voice, None)))
                for index, item in enumerate(items)
            ]
        if (
            len(items) == 1
        ):  # most records, and the way of those through a loop is a fiftieth of their cost
            return [self._item(context, 0, items[0], voice, None)]
        return [self._item(context, index, item, voice, None) for index, item in enumerate(items)]

    def _item(
        self,
        context: RecordContext,
        index: int,
        item: Item,
        voice: VersionReader,
        fallback: Fallback | None,
    ) -> _Made | RejectedItem:
        if isinstance(item, Rejected):
            return _rejected(item, index)
        try:
            if isinstance(item, Draft):
                topic, key = _route(item)
                transaction, clamped = build_transaction(context, voice, index, item)
                return (
                    AcceptedTransaction,
                    self._encode,
                    transaction,
                    topic,
                    key,
                    clamped,
                    fallback,
                    index,
                )
            if isinstance(item, PlayerDraft):
                event, clamped = build_player_event(context, voice, index, item)
                key = item.player_id.encode()
                return (
                    AcceptedEvent,
                    _encode_player_event,
                    event,
                    PLAYER_EVENTS,
                    key,
                    clamped,
                    fallback,
                    index,
                )
            settlement, clamped = build_settlement(context, voice, index, item)
            key = item.match_id.encode()
        except Rejected as error:
            return _rejected(error, index)
        return (
            AcceptedEvent,
            _encode_settlement,
            settlement,
            SETTLEMENTS,
            key,
            clamped,
            fallback,
            index,
        )

    @staticmethod
    def _written(made: _Made | RejectedItem) -> ItemResult:
        if isinstance(made, RejectedItem):
            return made
        result, encode, event, topic, key, clamped, fallback, index = made
        try:
            return result(event, topic, key, encode(event), clamped, fallback)
        except Rejected as error:
            return _rejected(error, index)

    def _speaker(self, topic: str) -> ProviderRouter:
        try:
            speaker = self._by_topic[topic] = self._speakers[provider_of(topic)]
        except (ValueError, KeyError):
            raise Rejected(RejectCode.UNKNOWN_PROVIDER, f"no dialect speaks on {topic!r}") from None
        return speaker

    def _origin(self, said: tuple[bytes | None, bytes | None]) -> tuple[str, str]:
        """Brand and region as text: few different pairs, decoded and checked once."""
        brand, region = said
        origin = (
            _context_text(brand) if brand else BRAND_DEFAULT,
            _context_text(region) if region else "",
        )
        if len(self._origins) >= _CACHE_MAX:
            self._origins.clear()
        self._origins[said] = origin
        return origin


def _reading(
    speaker: ProviderRouter, record: RawRecord, headers: Headers
) -> tuple[VersionReader, list[Item], FallbacksByIndex]:
    sole = speaker.only_version
    if DROP_OF in headers:
        return speaker.expected_reader(record, headers), read_drop_mark(record, headers), {}
    # Where there is one version there is nothing to choose, and no event has to pay for choosing.
    return speaker.read(record, headers) if sole is None else (sole, sole.read(record, headers), {})


def _encode_player_event(event: PlayerEvent) -> bytes:
    # Asked for when the first one comes: a worker that never meets one compiles nothing for it.
    return codec.encoder(PlayerEvent)(event)


def _encode_settlement(settlement: MarketSettlement) -> bytes:
    return codec.encoder(MarketSettlement)(settlement)


def _check_usable(record: RawRecord) -> None:
    if not record.value:
        raise Rejected(RejectCode.MALFORMED, "the record has no value")
    if len(record.value) > VALUE_MAX_BYTES:
        raise Rejected(
            RejectCode.TOO_LARGE, f"{len(record.value)} bytes; {VALUE_MAX_BYTES} are allowed"
        )
    if record.timestamp < 0:
        raise Rejected(RejectCode.BAD_TIME, "the broker gave the record no timestamp")


def _route(draft: Draft) -> tuple[str, bytes]:
    """Topic and key. Money without a player goes to the resolver, beside what it refers to."""
    if draft.player_id is not None:
        return TRANSACTIONS, draft.player_id.encode()
    if all(leg.kind in _WITHOUT_MONEY for leg in draft.legs):
        return TRANSACTIONS, draft.provider_tx_id.encode()
    if draft.reference is None:
        raise Rejected(RejectCode.MISSING_FIELD, "neither a player nor a reference: nobody's money")
    return UNRESOLVED, draft.reference.tx_id.encode()


def _failure(record: RawRecord, error: Exception) -> Rejected:
    # Not the error's text: it may quote a secret of the body.
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{type(error).__name__} in {place.name}, line {place.lineno}"
    return Rejected(
        RejectCode.DIALECT_FAILED, f"the dialect of {provider_of(record.topic)} failed: {where}"
    )


def _rejected(error: Rejected, index: int | None) -> RejectedItem:
    detail = error.detail[:DETAIL_CHARACTERS_MAX]
    if not detail.isprintable():
        detail = ascii(detail)
    player_id = error.player_id if isinstance(error, UnreadableItem) else None
    return RejectedItem(error.reason, detail, index, player_id)


def _context_text(raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise Rejected(RejectCode.BAD_FIELD, "the headers brand and region must be UTF-8") from None
    if len(text) > _CONTEXT_TEXT_MAX or not text.isprintable():
        raise Rejected(
            RejectCode.BAD_FIELD, "the headers brand and region must be short and printable"
        )
    return text
