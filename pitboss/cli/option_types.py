"""Types of options that several commands share."""

from __future__ import annotations

import math

import click


class FiniteFloat(click.FloatRange):
    """Finite number with bounds; click's own range accepts `nan`, outside any bound, and `inf`."""

    name = "float range"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Convert as click does, and refuse `nan` and `inf`."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


RATE = FiniteFloat(min=0, min_open=True)
"""Records a second."""
