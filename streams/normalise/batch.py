"""Result of a batch of raw records: events by topic, signals, dead letters, counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from runtime.dead_letters.headers import is_mark
from runtime.dead_letters.sink import Rejection
from runtime.kafka.producer import OutRecord
from runtime.kafka.records import Headers, RawRecord, readable_headers
from runtime.telemetry.traces import TRACEPARENT, find_traceparent
from schemas import codec
from schemas.errors import RejectCode
from schemas.events import (
    MarketSettlement,
    PlayerEvent,
    RiskSignal,
    SignatureVerdict,
    WalletTransaction,
)
from schemas.topics import PLAYER_EVENTS, SETTLEMENTS, SIGNALS, TRANSACTIONS, UNRESOLVED
from streams.normalise.mapping.normaliser import (
    AcceptedEvent,
    AcceptedTransaction,
    ItemResult,
    RejectedItem,
)
from streams.normalise.mapping.signals import signal_for, signal_key
from streams.normalise.stats import NormaliseStats
from streams.providers.routing import Fallback
from streams.samples import SampleOut, Sampler, write_samples

OUTPUT_TOPICS: Final = (TRANSACTIONS, UNRESOLVED, PLAYER_EVENTS, SETTLEMENTS, SIGNALS)
"""Every topic that the normaliser writes to, except the dead letter topics."""

ITEM_LETTERS_MAX: Final = 16
"""Dead letters of one record: more than the items of a provider's notice, and few enough to inspect
one by one.
"""

_INDEXES_SHOWN: Final = 5
_STALE: Final = SignatureVerdict.STALE.value


class FallbackUsed(NamedTuple):
    """An item that only another version than the expected one could read, with its record."""

    record: RawRecord
    provider: str
    fallback: Fallback
    item: AcceptedTransaction | AcceptedEvent


def operation_of(used: FallbackUsed) -> str:
    """Return the operation of an event that was read by a fallback; empty for other events."""
    item = used.item
    return item.transaction.operation if isinstance(item, AcceptedTransaction) else ""


class NormalisedBatch:
    """Result of a batch of one raw topic, in the order of the log.

    It is sent, and counted after it is durable.
    """

    def __init__(self, provider: str) -> None:
        """Make an empty one for a batch of this provider's."""
        self.outgoing: dict[str, list[OutRecord]] = {topic: [] for topic in OUTPUT_TOPICS}
        self.rejections: list[Rejection] = []
        self.fallbacks: list[FallbackUsed] = []
        self.samples: list[SampleOut] = []
        """What drift is to check, ready to be sent."""
        self._provider = provider
        self._versions: list[str] = []
        self._rejected: Counter[str] = Counter()
        self._clamped = 0
        self._records = 0

    def add_results(self, results: Iterable[tuple[RawRecord, list[ItemResult]]]) -> None:
        """Add the items of each record under the topics that they are sent to."""
        sinks = {topic: events.append for topic, events in self.outgoing.items()}
        add_version = self._versions.append
        rejected: list[RejectedItem] = []
        for record, items in results:
            self._records += 1
            headers: Headers | None = None
            for item in items:
                event: WalletTransaction | PlayerEvent | MarketSettlement
                if isinstance(item, AcceptedTransaction):
                    event = item.transaction
                elif isinstance(item, AcceptedEvent):
                    event = item.event
                else:
                    rejected.append(item)
                    continue
                if headers is None:
                    parent = find_traceparent(readable_headers(record))
                    headers = () if parent is None else [(TRACEPARENT, parent)]
                sinks[item.topic]((item.key, item.value, headers, None))
                add_version(event.provider_version)
                # Few events need this, so the others must not pay for it.
                if item.clamped or item.fallback is not None or event.signature == _STALE:
                    self._note(record, item)
            if rejected:
                self._reject(record, rejected)
                rejected = []

    def add_samples(self, records: Sequence[RawRecord], sampler: Sampler) -> None:
        """Add samples of these records, which were just added, and each new kind of fallback."""
        chosen = sampler.choose(records)
        for used in self.fallbacks:
            fallback = used.fallback
            kind = (
                used.provider,
                fallback.expected,
                fallback.used,
                fallback.code,
                operation_of(used),
            )
            if sampler.is_due(kind, used.record.timestamp):
                chosen.append(used.record)
        if chosen:
            self.samples += write_samples(one for one in chosen if not is_mark(one))

    def extend(self, later: NormalisedBatch) -> None:
        """Add the result of a later chunk of the batch, which is not changed."""
        for topic, events in later.outgoing.items():
            if events:
                self.outgoing[topic] += events
        self.rejections += later.rejections
        self.fallbacks += later.fallbacks
        self.samples += later.samples
        self._versions += later._versions
        self._rejected += later._rejected
        self._clamped += later._clamped
        self._records += later._records

    def __len__(self) -> int:
        """Return the number of records that were added."""
        return self._records

    def count_into(self, stats: NormaliseStats) -> None:
        """Add the counts of this batch to a worker's counts."""
        provider = self._provider
        versions, sent = Counter(self._versions), self.outgoing.items()
        stats.records += self._records
        stats.clamped += self._clamped
        stats.versions.update({(provider, version): count for version, count in versions.items()})
        stats.sent.update({topic: len(events) for topic, events in sent if events})
        stats.rejected.update(self._rejected)
        stats.fallbacks.update(
            (provider, used.fallback.expected, used.fallback.used) for used in self.fallbacks
        )

    def _reject(self, record: RawRecord, rejected: list[RejectedItem]) -> None:
        self._rejected.update(item.code for item in rejected)
        summary, kept = cap_rejections(rejected)
        for item in kept if summary is None else (summary, *kept):
            self.rejections.append(
                Rejection(record, item.code, item.detail, item.record_index, item.player_id)
            )
        for item in kept:
            self._signal(record, item)

    def _note(self, record: RawRecord, item: AcceptedTransaction | AcceptedEvent) -> None:
        self._clamped += item.clamped
        if item.fallback is not None:
            self.fallbacks.append(FallbackUsed(record, self._provider, item.fallback, item))
        self._signal(record, item)

    def _signal(self, record: RawRecord, item: ItemResult) -> None:
        signal = signal_for(record, item)
        if signal is not None:
            value = codec.encoder(RiskSignal)(signal)
            self.outgoing[SIGNALS].append((signal_key(signal), value, (), None))


