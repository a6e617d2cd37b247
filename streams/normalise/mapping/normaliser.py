"""Raw records to events of the log: pure, one record in, its items out, in order.

The main road is route → read → build → encode:

- route: the provider's versions that read the topic, and the headers' brand, region and receipt;
- read: the dialect returns what the provider meant as drafts;
- build: `events` adds the identity, the fingerprint, the believed time and the attempt;
- encode: topic, key and Avro bytes.

A record with an operator mark (drop, cancel, redrive, parked) branches off before it is read
(`operator_marks`).
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Final, TypeAlias

import msgspec

from runtime.dead_letters.headers import DROP_OF
from runtime.kafka.records import RawRecord
from schemas import codec
from schemas.errors import RejectCode, Rejected
from schemas.events import Kind, MarketSettlement, PlayerEvent, WalletTransaction
from schemas.topics import PLAYER_EVENTS, SETTLEMENTS, TRANSACTIONS, UNRESOLVED, provider_of
from streams.normalise.mapping.brands import BrandsByProvider, check_brand
from streams.normalise.mapping.events import (
    RecordContext,
    build_player_event,
    build_settlement,
    build_transaction,
)
from streams.normalise.mapping.grouping import group_transactions
from streams.normalise.mapping.operator_marks import OPERATOR_MARKS, read_marked
from streams.providers.dialect import Dialect, Draft, Headers, Item, PlayerDraft, UnreadableItem
from streams.providers.fields import received_at_of
from streams.providers.groups import indexes_by_group, reject_broken_groups
from streams.providers.keyring import Keyring
from streams.providers.registry import Dialects, by_provider
from streams.providers.routing import Fallback, FallbacksByIndex, ProviderRouter, VersionReader

VALUE_MAX_BYTES: Final = 1_000_000
"""Of a raw value; a broker's own default (message.max.bytes) is a little above."""

DETAIL_CHARACTERS_MAX: Final = 300
BRAND_DEFAULT: Final = "default"

_WITHOUT_PLAYER: Final = frozenset(
    {
        Kind.INFORMATIONAL.value,
        Kind.HEARTBEAT.value,
        Kind.SUSPENSE_RETURN.value,
        Kind.ANSWER.value,
        Kind.PROPOSAL.value,
        Kind.OPERATOR_LIMIT.value,
        Kind.QUARANTINE.value,
    }
)
_CONTEXT_TEXT_MAX: Final = 64
_CACHE_MAX: Final = 4096
_NO_FALLBACKS: Final[FallbacksByIndex] = {}

Encode: TypeAlias = Callable[[WalletTransaction], bytes]


class AcceptedTransaction(msgspec.Struct, frozen=True, gc=False):
    """A transaction with the topic (unqualified), key and bytes that it goes out with.

    `clamped`: its clock was not believed. `fallback`: another version than the expected one read
    it.
    """

    transaction: WalletTransaction
    topic: str
    key: bytes
    value: bytes
    clamped: bool
    fallback: Fallback | None = None


class AcceptedEvent(msgspec.Struct, frozen=True, gc=False):
    """The same for an event that no ledger books: of a player, or a market's settlement."""

    event: PlayerEvent | MarketSettlement
    topic: str
    key: bytes
    value: bytes
    clamped: bool
    fallback: Fallback | None = None


class RejectedItem(msgspec.Struct, frozen=True, gc=False):
    """The content of a dead letter; `record_index` is None where the whole record is unusable."""

    code: RejectCode
    detail: str
    record_index: int | None
    player_id: str | None


ItemResult: TypeAlias = AcceptedTransaction | AcceptedEvent | RejectedItem
"""Result of one item of a raw record."""


