"""Memory settings of a worker's process, made before its first record; measured on the normaliser.

Records on their way are many small objects without a cycle, and answers of the broker are buffers
of megabytes that live for milliseconds. The defaults of Python and of the C library are made for
other programs.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from pathlib import Path
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

IDLE_CHECK_S: Final = 5.0
"""Interval at which a worker is asked whether it has become idle."""
IDLE_SHARE_MAX: Final = 0.1
"""A worker that used a smaller share of a core in that time is idle."""
BUSY_CPU_S: Final = 1.0
"""So much work since the last release may have left memory that is worth giving back."""

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


class IdleDetector:
    """Says when a worker that was busy has become idle, by the CPU time that it has used."""

    def __init__(self, cpu_s: float) -> None:
        self._last_s = cpu_s
        self._released_s = cpu_s

    def observe(self, cpu_s: float) -> bool:
        """Return whether to release memory now; call it every IDLE_CHECK_S with the CPU time."""
        used_s, self._last_s = cpu_s - self._last_s, cpu_s
        was_busy = cpu_s - self._released_s >= BUSY_CPU_S
        if not was_busy or used_s >= IDLE_SHARE_MAX * IDLE_CHECK_S:
            return False
        self._released_s = cpu_s
        return True


def release_memory() -> None:
    """Search for garbage once, and give freed memory back to the system, wherever in the heap.

    It takes some hundredths of a second, which an idle worker has. A worker that is busy again pays
    for its pages once more.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident_bytes() -> int:
    """Return how much memory the process has in RAM; 0 where the system does not say."""
    if sys.platform != "linux":
        return 0
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
