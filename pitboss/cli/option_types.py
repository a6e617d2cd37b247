"""Types of options that several commands share: numbers and times; options that were renamed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from pitboss.ops.periods import ACCEPTED_TIMES, parse_duration_ms, parse_time_ms
from schemas.errors import UsageError

C = TypeVar("C", bound=Callable[..., None])
_NOW: Final = "pitboss.now_ms"


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


def invocation_time_ms(ctx: click.Context | None) -> int:
    """Return the time of the invocation, epoch ms: the same for each of its options.

    Otherwise `--since yesterday --until today`, read at midnight, could be two days.
    """
    now_ms = time.time_ns() // 1_000_000
    return now_ms if ctx is None else int(ctx.meta.setdefault(_NOW, now_ms))


class Time(click.ParamType):
    """Time in the forms of `ACCEPTED_TIMES`, converted to epoch ms."""

    name = "time"
    also_accepted = ""
    """What the error adds to the forms of a time."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Convert a text; a number is epoch ms already, as a default is."""
        if isinstance(value, int):
            return value
        try:
            return parse_time_ms(str(value), invocation_time_ms(ctx))
        except UsageError as error:
            self.fail(f"{error}{self.also_accepted}", param, ctx)


class Duration(click.ParamType):
    """Duration such as `90s` or `14d`, converted to milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Convert a text; a number is milliseconds already."""
        if isinstance(value, int):
            return value
        try:
            return parse_duration_ms(str(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)


RATE: Final = FiniteFloat(min=0, min_open=True)
"""Records a second."""
TIME: Final = Time()
DURATION: Final = Duration()


class RenamedOption(click.Option):
    """Option that also accepts a former name, which the help leaves out and a note discourages."""

    def __init__(self, *names: Any, formerly: str, **attributes: Any) -> None:
        super().__init__(*names, **attributes)
        self.formerly = formerly
        self._former_key = f"formerly {formerly}"

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Add both names; the former one stores under a key of its own."""
        super().add_to_parser(parser, ctx)
        action = "append" if self.multiple else "store"
        parser.add_option(self, [self.formerly], self._former_key, action, nargs=self.nargs)

    def consume_value(self, ctx: click.Context, opts: Any) -> Any:
        """Return the value of whichever name was given. Raises click.UsageError for both."""
        if self._former_key not in opts:
            return super().consume_value(ctx, opts)
        if self.name in opts:
            raise click.UsageError(f"{self.formerly} is the former name of {self.opts[0]}", ctx)
        note_former_name(self.formerly, self.opts[0])
        return opts[self._former_key], click.core.ParameterSource.COMMANDLINE


def note_former_name(former: str, replacement: str) -> None:
    """Print a note on stderr that a form of arguments is deprecated."""
    click.echo(f"note: {former} is deprecated: use {replacement}", err=True)


def period_options(
    *, of: str = "event time", formerly_since: str | None = None, has_until: bool = True
) -> Callable[[C], C]:
    """Add `--since` and `--until` (epoch ms or None): since is included, until is not, UTC.

    `of` says which time of a row counts, for the help.
    """
    attributes: dict[str, Any] = (
        {} if formerly_since is None else {"cls": RenamedOption, "formerly": formerly_since}
    )
    since = click.option(
        "--since",
        "since_ms",
        type=TIME,
        help=f"From this {of} on, UTC: {ACCEPTED_TIMES}.",
        **attributes,
    )
    until = click.option(
        "--until", "until_ms", type=TIME, help=f"Before this {of}, in the same forms."
    )

    def add(command: C) -> C:
        return since(until(command) if has_until else command)

    return add


REPLAY_RATE: Final = 20_000
"""Records a second: about a fifth of a core here and of what a broker on two cores can serve."""

rate_option = click.option(
    "--rate",
    type=FiniteFloat(min=0),
    default=REPLAY_RATE,
    show_default=True,
    help="Records a second to read at most; 0 for as many as there come.",
)
"""How fast a command that reads history may read, so that the live system does not notice."""


def offset_options(command: C) -> C:
    """Add `--from-offset`, `--to-offset` and `--partition`, which name a slice by its offsets."""
    begin = click.option(
        "--from-offset", type=click.IntRange(min=0), help="From this offset of each partition on."
    )
    end = click.option("--to-offset", type=click.IntRange(min=0), help="Before this offset.")
    partition = click.option("--partition", type=click.IntRange(min=0), help="Only this partition.")
    return begin(end(partition(command)))
