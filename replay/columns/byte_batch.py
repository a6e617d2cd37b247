"""Avro's primitives for many records at once: each step reads one field of every record.

A record is a span of one array of bytes; a position a record is where its next field begins. The
readers return the values with the next positions. They check all that the readers of
`schemas.compiler.primitives` check, and raise Malformed for a whole batch: which record it is, the
caller finds with those. That a field does not reach beyond its record needs no check for each
field: positions only grow, and `check_ends` compares them with the records' ends.
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
_NULL, _VALUE = 0, 2
"""Zigzag numbers of a union's branches."""


class Malformed(ValueError):
    """A record of a batch is not what its schema says."""


class ByteBatch:
    """The bytes of many records, one behind the other."""

    def __init__(self, values: Sequence[bytes], skipped: int = 0) -> None:
        """Join the values; the first `skipped` bytes of each are not part of its record."""
        self._bytes = b"".join(values)
        self._data = np.frombuffer(self._bytes, dtype=np.uint8)
        sizes = np.fromiter(map(len, values), dtype=np.int64, count=len(values))
        self.ends: Positions = np.cumsum(sizes)
        self.starts: Positions = self.ends - sizes + skipped
        if sizes.size and sizes.min() < skipped:
            raise Malformed(_TOO_SHORT)

    def check_ends(self, at: Positions) -> None:
        """Raise Malformed unless every record has been read to its end, and no further."""
        if not np.array_equal(at, self.ends):
            raise Malformed("a record ends too early, or bytes follow its end")

    def begin_with(self, start: bytes) -> bool:
        """Return whether every value begins with these bytes, of which `skipped` are the number."""
        at = self.starts - len(start)
        return all((self._take(at + place) == byte).all() for place, byte in enumerate(start))

    def _take(self, at: Positions) -> Any:
        try:
            return self._data.take(at)
        except IndexError:
            raise Malformed(_TOO_SHORT) from None

    def read_longs(self, at: Positions) -> tuple[Longs, Positions]:
        """Read a zigzag varint of each record."""
        byte = self._take(at)
        if not byte.size or byte.max() < _MORE:
            signed: Any = ((byte >> 1) ^ -(byte & 1)).view(np.int8)
            return signed.astype(np.int64), at + 1
        after = at + 1
        bits = (byte & _LOW).astype(np.uint64)
        more = np.flatnonzero(byte & _MORE)
        shift = 7
        while more.size:
            if shift > _LAST_SHIFT:
                raise Malformed("a number has more than 64 bits")
            # A field that is longer in every record, as a time is, needs no selection.
            rows = slice(None) if more.size == at.size else more
            byte = self._take(after[rows])
            if shift == _LAST_SHIFT and (byte > 1).any():
                raise Malformed("a number has more than 64 bits")
            bits[rows] |= (byte & _LOW).astype(np.uint64) << np.uint64(shift)
            after[rows] += 1
            is_longer = np.flatnonzero(byte & _MORE)
            more = is_longer if isinstance(rows, slice) else more[is_longer]
            shift += 7
        return (bits >> _ONE).astype(np.int64) ^ -(bits & _ONE).astype(np.int64), after

    def read_booleans(self, at: Positions) -> tuple[Any, Positions]:
        """Read a boolean of each record, as an array of numpy's booleans."""
        byte = self._take(at)
        if byte.size and byte.max() > 1:
            raise Malformed("a boolean is neither 0 nor 1")
        return byte.astype(bool), at + 1

    def read_presence(self, at: Positions) -> tuple[Any, Positions]:
        """Read the branch of a union of null and a value: whether each record has a value.

        Its number is written in one byte, as every writer does; a longer form is read as well.
        """
        byte = self._take(at)
        is_present = byte == _VALUE
        if (is_present | (byte == _NULL)).all():
            return is_present, at + 1
        branch, after = self.read_longs(at)
        if ((branch < 0) | (branch > 1)).any():
            raise Malformed("a union's number is neither null nor a value")
        return branch == 1, after

    def read_spans(self, at: Positions, ends: Positions) -> tuple[Longs, Positions, Positions]:
        """Read a length of each record: return it, and where what it measures begins and ends."""
        lengths, starts = self.read_longs(at)
        # A sum beyond 64 bits would be negative: a length is compared by itself, too.
        if lengths.size and (lengths.min() < 0 or lengths.max() > self._data.size):
            raise Malformed("a length is negative, or reaches beyond the end of its record")
        after = starts + lengths
        if (after > ends).any():
            raise Malformed("a length reaches beyond the end of its record")
        return lengths, starts, after

    def read_bytes(self, at: Positions, ends: Positions) -> tuple[pa.Array, Positions]:
        """Read bytes of each record, as Arrow's binary."""
        lengths, starts, after = self.read_spans(at, ends)
        size = _common_size(lengths)
        if size is None:
            return self._slice(starts, after), after
        buffers = [None, *self._copy(starts, size)]
        return pa.Array.from_buffers(pa.binary(), lengths.size, buffers), after

    def read_texts(self, at: Positions, ends: Positions) -> tuple[pa.Array, Positions]:
        """Read a string of each record."""
        lengths, starts, after = self.read_spans(at, ends)
        size = _common_size(lengths)
        if size is None:
            return _as_text(self._slice(starts, after)), after
        offsets, data = self._copy(starts, size)
        # ASCII is UTF-8, and nearly all texts are: ids, codes and names of machines.
        is_ascii = not data.size or np.frombuffer(data, dtype=np.uint8).max() < _MORE
        type_ = pa.string() if is_ascii else pa.binary()
        array = pa.Array.from_buffers(type_, lengths.size, [None, offsets, data])
        return (array if is_ascii else _as_text(array)), after

    def _copy(self, starts: Positions, size: int) -> tuple[pa.Buffer, pa.Buffer]:
        """Return offsets and bytes of spans of one size: ids and digests, copied row by row."""
        count = starts.size
        offsets = pa.py_buffer(np.arange(0, (count + 1) * size, max(1, size), dtype=np.int32))
        if not size:
            return pa.py_buffer(np.zeros(count + 1, dtype=np.int32)), pa.py_buffer(b"")
        windows: Any = np.ndarray(
            (self._data.size - size + 1,), f"V{size}", self._bytes, strides=(1,)
        )
        return offsets, pa.py_buffer(windows[starts])

    def _slice(self, starts: Positions, after: Positions) -> pa.Array:
        """Return spans of several sizes as binary.

        All bytes are an array in which spans and gaps alternate, and every second item is taken.
        """
        count = starts.size
        borders = np.empty(2 * count, dtype=np.int32)
        borders[0::2], borders[1::2] = starts, after
        buffers = [None, pa.py_buffer(borders), pa.py_buffer(self._bytes)]
        whole = pa.Array.from_buffers(pa.binary(), 2 * count - 1, buffers)
        return whole.take(pa.array(np.arange(0, 2 * count, 2)))


_TOO_SHORT: Final = "a record ends too early"


def _common_size(lengths: Longs) -> int | None:
    """Return the length of all spans; None where they differ."""
    if not lengths.size:
        return 0
    longest = int(lengths.max())
    return longest if longest == int(lengths.min()) else None


def _as_text(array: pa.Array) -> pa.Array:
    try:
        return array.cast(pa.string())
    except pa.ArrowInvalid as error:
        raise Malformed(f"a text is not UTF-8: {error}") from error
