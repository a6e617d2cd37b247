"""How a worker's process treats memory, set once before its first record; measured on the normaliser.

Records on their way are many small objects without a cycle, and answers of the broker are buffers of megabytes that
live for milliseconds. Python's and the C library's defaults are made for other programs.
"""

from __future__ import annotations

import ctypes
import gc
from typing import Final

GARBAGE_AFTER_OBJECTS: Final = 500_000
"""How many new objects call for a search for cyclic garbage; Python's default is 700. The records on their way are some
hundred thousand objects without a cycle, and searching among them took a sixth of a normaliser's time."""

KEPT_BYTES: Final = 32 * 1024 * 1024
"""Freed memory of up to so much stays with the process: else each answer's buffer is mapped, filled with zeros page by
page and unmapped again. The largest that glibc's mallopt(3) takes as its threshold for mapping."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def settle_memory() -> None:
    """Search for garbage rarely, and keep freed buffers; where the C library is not glibc, only the former."""
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER_OBJECTS)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 4 * KEPT_BYTES)
