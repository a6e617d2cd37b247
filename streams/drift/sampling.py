"""Which records of a batch are looked at: by their place alone, so that a repeated batch gives the
same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar
from zlib import crc32

from runtime.kafka.records import RawRecord

R = TypeVar("R", bound=RawRecord)

_HASHES: Final = 2**32


def sample_records(records: Sequence[R], rate: float) -> list[R]:
    """About `rate` of the records, and at least one of a batch while the rate is above 0.

    A provider that sends little comes in batches of a few records, and is looked at as a whole; one
    that sends much comes in batches of thousands. What falls behind is read in larger batches, so
    less of it is looked at: the sampler cannot fall behind for good.
    """
    if rate <= 0:
        return []
    bound = int(rate * _HASHES)
    chosen = [
        record
        for record in records
        if crc32(f"{record.partition}@{record.offset}".encode()) < bound
    ]
    return chosen or list(records[:1])