class Normaliser:
    """Reads raw records of every provider that has a dialect, in each of its versions."""

    def __init__(
        self,
        dialects: Mapping[str, Dialect],
        keyring: Keyring,
        encode: Encode | None = None,
        *,
        brands: BrandsByProvider | None = None,
    ) -> None:
        """Prepare the versions of each dialect.

        Signatures of a provider without an entry in `keyring` are not checked. Once `brands` names
        any, a record without one of its provider's is rejected. Raises UsageError for key material
        that cannot be used.
        """
        self._brands = brands or {}
        self._listed: set[tuple[str, bytes | None]] = set()
        """Topics with the brands that their records may have, as far as such records came."""
        known = dialects if isinstance(dialects, Dialects) else by_provider(dialects.values())
        self._routers = {
            name: ProviderRouter(known.versions(name), keyring.get(name)) for name in known
        }
        self._by_topic: dict[str, ProviderRouter] = {}
        self._origins: dict[tuple[bytes | None, bytes | None], tuple[str, str]] = {}
        self._encode: Encode = encode or codec.encoder(WalletTransaction)

    def normalise(self, record: RawRecord) -> list[ItemResult]:
        """Return the record's items in the order of its body.

        Raises nothing, whatever the bytes.
        """
        try:
            router, headers, context = self._route(record)
            if OPERATOR_MARKS.isdisjoint(headers):
                reader, items, fallbacks = _read(router, record, headers)
            else:
                reader, items, fallbacks = read_marked(router, record, headers)
        except Rejected as error:
            return [_reject(error, None)]
        except Exception as error:  # noqa: BLE001 - one provider's record must not stop the others
            return [_reject(_failure(record, error), None)]
        if len(items) == 1 and not fallbacks:
            # Most records, and a loop would be a twentieth of their cost.
            return [self._build_and_encode(context, 0, items[0], reader, None)]
        if fallbacks:
            results = [
                self._build_and_encode(context, index, item, *fallbacks.get(index, (reader, None)))
                for index, item in enumerate(items)
            ]
        else:
            results = [
                self._build_and_encode(context, index, item, reader, None)
                for index, item in enumerate(items)
            ]
        for indexes in indexes_by_group(items).values():
            grouped = self._group([results[index] for index in indexes], indexes)
            for index, result in zip(indexes, grouped, strict=True):
                results[index] = result
        return results

    def _group(self, results: Sequence[ItemResult], indexes: Sequence[int]) -> list[ItemResult]:
        """Return the events of one group with the group in each, or all of them rejected."""
        accepted: list[AcceptedTransaction] = []
        for result in results:
            if not isinstance(result, AcceptedTransaction):
                return _reject_all(result, indexes)
            accepted.append(result)
        try:
            return [
                msgspec.structs.replace(
                    one, transaction=transaction, value=self._encode(transaction)
                )
                for one, transaction in zip(
                    accepted, group_transactions([one.transaction for one in accepted]), strict=True
                )
            ]
        except Rejected as error:
            return _reject_all(_reject(error, None), indexes)

    def _route(self, record: RawRecord) -> tuple[ProviderRouter, Headers, RecordContext]:
        router = self._by_topic.get(record.topic) or self._router(record.topic)
        value = record.value
        if not value or len(value) > VALUE_MAX_BYTES or record.timestamp < 0:
            raise _unusable(record)
        headers = dict(record.headers)
        names = headers.get("brand"), headers.get("region")
        brand, region = self._origins.get(names) or self._origin(names)
        if self._brands and (record.topic, names[0]) not in self._listed and DROP_OF not in headers:
            check_brand(self._brands, provider_of(record.topic), brand if names[0] else None)
            self._listed.add((record.topic, names[0]))
        return router, headers, RecordContext(record, brand, region, received_at_of(headers))

    def _build_and_encode(
        self,
        context: RecordContext,
        index: int,
        item: Item,
        reader: VersionReader,
        fallback: Fallback | None,
    ) -> ItemResult:
        if isinstance(item, Rejected):
            return _reject(item, index)
        try:
            if isinstance(item, Draft):
                topic, key = _destination(item)
                transaction, clamped = build_transaction(context, reader, index, item)
                value = self._encode(transaction)
                return AcceptedTransaction(transaction, topic, key, value, clamped, fallback)
            if isinstance(item, PlayerDraft):
                event, clamped = build_player_event(context, reader, index, item)
                key, value = item.player_id.encode(), self._encode_player_event(event)
                return AcceptedEvent(event, PLAYER_EVENTS, key, value, clamped, fallback)
            settlement, clamped = build_settlement(context, reader, index, item)
            key, value = item.match_id.encode(), self._encode_settlement(settlement)
            return AcceptedEvent(settlement, SETTLEMENTS, key, value, clamped, fallback)
        except Rejected as error:
            return _reject(error, index)

    # Compiled for the first event: most workers' providers send none of these.
    @cached_property
    def _encode_player_event(self) -> Callable[[PlayerEvent], bytes]:
        return codec.encoder(PlayerEvent)

    @cached_property
    def _encode_settlement(self) -> Callable[[MarketSettlement], bytes]:
        return codec.encoder(MarketSettlement)

    def _router(self, topic: str) -> ProviderRouter:
        try:
            router = self._by_topic[topic] = self._routers[provider_of(topic)]
        except (ValueError, KeyError):
            raise Rejected(RejectCode.UNKNOWN_PROVIDER, f"no dialect reads {topic!r}") from None
        return router

    def _origin(self, names: tuple[bytes | None, bytes | None]) -> tuple[str, str]:
        """Return brand and region as text: few different pairs, whose texts are kept."""
        brand, region = names
        origin = (
            _context_text(brand) if brand else BRAND_DEFAULT,
            _context_text(region) if region else "",
        )
        if len(self._origins) >= _CACHE_MAX:
            self._origins.clear()
        self._origins[names] = origin
        return origin


