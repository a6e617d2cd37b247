"""The partition of a key, chosen as Java's client does, so that all producers agree on it.

The hash is Austin Appleby's MurmurHash2 with the seed of
`org.apache.kafka.common.utils.Utils.murmur2`; the partition is `toPositive(murmur2(key)) % count`,
as in Kafka's `BuiltInPartitioner.partitionForKey`.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import Final

_SEED: Final = 0x9747B28C
_MULTIPLIER: Final = 0x5BD1E995
_UINT32: Final = 0xFFFFFFFF
_INT32_MAX: Final = 0x7FFFFFFF

KEYS_CACHED: Final = 131_072
"""A hash costs 2 µs in Python and a look-up 0.1; at some 200 bytes a key this is at most 26 MB a
process."""

KEY_BYTES_CACHED: Final = 256
"""A longer key is not a player's id, and a flood of such keys must not fill the memory."""

_words = lru_cache(maxsize=256)(lambda count: Struct(f"<{count}I"))


def murmur2(data: bytes) -> int:
    """Return the hash as Java's client computes it: a signed 32-bit number."""
    length = len(data)
    count, rest = divmod(length, 4)
    value = _SEED ^ length
    for word in _words(count).unpack_from(data):
        mixed = word * _MULTIPLIER & _UINT32
        mixed ^= mixed >> 24
        value = value * _MULTIPLIER & _UINT32 ^ mixed * _MULTIPLIER & _UINT32
    if rest:
        value ^= int.from_bytes(data[-rest:], "little")
        value = value * _MULTIPLIER & _UINT32
    value ^= value >> 13
    value = value * _MULTIPLIER & _UINT32
    value ^= value >> 15
    return value - (1 << 32) if value > _INT32_MAX else value


def partition_for(key: bytes, count: int) -> int:
    """Return the partition of `key` in a topic of `count` partitions."""
    return (_cached_partition if len(key) <= KEY_BYTES_CACHED else _partition)(key, count)


def _partition(key: bytes, count: int) -> int:
    return (murmur2(key) & _INT32_MAX) % count


_cached_partition = lru_cache(maxsize=KEYS_CACHED)(_partition)
