"""Where records go that cannot be used: byte for byte, with the reason, beside their source topic.

A record may have several letters, one for each item that is unusable. Its bytes are in the first of
them and in no other, so that what is written grows with what was received and not with its square.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.structs import ConsumerRecord

from runtime.kafka.producer import BatchProducer, OutRecord, TooLarge
from schemas import codec
from schemas.errors import InvariantBroken
from schemas.events import DeadLetter, Header, Position
from schemas.topics import dead_letter_topic

DETAIL_CHARACTERS_MAX = 2_000

BYTES_AT_ONCE: Final = 4_000_000
"""Of records whose letters are encoded and sent together: four batches of the producer's, each
copied once or twice.
"""

ENVELOPE_BYTES: Final = 400
"""Of a letter besides its record and its detail, more or less."""

KEY_BYTES_MAX: Final = 1_024
"""Of a key in a letter without its record's bytes.

Providers' keys are ids; a longer one is bytes like the value.
"""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record, or one item of it, and why it is unusable; the detail holds no secrets."""

    record: ConsumerRecord[Any, Any]
    code: str
    detail: str
    record_index: int | None = None
    player_id: str | None = None


@dataclass(frozen=True, slots=True)
class _PendingLetter:
    """A burial, and whether its letter holds the record's bytes."""

    burial: Rejection
    is_first: bool

    @property
    def size(self) -> int:
        """About how many bytes it will have."""
        record = self.burial.record
        size = ENVELOPE_BYTES + len(self.burial.detail)
        if self.is_first:
            headers = sum(len(name) + len(value or b"") for name, value in record.headers)
            size += len(record.value or b"") + 2 * len(record.key or b"") + headers
        return size


class KafkaDeadLetterSink:
    """Writes to `<source topic>.dlt`, under the source's key."""

    def __init__(self, producer: BatchProducer, stage: str, code_version: str) -> None:
        self._producer = producer
        self._stage = stage
        self._code_version = code_version
        self._encode = codec.encoder(DeadLetter)

    async def publish(
        self,
        record: ConsumerRecord[Any, Any],
        code: str,
        detail: str,
        *,
        record_index: int | None = None,
        player_id: str | None = None,
    ) -> None:
        """Bury one record and wait until it is durable.

        Raises SendFailed, and Unavailable as `reach` does.
        """
        await self.publish_all([Rejection(record, code, detail, record_index, player_id)])

    async def ensure_topic(self, topic: str) -> None:
        """Make sure that a topic's records can be buried.

        Raises Unavailable while the topic for that is missing.
        """
        await self._producer.partition_count(dead_letter_topic(topic))

    async def publish_all(self, burials: Sequence[Rejection]) -> None:
        """Bury records and wait until all are durable: all the items of a record in one call.

        Raises as `bury` does.
        """
        by_topic: dict[str, list[_PendingLetter]] = {}
        seen: set[tuple[str, int, int]] = set()
        for burial in burials:
            record = burial.record
            place = (record.topic, record.partition, record.offset)
            by_topic.setdefault(record.topic, []).append(_PendingLetter(burial, place not in seen))
            seen.add(place)
        for topic, graves in by_topic.items():
            for some in _in_portions(graves):
                await self._send(dead_letter_topic(topic), some)

    async def _send(self, topic: str, graves: Sequence[_PendingLetter]) -> None:
        letters = [self._letter(grave.burial, has_bytes=grave.is_first) for grave in graves]
        shortened: set[int] = set()
        while True:
            try:
                return await self._producer.send_keyed(topic, letters)
            except TooLarge as error:
                burial = graves[error.index].burial
                if error.index in shortened:
                    # Everything that is left of it is bounded. To try once more would be to try for
                    # ever.
                    raise InvariantBroken(
                        f"the dead letter of {_place(burial)} is too large although it holds no bytes of the record: "
                        f"{error.detail}; report it"
                    ) from error
                shortened.add(error.index)
                letters[error.index] = self._letter(burial, has_bytes=False, is_too_large=True)

    def _letter(
        self, burial: Rejection, *, has_bytes: bool, is_too_large: bool = False
    ) -> OutRecord:
        record = burial.record
        detail = burial.detail
        if is_too_large:
            # With its envelope the record no longer fits a batch. Its bytes stay where they are.
            detail = f"(the bytes are too large for a dead letter: read them at {_place(burial)}) {detail}"
        # A drop's mark needs the key to reach those who wait, so it stays while it is what keys
        # are.
        key = record.key if has_bytes or len(record.key or b"") <= KEY_BYTES_MAX else None
        letter = DeadLetter(
            source=Position(record.topic, record.partition, record.offset),
            record_index=burial.record_index,
            key=key,
            value=record.value if has_bytes else None,
            headers=[Header(name, value) for name, value in record.headers] if has_bytes else [],
            source_timestamp=record.timestamp,
            code=str(burial.code),
            detail=detail[:DETAIL_CHARACTERS_MAX],
            stage=self._stage,
            code_version=self._code_version,
            player_id=burial.player_id,
        )
        headers = [
            ("code", str(burial.code).encode()),
            ("stage", self._stage.encode()),
            ("source", _place(burial).encode()),
        ]
        return (key, self._encode(letter), headers, None)


def _place(burial: Rejection) -> str:
    record = burial.record
    return f"{record.topic}-{record.partition}@{record.offset}"


def _in_portions(graves: Iterable[_PendingLetter]) -> Iterator[list[_PendingLetter]]:
    """In their order, as many at a time as `BYTES_AT_ONCE` holds; one that is larger than that
    stands alone.
    """
    portion: list[_PendingLetter] = []
    size = 0
    for grave in graves:
        if portion and size + grave.size > BYTES_AT_ONCE:
            yield portion
            portion, size = [], 0
        portion.append(grave)
        size += grave.size
    if portion:
        yield portion
