"""Where every command's tables go: what is shown is text and never markup, and nothing of it is
cut.

Ids, reasons and notes are other people's: `p[/x]` is a player like any other. So no module of the
command line makes a console or a table of its own; a style is given as a `Text`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions
from rich.table import Table
from rich.text import Text

PIPE_WIDTH: Final = 10_000
"""Columns of a line that no terminal shows: enough for the longest row, since what is cut cannot be
used again.
"""
PIPE_HEIGHT: Final = 25

_AROUND_A_CELL: Final = 4
"""Columns of padding and border, and one for the text of a cell that is folded as far as can be."""


def console(*, stderr: bool = False) -> Console:
    """As wide as the terminal, or as whatever comes in a pipe; colours only on a terminal, and none
    with NO_COLOR.
    """
    made = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not made.file.isatty():
        made.size = ConsoleDimensions(PIPE_WIDTH, PIPE_HEIGHT)
    return made


def table(*headers: str, whole: Collection[str] = (), **look: Any) -> Table:
    """A table whose cells are folded where they do not fit; `whole` are columns of ids, to be kept
    on one line.
    """
    made = Table(**look)
    for header in headers:
        made.add_column(header, overflow="fold", no_wrap=header in whole)
    return made


def show(shown: Table) -> None:
    """Print a table on stdout."""
    out = console()
    _fold_what_has_no_room(shown, out.width)
    out.print(shown)


def show_pairs(lines: Iterable[tuple[str, str]]) -> None:
    """Print names and values on stdout, a pair a row."""
    grid = table("", "", box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    for name, value in lines:
        grid.add_row(Text(name, "bold"), value)
    show(grid)


def _fold_what_has_no_room(shown: Table, width: int) -> None:
    """On a terminal too narrow for its ids they take two lines: Rich would cut what it may not
    wrap.
    """
    kept = [column for column in shown.columns if column.no_wrap]
    ids = sum(max([0, *(cell_len(str(cell)) for cell in column.cells)]) for column in kept)
    if ids + _AROUND_A_CELL * len(shown.columns) > width:
        for column in kept:
            column.no_wrap = False
