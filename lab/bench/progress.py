"""What a measurement says of its progress while it runs."""

from __future__ import annotations

from typing import Protocol


class BenchProgress(Protocol):
    """Shows one step after another; the command line has the terminal's and the pipe's."""

    def begin(self, step: str) -> None:
        """Begin a new step, counted or not."""

    def update(self, count: int, total: int) -> None:
        """Show how far the step is."""

    def end(self, result: str) -> None:
        """Show the step's result, which stays on the screen."""
