"""The record of a raw topic, as every reader of one sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class RawRecord(Protocol):
    """A record of a raw topic, as a connector appended it; aiokafka's ConsumerRecord is one."""

    @property
    def topic(self) -> str:
        """Name of the topic on the broker."""

    @property
    def partition(self) -> int:
        """Number of the partition."""

    @property
    def offset(self) -> int:
        """Offset in the partition."""

    @property
    def timestamp(self) -> int:
        """The broker's time of the append, epoch ms."""

    @property
    def key(self) -> bytes | None:
        """Key, by which the record was partitioned."""

    @property
    def value(self) -> bytes | None:
        """Body, byte for byte as the provider sent it."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]:
        """Headers, in their order; a name may occur more than once."""
