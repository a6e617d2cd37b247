"""Console and tables of every command: cells are text, never markup, and are never cut.

Ids, reasons and notes are external input: `p[/x]` is a valid player id. Therefore every command
makes its console and tables here; a style is given as a `Text`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions
from rich.table import Table
from rich.text import Text

PIPE_WIDTH: Final = 10_000
"""Columns of a line in a pipe or file: enough for the longest row, since a cut id is useless."""
PIPE_HEIGHT: Final = 25

_CELL_OVERHEAD: Final = 4
"""Columns of padding and border, and one for the text of a cell folded to the minimum."""


def console(*, stderr: bool = False) -> Console:
    """Make a console as wide as the terminal, or `PIPE_WIDTH` elsewhere.

    Colours appear on a terminal only, and not with NO_COLOR.
    """
    made = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not made.file.isatty():
        made.size = ConsoleDimensions(PIPE_WIDTH, PIPE_HEIGHT)
    return made


def table(*headers: str, whole: Collection[str] = (), **look: Any) -> Table:
    """Make a table that folds cells that do not fit; `whole` columns (ids) are kept on one line."""
    made = Table(**look)
    for header in headers:
        made.add_column(header, overflow="fold", no_wrap=header in whole)
    return made


def show(shown: Table) -> None:
    """Print a table on stdout."""
    out = console()
    _fold_oversized_columns(shown, out.width)
    out.print(shown)


def show_pairs(lines: Iterable[tuple[str, str]]) -> None:
    """Print names and values on stdout, a pair a row."""
    grid = table("", "", box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    for name, value in lines:
        grid.add_row(Text(name, "bold"), value)
    show(grid)


def _fold_oversized_columns(shown: Table, width: int) -> None:
    """Fold id columns on a terminal too narrow for them: Rich would cut what it cannot wrap."""
    kept = [column for column in shown.columns if column.no_wrap]
    ids = sum(max([0, *(cell_len(str(cell)) for cell in column.cells)]) for column in kept)
    if ids + _CELL_OVERHEAD * len(shown.columns) > width:
        for column in kept:
            column.no_wrap = False
