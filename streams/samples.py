"""Samples: the few raw records that the normaliser hands to the drift worker, and their form.

A sample is the raw record, byte for byte, on `schema.samples.v1`; three headers of ours say where
it is from. The choice depends on positions and on the broker's times only. It needs no clock, and a
batch that is repeated gives nearly the same samples; drift publishes a shape once, whatever comes
twice. Pure.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar
from zlib import crc32

from runtime.dead_letters.headers import format_position, parse_position
from runtime.kafka.records import RawRecord, readable_headers
from schemas.events import Position

R = TypeVar("R", bound=RawRecord)

SAMPLE_OF: Final = "sample-of"
"""Position of the raw record, `<topic>-<partition>@<offset>`."""
APPENDED_AT: Final = "sample-appended-at"
"""The broker's time of the raw record, epoch ms."""

QUIET_MS: Final = 10_000
"""The first record of a partition after so long is sampled whatever the rate, so a provider that
sends little is checked as a whole."""

BYTES_MAX: Final = 512 * 1024
"""Larger records are not sampled: with the headers, a sample has to fit one batch."""

_HASHES: Final = 2**32
_KEYS_MAX: Final = 10_000

SampleOut = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes | None]], int | None]
"""Key, value, headers and time, as the producer takes them."""


@dataclass(frozen=True)
class SampledRecord:
    """A raw record that was sampled, as `RawRecord` describes it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class Sampler:
    """Chooses about `rate` of the records, 0 to 1, and what has not been seen for a while."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._bound = int(rate * _HASHES)
        self._last_ms: dict[Hashable, int] = {}

    def choose(self, records: Sequence[R]) -> list[R]:
        """Return the samples among records of one partition, in their order.

        None at rate 0.
        """
        if not records or self._rate <= 0:
            return []
        first, bound = records[0], self._bound
        chosen = [
            record
            for record in records
            if crc32(record.offset.to_bytes(8, "big"), record.partition) < bound
        ]
        place = first.topic, first.partition
        if chosen:
            self._last_ms[place] = chosen[-1].timestamp
        elif self.is_due(place, first.timestamp):
            chosen.append(first)
        return chosen

    def is_due(self, key: Hashable, at_ms: int) -> bool:
        """Return whether nothing was sampled under a key for QUIET_MS; if so, note the time."""
        last_ms = self._last_ms.get(key)
        if last_ms is not None and last_ms <= at_ms < last_ms + QUIET_MS:
            return False
        if len(self._last_ms) >= _KEYS_MAX:
            self._last_ms.clear()
        self._last_ms[key] = at_ms
        return True


def write_sample(record: RawRecord) -> SampleOut | None:
    """Return the record of the topic of samples; None where it would be too large."""
    received = readable_headers(record)
    size = len(record.key or b"") + len(record.value or b"")
    size += sum(len(name) + len(value or b"") for name, value in received)
    if size > BYTES_MAX:
        return None
    position = format_position(Position(record.topic, record.partition, record.offset))
    headers = [
        *received,
        (SAMPLE_OF, position.encode()),
        (APPENDED_AT, str(record.timestamp).encode()),
    ]
    return record.key, record.value, headers, None


def write_samples(records: Iterable[RawRecord]) -> list[SampleOut]:
    """Return the records of the topic of samples, each raw record once."""
    by_place = {(one.topic, one.partition, one.offset): one for one in records}
    return [sample for sample in map(write_sample, by_place.values()) if sample is not None]


def read_sample(record: RawRecord) -> SampledRecord | None:
    """Return the raw record that a sample holds; None for a record of another form."""
    headers = readable_headers(record)
    own = dict(headers[-2:])
    position = parse_position((own.get(SAMPLE_OF) or b"").decode("utf-8", "replace"))
    appended = own.get(APPENDED_AT) or b""
    if position is None or not appended.isdigit():
        return None
    return SampledRecord(
        position.topic,
        position.partition,
        position.offset,
        int(appended),
        record.key,
        record.value,
        headers[:-2],
    )
