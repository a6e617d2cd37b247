"""Where a file of the archive ends: a decision over the records alone.

A file ends before the first record of a later span of time, at a number of records, or at a number
of bytes, whichever comes first. When the records were read, and how they came in blocks, does not
matter. A span that is over is closed by the clock, so that a quiet partition is archived too; where
it was closed is stored before the file is written, and never decided again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from replay.log.blocks import LogBlock

SPAN_MS: Final = 3_600_000
FILE_RECORDS_MAX: Final = 65_536
FILE_BYTES_MAX: Final = 64 * 1024 * 1024
CLOCKS_DIFFER_MS: Final = 60_000
"""A span is over so long after its end, or its own length: the broker's clock may be behind ours.
"""


@dataclass(frozen=True)
class CutRule:
    """When a file is full."""

    span_ms: int = SPAN_MS
    records_max: int = FILE_RECORDS_MAX
    bytes_max: int = FILE_BYTES_MAX

    def over_at_ms(self, span: int) -> int:
        """Return when a span of this number is over, epoch ms."""
        return (span + 1) * self.span_ms + min(CLOCKS_DIFFER_MS, self.span_ms)


class FileCut:
    """Collects the records of one file until it is full."""

    def __init__(self, rule: CutRule, topic: str, partition: int, from_offset: int) -> None:
        self._rule = rule
        self.block = LogBlock(topic, partition)
        self.from_offset = from_offset
        self._bytes = 0
        self._span: int | None = None
        """Number of the span that the file belongs to: that of its first record."""

    def add(self, block: LogBlock) -> int | None:
        """Take what belongs to the file; return the offset at which it ends, None if it is open.

        What is behind that offset was not taken.
        """
        taken = 0
        for index, timestamp_ms in enumerate(block.timestamps_ms):
            span = timestamp_ms // self._rule.span_ms
            if self._span is None:
                self._span = span
            size = len(block.keys[index] or b"") + len(block.values[index] or b"")
            is_full = len(self.block) + taken >= self._rule.records_max
            # A time that goes back, as producers' clocks do, does not end a file.
            if (
                span > self._span
                or is_full
                or (self._bytes and self._bytes + size > self._rule.bytes_max)
            ):
                self._append(block, taken)
                return block.offsets[index]
            self._bytes += size
            taken += 1
        self._append(block, taken)
        return None

    def is_over(self, now_ms: int) -> bool:
        """Return whether no further record can belong to the file's span."""
        return self._span is not None and now_ms >= self.over_at_ms

    @property
    def over_at_ms(self) -> int:
        """When `is_over` begins to hold; 0 for a file without records."""
        return 0 if self._span is None else self._rule.over_at_ms(self._span)

    def _append(self, block: LogBlock, count: int) -> None:
        start = len(self.block)
        own = self.block
        own.offsets += block.offsets[:count]
        own.timestamps_ms += block.timestamps_ms[:count]
        own.keys += block.keys[:count]
        own.values += block.values[:count]
        last = block.offsets[count - 1] if count else -1
        own.unreadable_headers += [one for one in block.unreadable_headers if one <= last]
        for index, headers in block.headers.items():
            if index < count:
                own.headers[start + index] = headers
