"""The windows of a partition as bytes and back: equal windows give equal bytes, restored ones are
equal.
"""

from __future__ import annotations

import sys
from array import array

import msgspec

from fraud_agents.windows import KeyedWindows, Label, SlidingWindow


class WindowState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One key's window.

    Times and offsets are runs of 8-byte little-endian integers, label numbers of 4 bytes.
    """

    key: str
    touched_ms: int
    floor_ms: int | None
    late: int
    duplicates: int
    times: bytes
    offsets: bytes
    ids: list[str]
    label_numbers: bytes


class KeyedState(msgspec.Struct, frozen=True, array_like=True):
    """All windows of a partition, the longest idle first.

    Labels are listed once, in the order of first use.
    """

    watermark_ms: int
    labels: list[Label]
    windows: list[WindowState]


def _bytes_of(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers = array(numbers.typecode, numbers)
        numbers.byteswap()
    return numbers.tobytes()


def _numbers_of(typecode: str, data: bytes) -> array[int]:
    numbers: array[int] = array(typecode)
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def dump_windows(keyed: KeyedWindows) -> KeyedState:
    """Everything that the windows' future answers depend on."""
    known: dict[Label, int] = {}
    windows: list[WindowState] = []
    for key, window in keyed.items():
        times, offsets, ids, labels = window.buffers()
        numbers = array("I", [known.setdefault(label, len(known)) for label in labels])
        windows.append(
            WindowState(
                key,
                window.touched_ms,
                window.floor_ms,
                window.late,
                window.duplicates,
                _bytes_of(times),
                _bytes_of(offsets),
                ids,
                _bytes_of(numbers),
            )
        )
    return KeyedState(keyed.watermark_ms, list(known), windows)


def restore_windows(keyed: KeyedWindows, state: KeyedState) -> None:
    """Put a state into windows that are still empty."""
    for saved in state.windows:
        # touch() in the order of the state makes the order of idleness the same again.
        window = keyed.touch(saved.key)
        _refill_one(window, saved, state.labels)
    keyed.watermark_ms = state.watermark_ms


def _refill_one(window: SlidingWindow, saved: WindowState, labels: list[Label]) -> None:
    window.touched_ms, window.floor_ms = saved.touched_ms, saved.floor_ms
    window.late, window.duplicates = saved.late, saved.duplicates
    window.restore(
        _numbers_of("q", saved.times),
        _numbers_of("q", saved.offsets),
        saved.ids,
        [labels[number] for number in _numbers_of("I", saved.label_numbers)],
    )