def _read(
    router: ProviderRouter, record: RawRecord, headers: Headers
) -> tuple[VersionReader, list[Item], FallbacksByIndex]:
    reader = router.only_version
    # Where there is one version there is nothing to choose, and no event pays for choosing.
    if reader is None:
        reader, items, fallbacks_by_index = router.read_plainly(record, headers)
        if len(items) > 1:
            items = reject_broken_groups(items)
        return reader, items, fallbacks_by_index
    items = reader.read(record, headers)
    if len(items) > 1:
        items = reject_broken_groups(items)
    return reader, items, _NO_FALLBACKS


def _unusable(record: RawRecord) -> Rejected:
    if not record.value:
        return Rejected(RejectCode.MALFORMED, "the record has no value")
    if len(record.value) > VALUE_MAX_BYTES:
        return Rejected(
            RejectCode.TOO_LARGE, f"{len(record.value)} bytes; {VALUE_MAX_BYTES} are allowed"
        )
    return Rejected(RejectCode.BAD_TIME, "the broker gave the record no timestamp")


def _destination(draft: Draft) -> tuple[str, bytes]:
    """Return topic and key.

    Money without a player is sent to the resolver, under the key of its reference.
    """
    if draft.player_id is not None:
        return TRANSACTIONS, draft.player_id.encode()
    for leg in draft.legs:
        if leg.kind not in _WITHOUT_PLAYER:
            break
    else:
        return TRANSACTIONS, draft.provider_tx_id.encode()
    if draft.reference is None or draft.reference.other_operations:
        raise Rejected(
            RejectCode.MISSING_FIELD,
            "neither a player nor a reference to one event: the money has no owner",
        )
    return UNRESOLVED, draft.reference.tx_id.encode()


def _failure(record: RawRecord, error: Exception) -> Rejected:
    # Not the error's text: it may quote a secret of the body.
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{type(error).__name__} in {place.name}, line {place.lineno}"
    provider = provider_of(record.topic)
    return Rejected(RejectCode.DIALECT_FAILED, f"the dialect of {provider} failed: {where}")


def _reject(error: Rejected, index: int | None) -> RejectedItem:
    detail = error.detail[:DETAIL_CHARACTERS_MAX]
    if not detail.isprintable():
        detail = ascii(detail)
    player_id = error.player_id if isinstance(error, UnreadableItem) else None
    return RejectedItem(error.reason, detail, index, player_id)


def _reject_all(result: ItemResult, indexes: Sequence[int]) -> list[ItemResult]:
    """Return every event of a group as rejected for the one that is."""
    assert isinstance(result, RejectedItem)
    return [msgspec.structs.replace(result, record_index=index) for index in indexes]


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
