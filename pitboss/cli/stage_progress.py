"""Progress of work in stages: a bar on a terminal, a line a second in a pipe, both on stderr."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pitboss.cli import screen

LINE_EVERY_S = 1.0


class StageProgress:
    """Context manager that shows the stage of the work that its block reports.

    In a pipe a line comes once a second while the block runs, so that short work prints nothing.
    """

    def __init__(self, what: str) -> None:
        """Prepare; `what` begins each line, as in "provisioning"."""
        self._what = what
        self._stage = "begins"
        self._began_s = time.monotonic()
        self._is_done = threading.Event()
        self._bar: Progress | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Begin to show."""
        console = screen.console(stderr=True)
        self._began_s = time.monotonic()
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task(self._what, total=None)
            self._bar.start()
        else:
            self._thread = threading.Thread(target=self._print_lines, name=self._what, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop showing."""
        self._is_done.set()
        if self._bar is not None:
            self._bar.stop()
        if self._thread is not None:
            self._thread.join()

    def report(self, stage: str, done: int, total: int) -> None:
        """Take the present stage, and how much of it is done."""
        self._stage = f"{stage} {done} of {total}" if total > 1 else stage
        if self._bar is not None:
            self._bar.update(
                self._task,
                description=f"{self._what}: {stage}",
                completed=done,
                total=total,
            )

    def _print_lines(self) -> None:
        while not self._is_done.wait(LINE_EVERY_S):
            elapsed_s = time.monotonic() - self._began_s
            click.echo(f"{self._what}: {self._stage} ({elapsed_s:.0f} s)", err=True)
