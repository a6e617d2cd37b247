"""Publishes unusable records to their source's dead letter topic: byte for byte, with the reason.

A record may have several letters, one for each item that is unusable. Its bytes are in the first of
them and in no other, so that what is written grows with what was received and not with its square.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from runtime.kafka.producer import BatchProducer, OutRecord, TooLarge
from runtime.kafka.records import RawRecord, readable_headers
from runtime.telemetry.samples import MetricSample, count_samples
from schemas import codec
from schemas.errors import InvariantBroken, RejectCode
from schemas.events import DeadLetter, Header, Position
from schemas.topics import dead_letter_topic

DETAIL_CHARACTERS_MAX: Final = 2_000

BYTES_AT_ONCE: Final = 4_000_000
"""Of records whose letters are encoded and sent together: four batches of the producer's, each
copied once or twice."""

ENVELOPE_BYTES: Final = 400
"""Approximate size of a letter without its record and its detail."""

KEY_BYTES_MAX: Final = 1_024
"""Of a key in a letter without its record's bytes. Providers' keys are ids; a longer one is treated
like the value."""


UNSIGNED_CODES: Final = frozenset({RejectCode.BAD_SIGNATURE, RejectCode.MISSING_SIGNATURE})
"""Of records that nothing shows to be their provider's."""

UNCHECKED_CODES: Final = UNSIGNED_CODES | {
    RejectCode.MALFORMED,
    RejectCode.TOO_LARGE,
    RejectCode.BAD_HEADER,
}
"""Of records whose signature was not good, or could not be looked at."""

UNSIGNED_BYTES_PER_H: Final = 64 * 1024 * 1024
"""Of such records in letters, per source topic and worker: 1.5 GB a day at most. What is above is
found in the raw topic."""

HEAD_BYTES: Final = 1_024

_HOUR_S: Final = 3_600.0


class LetterQuota:
    """Bytes of records without a good signature that letters may still hold, by topic. Pure."""

    def __init__(self, bytes_per_h: int) -> None:
        """Permit so many bytes an hour of each source topic."""
        self._bytes_per_h = bytes_per_h
        self._used: dict[str, tuple[float, int]] = {}

    def take(self, topic: str, size: int, now_s: float) -> bool:
        """Return whether so many bytes fit, and count them if so."""
        since_s, used = self._used.get(topic, (now_s, 0))
        if now_s - since_s >= _HOUR_S:
            since_s, used = now_s, 0
        fits = used + size <= self._bytes_per_h
        self._used[topic] = (since_s, used + size if fits else used)
        return fits


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record, or one item of it, and why it is unusable; the detail holds no secrets."""

    record: RawRecord
    code: str
    detail: str
    record_index: int | None = None
    player_id: str | None = None

    @property
    def position(self) -> str:
        """The record's position, as `<topic>-<partition>@<offset>`."""
        return f"{self.record.topic}-{self.record.partition}@{self.record.offset}"


@dataclass(frozen=True, slots=True)
class _PendingLetter:
    """A rejection, and whether its letter holds the record's bytes."""

    rejection: Rejection
    is_first: bool
    is_cut: bool = False
    """Whether the record's bytes are left out although it is the first: above the quota."""

    @property
    def size(self) -> int:
        """About how many bytes the letter will have."""
        record = self.rejection.record
        size = ENVELOPE_BYTES + len(self.rejection.detail)
        if self.is_first:
            headers = sum(len(name) + len(value or b"") for name, value in readable_headers(record))
            size += len(record.value or b"") + 2 * len(record.key or b"") + headers
        return size


