"""Progress of a long command on stderr: a bar on a terminal, one line a second in a pipe.

Stdout is never touched: it holds the result. Colours follow NO_COLOR, as everywhere.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pitboss.cli import screen

LINE_EVERY_S: Final = 1.0
RATE_OVER_S: Final = 30.0
"""What a resumed step finds done at its beginning does not count as its speed after so long."""
T = TypeVar("T")


class StepProgress:
    """Shows one step after another, counted or not; a context that clears its bar on leaving.

    `clock` is monotonic seconds.
    """

    def __init__(
        self, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.console = console or screen.console(stderr=True)
        self._clock = clock
        self._step = self._stage = ""
        self._start_s = self._shown_s = clock()
        self._counts: deque[tuple[float, int]] = deque()
        """Seconds of the clock, and how far the step was."""
        self._lock = threading.Lock()
        self._bar: Progress | None = None
        self._task = TaskID(0)
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self._bar = Progress(*_columns(), console=self.console, transient=True)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, step: str) -> None:
        """Begin a new step."""
        self._start(step)
        if self._bar is None:
            self.note(step)

    def update(self, count: int, total: int) -> None:
        """Show how far the step is, how fast it goes and how long it will take.

        A line comes at most once an interval.
        """
        elapsed_s = self._due_s()
        if elapsed_s is not None:
            per_s = self._rate(count)
            if self._bar is None:
                line = f"{self._step} {count:,} of {total:,}, {elapsed_s:.0f} s"
                self.note(line + _format_rate(per_s, total - count))
            else:
                self._bar.update(self._task, rate=_format_speed(per_s))
        if self._bar is not None:
            self._bar.update(self._task, completed=count, total=total)

    def _rate(self, count: int) -> float:
        """Return what is done a second of late, and remember how far the step is now."""
        now_s = self._clock()
        while len(self._counts) > 1 and self._counts[1][0] <= now_s - RATE_OVER_S:
            self._counts.popleft()
        self._counts.append((now_s, count))
        then_s, before = self._counts[0]
        return max(0.0, (count - before) / (now_s - then_s)) if now_s > then_s else 0.0

    def end(self, result: str) -> None:
        """Show the step's result, which stays on the screen."""
        self.note(f"{self._step}: {result}")

    def note(self, text: str, style: str | None = None) -> None:
        """Print a line that stays, above the bar if there is one."""
        self.console.print(text, style=style, soft_wrap=True)

    def report(self, stage: str, count: int, total: int) -> None:
        """Take the present stage of a step that `wait` shows, and how far it is."""
        self._stage = f": {stage} {count:,} of {total:,}" if total > 1 else f": {stage}"
        if self._bar is not None:
            description = f"{self._step}: {stage}"
            self._bar.update(self._task, description=description, completed=count, total=total)

    @contextmanager
    def wait(self, step: str) -> Iterator[None]:
        """Show a step while the block runs: its seconds, from the first on, and its stage if any.

        In a pipe, a step that takes less than a second prints nothing.
        """
        self._start(step)
        if self._bar is not None:
            yield
            return
        is_over = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(is_over,), daemon=True)
        ticker.start()
        try:
            yield
        finally:
            is_over.set()
            ticker.join()

    def _tick(self, is_over: threading.Event) -> None:
        while not is_over.wait(LINE_EVERY_S / 10):
            if (elapsed_s := self._due_s()) is not None:
                self.note(f"{self._step}{self._stage}, {elapsed_s:.0f} s")

    def _start(self, step: str) -> None:
        with self._lock:
            self._step, self._stage = step, ""
            self._start_s = self._shown_s = self._clock()
            self._counts = deque([(self._start_s, 0)])
        if self._bar is not None:
            for task in self._bar.task_ids:
                self._bar.remove_task(task)
            self._task = self._bar.add_task(step, total=None, rate="")

    def _due_s(self) -> float | None:
        """Return the seconds of the step if a line is due, and count it as shown; else None."""
        with self._lock:
            now_s = self._clock()
            if now_s - self._shown_s < LINE_EVERY_S:
                return None
            self._shown_s = now_s
            return now_s - self._start_s


def _columns() -> Iterable[ProgressColumn]:
    return (
        # Names in a step are external text, so it is not markup.
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )


def _format_speed(per_s: float) -> str:
    if not per_s:
        return ""
    return f"{per_s:,.0f}/s" if per_s >= 10 else f"{per_s:.2g}/s"


def _format_rate(per_s: float, left: int) -> str:
    """Return speed and time left as the end of a line; nothing for a step that stands still."""
    return f", {_format_speed(per_s)}, {left / per_s:,.0f} s left" if per_s else ""


@contextmanager
def show_waiting(step: str) -> Iterator[StepProgress]:
    """Show that one step runs, for a command that has no other progress."""
    with StepProgress() as progress, progress.wait(step):
        yield progress
