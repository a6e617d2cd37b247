"""Avro's primitives: zigzag varints, strings and bytes, written as text and read from bytes.

Written as text: the encoder builds a record as a `str` of characters below 256, one for each byte,
and turns it into bytes once at the end (Latin-1 maps one to the other). So an ASCII string goes in
as it is, not through `encode`.

The readers take (data, position) and return (value, next position). They check everything: they
raise ValueError for what Avro does not allow and IndexError where the data ends too early.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeAlias, TypeVar

K = TypeVar("K")
V = TypeVar("V")
LeafReader: TypeAlias = Callable[[bytes, int], tuple[Any, int]]
"""Reads the value at a position and returns it with the next position."""

LONG_MAX: Final = 2**63 - 1
INT_MAX: Final = 2**31 - 1
LOW_BITS: Final = 13
"""Bits of a non-negative number in its first two bytes; the fourteenth bit is the sign's."""
LOW_MASK: Final = 2**LOW_BITS - 1

_MEMO_ENTRIES_MAX: Final = 4096
_MEMO_KEY_MAX: Final = 512
_VARINT_BYTES_MAX: Final = 10


class Memo(dict[K, V], Generic[K, V]):
    """Bounded memo of the results of `make`.

    A provider that invents values empties it again and again, which costs only time.
    """

    def __init__(self, make: Callable[[K], V]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: K) -> V:
        value = self._make(key)
        if len(self) >= _MEMO_ENTRIES_MAX:
            self.clear()
        if not isinstance(key, str | bytes) or len(key) <= _MEMO_KEY_MAX:
            self[key] = value
        return value


def unsigned_text(number: int) -> str:
    """Return a varint as text.

    Each character holds seven bits, lowest first; the eighth bit is set on all but the last.
    """
    text = ""
    while number > 0x7F:
        text += chr(number & 0x7F | 0x80)
        number >>= 7
    return text + chr(number)


SHORT: Final = tuple(unsigned_text(number << 1) for number in range(LOW_MASK + 1))
"""The numbers 0 to 8191, which is also every usual length."""

LOW: Final = tuple(
    chr(number << 1 & 0x7F | 0x80) + chr(number >> 6 | 0x80) for number in range(LOW_MASK + 1)
)
"""The lowest 13 bits of a number that has more."""


def high_text(high: int) -> str:
    """Return what follows LOW[number & LOW_MASK], given high = number >> LOW_BITS.

    Raises ValueError unless `high` is above 0 and within 64 bits of a signed number.
    """
    if not 0 < high <= LONG_MAX >> LOW_BITS:
        raise ValueError("not a large number")
    return unsigned_text(high)


HIGH: Final = Memo(high_text)
"""Few values at a time: of instants, of a partition's offsets, of usual amounts."""


def long_text(number: int) -> str:
    """Return any 64-bit number as text. Raises ValueError outside 64 bits."""
    if 0 <= number <= LOW_MASK:
        return SHORT[number]
    if not -LONG_MAX - 1 <= number <= LONG_MAX:
        raise ValueError(f"{number} does not fit 64 bits")
    return (
        LOW[number & LOW_MASK] + HIGH[number >> LOW_BITS]
        if number > 0
        else unsigned_text(~number << 1 | 1)
    )


def int_text(number: int) -> str:
    """Return any 32-bit number as text. Raises ValueError outside 32 bits."""
    if not -INT_MAX - 1 <= number <= INT_MAX:
        raise ValueError(f"{number} does not fit 32 bits")
    return long_text(number)


def utf8_text(text: str) -> str:
    """Return the UTF-8 bytes of a string as characters.

    Raises ValueError for half a surrogate pair.
    """
    return text.encode().decode("latin-1")


def string_text(text: str) -> str:
    """Return a string with its length before it."""
    if not text.isascii():
        text = utf8_text(text)
    return long_text(len(text)) + text


def bytes_text(data: bytes) -> str:
    """Return bytes, as text, with their length before them."""
    return long_text(len(data)) + data.decode("latin-1")


def long_at(data: bytes, i: int) -> tuple[int, int]:
    """Read a 64-bit number."""
    byte = data[i]
    number = byte & 0x7F
    shift = 7
    end = i + _VARINT_BYTES_MAX
    while byte > 0x7F:
        i += 1
        if i == end:
            raise ValueError("a number of more than 10 bytes")
        byte = data[i]
        number |= (byte & 0x7F) << shift
        shift += 7
    if number >> 64:
        raise ValueError("a number of more than 64 bits")
    return number >> 1 ^ -(number & 1), i + 1


def int_at(data: bytes, i: int) -> tuple[int, int]:
    """Read a 32-bit number."""
    number, i = long_at(data, i)
    if not -INT_MAX - 1 <= number <= INT_MAX:
        raise ValueError("a number of more than 32 bits")
    return number, i


def boolean_at(data: bytes, i: int) -> tuple[bool, int]:
    """Read a boolean: one byte, 0 or 1."""
    byte = data[i]
    if byte > 1:
        raise ValueError(f"{byte} is not a boolean")
    return byte == 1, i + 1


def bytes_at(data: bytes, i: int) -> tuple[bytes, int]:
    """Read bytes."""
    length, i = long_at(data, i)
    if length < 0:
        raise ValueError("a negative length")
    end = i + length
    if end > len(data):
        raise IndexError("the data ends within a string")
    return data[i:end], end


def string_at(data: bytes, i: int) -> tuple[str, int]:
    """Read a string."""
    value, i = bytes_at(data, i)
    return value.decode(), i


def presence_at(data: bytes, i: int) -> tuple[bool, int]:
    """Read which branch of [null, other] follows: whether there is a value."""
    branch, i = long_at(data, i)
    if not 0 <= branch <= 1:
        raise ValueError(f"a union has no branch {branch}")
    return branch == 1, i


def symbol_at(symbols: Sequence[str], data: bytes, i: int) -> tuple[str, int]:
    """Read one of an enum's symbols."""
    number, i = long_at(data, i)
    if not 0 <= number < len(symbols):
        raise ValueError(f"an enum has no symbol {number}")
    return symbols[number], i


def count_at(data: bytes, i: int) -> tuple[int, int | None, int]:
    """Read the number of items in the next block of an array or map, 0 at its end.

    A negative number is followed by the block's size in bytes, for readers that skip it; otherwise
    the size is None.
    """
    count, i = long_at(data, i)
    if count >= 0:
        return count, None, i
    size, i = long_at(data, i)
    return -count, size, i


LEAVES: Final[dict[str, LeafReader]] = {
    "string": string_at,
    "bytes": bytes_at,
    "int": int_at,
    "long": long_at,
    "boolean": boolean_at,
}
"""Readers by the name of the primitive."""