def cap_rejections(
    rejected: Sequence[RejectedItem],
) -> tuple[RejectedItem | None, Sequence[RejectedItem]]:
    """Bound the dead letters of one record: what is received must not grow on its way to the disk.

    Returns a summary of the whole record, if it needs one, and the items that get a letter of their
    own. Up to `ITEM_LETTERS_MAX` items each get a letter. Of more, the summary counts them, under
    the most frequent code; and the first item of each code gets a letter, so that the record is
    found by any of its codes. A megabyte can hold 33,330 items, and needs no signature to have them
    rejected.
    """
    if len(rejected) <= ITEM_LETTERS_MAX:
        return None, rejected
    by_code: dict[RejectCode, list[RejectedItem]] = {}
    for item in rejected:
        by_code.setdefault(item.code, []).append(item)
    most = max(by_code, key=lambda code: len(by_code[code]))
    counts = "; ".join(
        f"{len(items):,} {code} ({_indexes(items)})" for code, items in by_code.items()
    )
    detail = f"{len(rejected):,} items cannot be used, too many for a dead letter each: {counts}"
    return RejectedItem(most, detail, None, None), [items[0] for items in by_code.values()]


def _indexes(items: Sequence[RejectedItem]) -> str:
    shown = ", ".join(str(item.record_index) for item in items[:_INDEXES_SHOWN])
    more = "" if len(items) <= _INDEXES_SHOWN else ", …"
    return f"item{'s' if len(items) > 1 else ''} {shown}{more}"
