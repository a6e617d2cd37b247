"""What a batch of raw records came to, sorted by where it goes: events by topic, signals, dead letters, counts."""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

from schemas import codec
from schemas.events import RiskSignal, SignatureVerdict
from schemas.topics import PLAYER_EVENTS, SETTLEMENTS, SIGNALS, TRANSACTIONS, UNRESOLVED
from streams.kafka.dead_letters import Burial
from streams.kafka.producer import OutRecord
from streams.normalise.normaliser import Accepted, RejectedItem, Reported, Result
from streams.normalise.signals import key_of, signal_of
from streams.normalise.stats import NormaliseStats
from streams.providers.dialect import RawRecord
from streams.providers.routing import Fallback

SENT_TO: Final = (TRANSACTIONS, UNRESOLVED, PLAYER_EVENTS, SETTLEMENTS, SIGNALS)
"""Every topic that the normaliser writes to besides the dead letter topics."""

_STALE: Final = SignatureVerdict.STALE.value


class FellBack(NamedTuple):
    """An item that another version than the expected one could read, with the record that it stands in."""

    record: RawRecord
    provider: str
    fallback: Fallback
    item: Accepted | Reported


class Pile:
    """Filled item by item, in the order of the log; then sent, and counted once it is durable."""

    def __init__(self) -> None:
        """Make an empty one."""
        self.outgoing: dict[str, list[OutRecord]] = {topic: [] for topic in SENT_TO}
        self.burials: list[Burial] = []
        self.fallbacks: list[FellBack] = []
        self._versions: Counter[tuple[str, str]] = Counter()
        self._clamped = 0
        self._records = 0

    def add(self, record: RawRecord, items: list[Result]) -> None:
        """Sort the items of one record."""
        self._records += 1
        for item in items:
            if isinstance(item, RejectedItem):
                self.burials.append(Burial(record, item.code, item.detail, item.record_index, item.player_id))
                self._signal(record, item)
                continue
            said = item.transaction if isinstance(item, Accepted) else item.event
            self.outgoing[item.topic].append((item.key, item.value, (), None))
            self._versions[said.provider, said.provider_version] += 1
            self._clamped += item.clamped
            if said.signature == _STALE:
                self._signal(record, item)
            if item.fallback is not None:
                self.fallbacks.append(FellBack(record, said.provider, item.fallback, item))

    def _signal(self, record: RawRecord, item: Result) -> None:
        signal = signal_of(record, item)
        if signal is not None:
            self.outgoing[SIGNALS].append((key_of(signal), codec.encoder(RiskSignal)(signal), (), None))

    def count(self, stats: NormaliseStats) -> None:
        """Add what is in here to a worker's counts."""
        stats.records += self._records
        stats.clamped += self._clamped
        stats.versions.update(self._versions)
        stats.sent.update({topic: len(events) for topic, events in self.outgoing.items() if events})
        stats.rejected.update(burial.code for burial in self.burials)
        stats.fallbacks.update((fell.provider, fell.fallback.expected, fell.fallback.used) for fell in self.fallbacks)
