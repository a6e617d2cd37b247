"""What a batch of raw records came to, sorted by where it goes: events by topic, signals, dead
letters, counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from runtime.dead_letters.sink import Rejection
from runtime.kafka.producer import OutRecord
from runtime.kafka.records import RawRecord
from schemas import codec
from schemas.events import (
    MarketSettlement,
    PlayerEvent,
    RiskSignal,
    SignatureVerdict,
    WalletTransaction,
)
from schemas.topics import PLAYER_EVENTS, SETTLEMENTS, SIGNALS, TRANSACTIONS, UNRESOLVED
from streams.normalise.mapping.cap_rejections import cap_rejections
from streams.normalise.mapping.normaliser import (
    AcceptedEvent,
    AcceptedTransaction,
    ItemResult,
    RejectedItem,
)
from streams.normalise.mapping.signals import signal_for, signal_key
from streams.normalise.stats import NormaliseStats
from streams.providers.routing import Fallback

OUTPUT_TOPICS: Final = (TRANSACTIONS, UNRESOLVED, PLAYER_EVENTS, SETTLEMENTS, SIGNALS)
"""Every topic that the normaliser writes to besides the dead letter topics."""

_STALE: Final = SignatureVerdict.STALE.value


class FallbackUsed(NamedTuple):
    """An item that another version than the expected one could read, with the record that it stands
    in.
    """

    record: RawRecord
    provider: str
    fallback: Fallback
    item: AcceptedTransaction | AcceptedEvent


class NormalisedBatch:
    """Filled in the order of the log with what a batch of one raw topic came to; sent, and counted
    once durable.
    """

    def __init__(self, provider: str) -> None:
        """Make an empty one for a batch of this provider's."""
        self.outgoing: dict[str, list[OutRecord]] = {topic: [] for topic in OUTPUT_TOPICS}
        self.rejections: list[Rejection] = []
        self.fallbacks: list[FallbackUsed] = []
        self._provider = provider
        self._versions: list[str] = []
        self._rejected: Counter[str] = Counter()
        self._clamped = 0
        self._records = 0

    def add_results(self, read: Iterable[tuple[RawRecord, list[ItemResult]]]) -> None:
        """Sort the items of each record.

        Few events are remarkable, so the others must not pay for it.
        """
        sinks = {topic: events.append for topic, events in self.outgoing.items()}
        add_version = self._versions.append
        rejected: list[RejectedItem] = []
        for record, items in read:
            self._records += 1
            for item in items:
                said: WalletTransaction | PlayerEvent | MarketSettlement
                if isinstance(item, AcceptedTransaction):
                    said = item.transaction
                elif isinstance(item, AcceptedEvent):
                    said = item.event
                else:
                    rejected.append(item)
                    continue
                sinks[item.topic]((item.key, item.value, (), None))
                add_version(said.provider_version)
                if item.clamped or item.fallback is not None or said.signature == _STALE:
                    self._remark(record, item)
            if rejected:
                self._bury(record, rejected)
                rejected = []

    def extend(self, later: NormalisedBatch) -> None:
        """Put what a later piece of the batch came to behind what is here; the piece stays as it
        is.
        """
        for topic, events in later.outgoing.items():
            if events:
                self.outgoing[topic] += events
        self.rejections += later.rejections
        self.fallbacks += later.fallbacks
        self._versions += later._versions
        self._rejected += later._rejected
        self._clamped += later._clamped
        self._records += later._records

    def __len__(self) -> int:
        """How many records were sorted into it."""
        return self._records

    def _bury(self, record: RawRecord, rejected: list[RejectedItem]) -> None:
        self._rejected.update(item.code for item in rejected)
        whole, few = cap_rejections(rejected)
        for item in few if whole is None else (whole, *few):
            self.rejections.append(
                Rejection(record, item.code, item.detail, item.record_index, item.player_id)
            )
        for item in few:
            self._signal(record, item)

    def _remark(self, record: RawRecord, item: AcceptedTransaction | AcceptedEvent) -> None:
        self._clamped += item.clamped
        if item.fallback is not None:
            self.fallbacks.append(FallbackUsed(record, self._provider, item.fallback, item))
        self._signal(record, item)

    def _signal(self, record: RawRecord, item: ItemResult) -> None:
        signal = signal_for(record, item)
        if signal is not None:
            self.outgoing[SIGNALS].append(
                (signal_key(signal), codec.encoder(RiskSignal)(signal), (), None)
            )

    def count_into(self, stats: NormaliseStats) -> None:
        """Add what is in here to a worker's counts."""
        provider = self._provider
        stats.records += self._records
        stats.clamped += self._clamped
        stats.versions.update(
            {(provider, version): times for version, times in Counter(self._versions).items()}
        )
        stats.sent.update({topic: len(events) for topic, events in self.outgoing.items() if events})
        stats.rejected.update(self._rejected)
        stats.fallbacks.update(
            (provider, fell.fallback.expected, fell.fallback.used) for fell in self.fallbacks
        )
