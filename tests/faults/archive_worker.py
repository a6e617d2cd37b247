"""Archives a log in memory in a process of its own, to be killed: `archive_worker FOLDER LINES_MAX`.

It hangs once its books have so many lines, so that it is never at its end before whoever kills it gets the processor.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from replay.archive.archiver import Archiver
from replay.archive.cut import CutRule
from replay.archive.store import LocalStore
from schemas.topics import TRANSACTIONS
from tests.support.archive_books import FileBooks
from tests.support.memory_log import START_MS, MemoryLog, transactions_log

RULE = CutRule(span_ms=3_600_000, records_max=25)
HANGS_S = 3_600
LATER_MS = START_MS + 10_000 * 3_600_000


def make_log() -> MemoryLog:
    return transactions_log(TRANSACTIONS, 2, 1_200)


def archive(folder: Path, log: MemoryLog) -> None:
    store = LocalStore(folder / "files")
    archiver = Archiver(log, store, FileBooks(folder / "books"), "", RULE, lambda: LATER_MS)
    archiver.finish_planned()
    archiver.archive([TRANSACTIONS])


def count_lines(folder: Path) -> int:
    books = folder / "books"
    return books.read_bytes().count(b"\n") if books.exists() else 0


if __name__ == "__main__":
    made, goal, lines_max = make_log(), Path(sys.argv[1]), int(sys.argv[2])
    made.block_records = 10
    whole = made.read

    def read_slowly(*place):
        for block in whole(*place):
            time.sleep(0.002 if count_lines(goal) < lines_max else HANGS_S)
            yield block

    made.read = read_slowly  # type: ignore[method-assign]
    archive(goal, made)
