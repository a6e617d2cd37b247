"""The record of a raw topic, as every reader of one sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class RawRecord(Protocol):
    """What a connector appended; aiokafka's ConsumerRecord is one.

    `timestamp` is the broker's, epoch ms.
    """

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...
