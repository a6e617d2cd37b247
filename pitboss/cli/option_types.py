"""Types of options that several commands have."""

from __future__ import annotations

import math

import click


class FiniteFloat(click.FloatRange):
    """A number with bounds: click's own range takes `nan`, which is on no side of any bound, and
    `inf`.
    """

    name = "float range"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Refuse what is no number of anything."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number.", param, ctx)
        return number


RATE = FiniteFloat(min=0, min_open=True)
"""Records a second."""
