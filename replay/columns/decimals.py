"""Exact amounts as Arrow's DECIMAL(38, 18), without a float and without a loop.

The rule: an amount is `unscaled` / 10**`scale`, in major units. With 18 decimals every 64-bit
number of a scale from 0 to 18 fits, and so does a finer one whose further digits are zeros. What
does not fit is null as a decimal; its two numbers stand beside it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa

DECIMALS: Final = 18
TYPE: Final = pa.decimal128(38, DECIMALS)

_SCALE_MAX: Final = 2 * DECIMALS
_POWERS: Final = np.array([10**n for n in range(DECIMALS + 1)], dtype=np.uint64)
_HALF: Final = np.uint64(32)
_LOW: Final = np.uint64(0xFFFF_FFFF)


def decimal_array(unscaled: Any, scale: Any, missing: Any = None) -> pa.Array:
    """Return amounts as decimals; `missing` marks the rows that have none.

    All three are numpy arrays of one length: int64, integers, booleans. A row whose amount does not
    fit is null.
    """
    in_range = (scale >= 0) & (scale <= _SCALE_MAX)
    safe = np.where(in_range, scale, 0).astype(np.int64)
    divisor = _POWERS[np.maximum(safe - DECIMALS, 0)]
    factor = _POWERS[np.maximum(DECIMALS - safe, 0)]
    is_negative = unscaled < 0
    # The lowest 64-bit number has no positive twin; as unsigned it is right.
    size = np.where(is_negative, -unscaled, unscaled).astype(np.uint64)
    fits = in_range & (size % divisor == 0)
    low, high = _multiply(size // divisor, factor)
    low, high = _negate(low, high, is_negative)
    words = np.empty((unscaled.size, 2), dtype=np.uint64)
    words[:, 0], words[:, 1] = low, high
    if missing is not None:
        fits &= ~missing
    validity = None if fits.all() else pa.array(fits).buffers()[1]
    return pa.Array.from_buffers(TYPE, unscaled.size, [validity, pa.py_buffer(words)])


def _multiply(left: Any, right: Any) -> tuple[Any, Any]:
    """Return the low and the high 64 bits of the products of unsigned numbers."""
    left_high, left_low = left >> _HALF, left & _LOW
    right_high, right_low = right >> _HALF, right & _LOW
    low_low, low_high = left_low * right_low, left_low * right_high
    high_low, high_high = left_high * right_low, left_high * right_high
    middle = (low_low >> _HALF) + (low_high & _LOW) + (high_low & _LOW)
    high = high_high + (low_high >> _HALF) + (high_low >> _HALF) + (middle >> _HALF)
    return left * right, high


def _negate(low: Any, high: Any, where: Any) -> tuple[Any, Any]:
    """Return 128-bit numbers, the marked ones negated, in two's complement."""
    negated_low = ~low + np.uint64(1)
    carry = (negated_low == 0).astype(np.uint64)
    return np.where(where, negated_low, low), np.where(where, ~high + carry, high)
