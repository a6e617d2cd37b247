"""Avro's primitives for many records at once: each step reads one field of every record.

A record is a span of one array of bytes; a position a record is where its next field begins. The
readers return the values with the next positions. They check everything that the readers of
`schemas.compiler.primitives` check, and raise Malformed for a whole batch: which record it is, the
caller finds with those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa

Positions: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"
Longs: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"

_MORE: Final = 0x80
_LOW: Final = 0x7F
_LAST_SHIFT: Final = 63
_ONE: Final = np.uint64(1)


class Malformed(ValueError):
    """A record of a batch is not what its schema says."""


class ByteBatch:
    """The bytes of many records, one behind the other."""

    def __init__(self, values: Sequence[bytes], skipped: int = 0) -> None:
        """Join the values; the first `skipped` bytes of each are not part of its record."""
        self._data = np.frombuffer(b"".join(values), dtype=np.uint8)
        sizes = np.fromiter(map(len, values), dtype=np.int64, count=len(values))
        self.ends: Positions = np.cumsum(sizes)
        self.starts: Positions = self.ends - sizes + skipped

    def read_longs(self, at: Positions, ends: Positions) -> tuple[Longs, Positions]:
        """Read a zigzag varint of each record."""
        _check(at < ends)
        byte = self._data[at]
        after = at + 1
        bits = (byte & _LOW).astype(np.uint64)
        more = np.flatnonzero(byte & _MORE)
        shift = 7
        while more.size:
            if shift > _LAST_SHIFT:
                raise Malformed("a number has more than 64 bits")
            # A field that is longer in every record, as a time is, needs no selection.
            rows = slice(None) if more.size == at.size else more
            here = after[rows]
            _check(here < ends[rows])
            byte = self._data[here]
            if shift == _LAST_SHIFT:
                _check(byte <= 1)
            bits[rows] |= (byte & _LOW).astype(np.uint64) << np.uint64(shift)
            after[rows] += 1
            is_longer = np.flatnonzero(byte & _MORE)
            more = is_longer if isinstance(rows, slice) else more[is_longer]
            shift += 7
        return (bits >> _ONE).astype(np.int64) ^ -(bits & _ONE).astype(np.int64), after

    def read_booleans(self, at: Positions, ends: Positions) -> tuple[Any, Positions]:
        """Read a boolean of each record, as an array of numpy's booleans."""
        _check(at < ends)
        byte = self._data[at]
        _check(byte <= 1)
        return byte.astype(bool), at + 1

    def read_spans(self, at: Positions, ends: Positions) -> tuple[Longs, Positions]:
        """Read a length of each record: return it, and where what it measures begins."""
        lengths, after = self.read_longs(at, ends)
        _check((lengths >= 0) & (lengths <= ends - after))
        return lengths, after

    def read_bytes(self, at: Positions, ends: Positions) -> tuple[pa.Array, Positions]:
        """Read bytes of each record, as Arrow's binary."""
        lengths, starts = self.read_spans(at, ends)
        offsets = np.zeros(lengths.size + 1, dtype=np.int32)
        np.cumsum(lengths, out=offsets[1:])
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(self._gather(starts, lengths))]
        return pa.Array.from_buffers(pa.binary(), lengths.size, buffers), starts + lengths

    def read_texts(self, at: Positions, ends: Positions) -> tuple[pa.Array, Positions]:
        """Read a string of each record."""
        array, after = self.read_bytes(at, ends)
        try:
            return array.cast(pa.string()), after
        except pa.ArrowInvalid as error:
            raise Malformed(f"a text is not UTF-8: {error}") from error

    def _gather(self, starts: Positions, lengths: Longs) -> Any:
        if not lengths.size:
            return np.empty(0, dtype=np.uint8)
        longest = int(lengths.max())
        if longest == 0:
            return np.empty(0, dtype=np.uint8)
        if longest == int(lengths.min()):
            # Ids and digests: rows of equal length are copied, not indexed byte by byte.
            windows = np.lib.stride_tricks.sliding_window_view(self._data, longest)
            return np.ascontiguousarray(windows[starts]).reshape(-1)
        ends = np.cumsum(lengths)
        places = np.arange(int(ends[-1]), dtype=np.int64)
        places += np.repeat(starts - (ends - lengths), lengths)
        return self._data[places]


def _check(is_fine: Any) -> None:
    if not is_fine.all():
        raise Malformed("a record ends too early, or holds a value that its schema does not allow")
