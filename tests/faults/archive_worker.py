"""Archives a log in memory in a process of its own, to be killed: `archive_worker FOLDER`."""

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
LATER_MS = START_MS + 10_000 * 3_600_000


def make_log() -> MemoryLog:
    return transactions_log(TRANSACTIONS, 2, 1_200)


def archive(folder: Path, log: MemoryLog) -> None:
    store = LocalStore(folder / "files")
    archiver = Archiver(log, store, FileBooks(folder / "books"), "", RULE, lambda: LATER_MS)
    archiver.finish_planned()
    archiver.archive([TRANSACTIONS])


if __name__ == "__main__":
    made = make_log()
    made.block_records = 10
    whole = made.read

    def read_slowly(*place):
        for block in whole(*place):
            time.sleep(0.002)
            yield block

    made.read = read_slowly  # type: ignore[method-assign]
    archive(Path(sys.argv[1]), made)