class KafkaDeadLetterSink:
    """Writes to `<source topic>.dlt`, under the source's key."""

    def __init__(
        self,
        producer: BatchProducer,
        stage: str,
        code_version: str,
        *,
        unsigned_bytes_per_h: int = UNSIGNED_BYTES_PER_H,
    ) -> None:
        """Write as `stage` of the release `code_version`; both are kept in each letter.

        Above `unsigned_bytes_per_h` of a source topic, letters of records without a good signature
        hold hash, size and the first bytes only.
        """
        self._quota = LetterQuota(unsigned_bytes_per_h)
        self._producer = producer
        self._stage = stage
        self._code_version = code_version
        self._encode = codec.encoder(DeadLetter)
        self._written: Counter[tuple[str, str]] = Counter()
        self.on_written: list[Callable[[Sequence[Rejection]], None]] = []
        """Each is called with rejections whose letters are durable."""

    def samples(self) -> Iterator[MetricSample]:
        """Yield how many letters were written, by topic and code."""
        return count_samples("pitboss.dead_letters", self._written)

    async def publish(
        self,
        record: RawRecord,
        code: str,
        detail: str,
        *,
        record_index: int | None = None,
        player_id: str | None = None,
    ) -> None:
        """Publish one record's letter and wait until it is durable.

        Raises SendFailed, and Unavailable as `ensure_topic` does.
        """
        await self.publish_all([Rejection(record, code, detail, record_index, player_id)])

    async def ensure_topic(self, topic: str) -> None:
        """Check that a topic has its dead letter topic.

        Raises Unavailable while that is missing.
        """
        await self._producer.partition_count(dead_letter_topic(topic))

    async def publish_all(self, rejections: Sequence[Rejection]) -> None:
        """Publish letters and wait until all are durable. All items of a record belong in one call.

        Raises as `publish` does.
        """
        by_topic: dict[str, list[_PendingLetter]] = {}
        seen: set[str] = set()
        for rejection in rejections:
            position = rejection.position
            is_first = position not in seen
            pending = _PendingLetter(rejection, is_first, is_first and self._is_cut(rejection))
            by_topic.setdefault(rejection.record.topic, []).append(pending)
            seen.add(position)
        for topic, letters in by_topic.items():
            for portion in _in_portions(letters):
                await self._send(dead_letter_topic(topic), portion)
                self._written.update((topic, str(one.rejection.code)) for one in portion)
        for observe in self.on_written:
            observe(rejections)

    def _is_cut(self, rejection: Rejection) -> bool:
        value = rejection.record.value or b""
        if rejection.code not in UNCHECKED_CODES or len(value) <= HEAD_BYTES:
            return False
        return not self._quota.take(rejection.record.topic, len(value), time.monotonic())

    async def _send(self, topic: str, pending: Sequence[_PendingLetter]) -> None:
        letters = [
            self._letter(
                one.rejection, has_bytes=one.is_first and not one.is_cut, is_cut=one.is_cut
            )
            for one in pending
        ]
        shortened: set[int] = set()
        while True:
            try:
                return await self._producer.send_keyed(topic, letters)
            except TooLarge as error:
                rejection = pending[error.index].rejection
                if error.index in shortened:
                    # The rest of the letter is bounded in size, so another attempt could not
                    # succeed.
                    raise InvariantBroken(
                        f"the dead letter of {rejection.position} is too large although it holds "
                        f"no bytes of the record: {error.detail}; report it"
                    ) from error
                shortened.add(error.index)
                letters[error.index] = self._letter(rejection, has_bytes=False, is_too_large=True)

    def _letter(
        self,
        rejection: Rejection,
        *,
        has_bytes: bool,
        is_too_large: bool = False,
        is_cut: bool = False,
    ) -> OutRecord:
        record = rejection.record
        detail = rejection.detail
        if is_too_large:
            # With its envelope the record no longer fits a batch. Its bytes stay where they are.
            place = rejection.position
            detail = f"(the bytes are too large for a dead letter: read them at {place}) {detail}"
        if is_cut:
            place = rejection.position
            detail = f"(unsigned and above the quota: the bytes are at {place}) {detail}"
        # A drop's mark needs the key to reach the records that wait, so it stays while it is as
        # short as keys are.
        key = record.key if has_bytes or len(record.key or b"") <= KEY_BYTES_MAX else None
        letter = DeadLetter(
            source=Position(record.topic, record.partition, record.offset),
            record_index=rejection.record_index,
            key=key,
            value=record.value if has_bytes else None,
            headers=[Header(*each) for each in readable_headers(record)] if has_bytes else [],
            source_timestamp=record.timestamp,
            code=str(rejection.code),
            detail=detail[:DETAIL_CHARACTERS_MAX],
            stage=self._stage,
            code_version=self._code_version,
            player_id=rejection.player_id,
        )
        headers = [
            ("code", str(rejection.code).encode()),
            ("stage", self._stage.encode()),
            ("source", rejection.position.encode()),
        ]
        if is_cut:
            headers += _digest_headers(record.value or b"")
        return (key, self._encode(letter), headers, None)


def _digest_headers(value: bytes) -> list[tuple[str, bytes]]:
    return [
        ("value-size", str(len(value)).encode()),
        ("value-sha256", hashlib.sha256(value).hexdigest().encode()),
        ("value-head", value[:HEAD_BYTES]),
    ]


def _in_portions(letters: Iterable[_PendingLetter]) -> Iterator[list[_PendingLetter]]:
    """Yield letters in order, up to `BYTES_AT_ONCE` at a time; a larger one by itself."""
    portion: list[_PendingLetter] = []
    size = 0
    for letter in letters:
        if portion and size + letter.size > BYTES_AT_ONCE:
            yield portion
            portion, size = [], 0
        portion.append(letter)
        size += letter.size
    if portion:
        yield portion
