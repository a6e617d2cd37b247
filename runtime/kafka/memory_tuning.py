"""Memory settings of a worker's process, made before its first record; measured on the normaliser.

Records on their way are many small objects without a cycle, and answers of the broker are buffers
of megabytes that live for milliseconds. The defaults of Python and of the C library are made for
other programs.
"""

from __future__ import annotations

import ctypes
import gc
from typing import Final

GC_THRESHOLD_OBJECTS: Final = 500_000
"""New objects between two searches for cyclic garbage; Python's default is 700.

The records on their way are some hundred thousand objects without a cycle, and searching among them
took a sixth of a normaliser's time."""

MMAP_THRESHOLD_BYTES: Final = 64 * 1024 * 1024
"""A buffer of up to so much comes from the heap.

Otherwise the buffer of each answer is mapped, filled with zeros page by page, and unmapped again. A
fetch's answer has `consumer.FETCH_ANSWER_BYTES_MAX` at most."""

TRIM_THRESHOLD_BYTES: Final = 128 * 1024 * 1024
"""So much free memory at the heap's end stays with the process."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def tune_memory() -> None:
    """Search for garbage rarely, and keep freed buffers.

    Where the C library is not glibc, buffers are left to it.
    """
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD_OBJECTS)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        # mallopt(3): it returns 0 for a value that it does not take, and older versions of glibc
        # take half as much at most.
        if not mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES):
            mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES // 2)
        mallopt(_M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)
