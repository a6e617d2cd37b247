"""Where records go that cannot be used: byte for byte, with the reason, beside their source topic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.structs import ConsumerRecord

from schemas import codec
from schemas.events import DeadLetter, Header, Position
from schemas.topics import dead_letter_topic
from streams.kafka.producer import BatchProducer, OutRecord, TooLarge

DETAIL_CHARACTERS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Burial:
    """A record, or one item of it, and why it is unusable; the detail holds no secrets."""

    record: ConsumerRecord[Any, Any]
    code: str
    detail: str
    record_index: int | None = None
    player_id: str | None = None


class DeadLetters:
    """Writes to `<source topic>.dlt`, under the source's key."""

    def __init__(self, producer: BatchProducer, stage: str, code_version: str) -> None:
        self._producer = producer
        self._stage = stage
        self._code_version = code_version
        self._encode = codec.encoder(DeadLetter)

    async def bury(
        self,
        record: ConsumerRecord[Any, Any],
        code: str,
        detail: str,
        *,
        record_index: int | None = None,
        player_id: str | None = None,
    ) -> None:
        """Bury one record and wait until it is durable. Raises SendFailed."""
        await self.bury_all([Burial(record, code, detail, record_index, player_id)])

    async def bury_all(self, burials: Sequence[Burial]) -> None:
        """Bury records and wait until all are durable. Raises SendFailed."""
        by_topic: dict[str, list[Burial]] = {}
        for burial in burials:
            by_topic.setdefault(burial.record.topic, []).append(burial)
        for topic, group in by_topic.items():
            letters = [self._letter(burial) for burial in group]
            while True:
                try:
                    await self._producer.send_keyed(dead_letter_topic(topic), letters)
                    break
                except TooLarge as error:
                    letters[error.index] = self._letter(group[error.index], is_too_large=True)

    def _letter(self, burial: Burial, *, is_too_large: bool = False) -> OutRecord:
        record = burial.record
        source = f"{record.topic}-{record.partition}@{record.offset}"
        detail = burial.detail
        if is_too_large:
            # With its envelope the record no longer fits a batch. Its bytes stay where they are.
            detail = f"(the bytes are too large for a dead letter: read them at {source}) {detail}"
        letter = DeadLetter(
            source=Position(record.topic, record.partition, record.offset),
            record_index=burial.record_index,
            key=None if is_too_large else record.key,
            value=None if is_too_large else record.value,
            headers=[] if is_too_large else [Header(name, value) for name, value in record.headers],
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
            ("source", source.encode()),
        ]
        return (record.key, self._encode(letter), headers, None)
