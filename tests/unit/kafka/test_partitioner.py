from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.kafka.partitioner import KEY_BYTES_CACHED, _cached_partition, murmur2, partition_for

# org.apache.kafka.common.utils.UtilsTest.testMurmur2 of Apache Kafka.
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "expected"), JAVA.items())
def test_hash_is_that_of_javas_client(key, expected):
    assert murmur2(key) == expected


def java_murmur2(data: bytes) -> int:
    """`Utils.murmur2` line by line, with ints that wrap at 32 bits; `>>>` is a shift of the unsigned value."""

    def wrap(value):
        value &= 0xFFFFFFFF
        return value - (1 << 32) if value & 0x80000000 else value

    m, r = 0x5BD1E995, 24
    length = len(data)
    h = wrap(wrap(0x9747B28C) ^ length)
    for i in range(length // 4):
        k = wrap(
            data[4 * i] + (data[4 * i + 1] << 8) + (data[4 * i + 2] << 16) + (data[4 * i + 3] << 24)
        )
        k = wrap(k * m)
        k ^= wrap((k & 0xFFFFFFFF) >> r)
        k = wrap(k * m)
        h = wrap(wrap(h * m) ^ k)
    tail = length & ~3
    if length % 4 >= 3:
        h ^= wrap(data[tail + 2] << 16)
    if length % 4 >= 2:
        h ^= wrap(data[tail + 1] << 8)
    if length % 4 >= 1:
        h = wrap(wrap(h ^ data[tail]) * m)
    h ^= wrap((h & 0xFFFFFFFF) >> 13)
    h = wrap(h * m)
    return wrap(h ^ wrap((h & 0xFFFFFFFF) >> 15))


@given(st.binary(max_size=100))
def test_hash_of_any_key_is_that_of_javas_client(key):
    assert murmur2(key) == java_murmur2(key)


@given(st.binary(max_size=40), st.integers(1, 500))
def test_partition_is_the_positive_hash_modulo_the_count(key, count):
    assert partition_for(key, count) == (java_murmur2(key) & 0x7FFFFFFF) % count


def test_keys_spread_over_all_partitions():
    counts = [0] * 24
    for player in range(24_000):
        counts[partition_for(b"player-%d" % player, 24)] += 1
    assert min(counts) > 800
    assert max(counts) < 1_200


def test_long_keys_are_not_kept():
    before = _cached_partition.cache_info().currsize
    for number in range(3):
        partition_for(b"%d" % number + bytes(KEY_BYTES_CACHED), 24)
    assert _cached_partition.cache_info().currsize == before
    partition_for(b"a key that no other test has: %d" % before, 24)
    assert _cached_partition.cache_info().currsize == before + 1
