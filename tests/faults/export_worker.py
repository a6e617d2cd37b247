"""Exports a log in memory in a process of its own, to be killed: `export_worker RESULT [--resume]`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from replay.export import plan as plans
from replay.export.request import ExportRequest
from replay.export.run import export_to
from schemas.topics import TRANSACTIONS
from tests.support.memory_log import MemoryLog, transactions_log

PARTITIONS, RECORDS, PIECE_RECORDS = 4, 1_500, 100
REQUEST = ExportRequest(TRANSACTIONS, margin_ms=0)


def make_log() -> MemoryLog:
    plans.PIECE_RECORDS = PIECE_RECORDS  # type: ignore[misc]
    return transactions_log(TRANSACTIONS, PARTITIONS, RECORDS)


def main() -> None:
    log = make_log()
    read = log.read

    def read_slowly(*place):
        time.sleep(0.01)
        yield from read(*place)

    log.read = read_slowly  # type: ignore[method-assign]
    export_to(log, REQUEST, TRANSACTIONS, Path(sys.argv[1]), resume="--resume" in sys.argv)


if __name__ == "__main__":
    main()
