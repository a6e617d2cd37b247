"""Progress of a measurement on stderr: a bar on a terminal, one line a second in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

LINE_EVERY_S: Final = 1.0
REDRAW_EVERY_S: Final = 0.1
_BAR_WIDTH: Final = 24
_ERASE: Final = "\r\033[K"


class BenchProgress:
    """Shows one step after another."""

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._clock = clock
        self._step = ""
        self._start_s = self._shown_s = clock()

    def begin(self, step: str) -> None:
        """Begin a new step, counted or not."""
        self._step = step
        self._start_s = self._shown_s = self._clock()
        self._write(f"{step} …" if self._is_terminal else step, is_last=not self._is_terminal)

    def update(self, count: int, total: int) -> None:
        """Show how far the step is, at most once an interval."""
        now_s = self._clock()
        if now_s - self._shown_s < (REDRAW_EVERY_S if self._is_terminal else LINE_EVERY_S):
            return
        self._shown_s = now_s
        text = f"{self._step} {count:,} of {total:,}, {now_s - self._start_s:.0f} s"
        if self._is_terminal:
            filled = _BAR_WIDTH * count // total
            text = f"{'█' * filled}{'·' * (_BAR_WIDTH - filled)} {text}"
        self._write(text, is_last=not self._is_terminal)

    def end(self, result: str) -> None:
        """Show the step's result, which stays on the screen."""
        self._write(f"{self._step}: {result}", is_last=True)

    def _write(self, text: str, *, is_last: bool) -> None:
        start = _ERASE if self._is_terminal else ""
        self._stream.write(f"{start}{text}{chr(10) if is_last else ''}")
        self._stream.flush()
