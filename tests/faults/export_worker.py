"""Exports a log in memory in a process of its own, to be killed: `export_worker RESULT READS_MAX [--resume]`.

It hangs after so many reads, so that it is never at its end before whoever kills it gets the processor.
"""

from __future__ import annotations

import sys
import time
from itertools import count
from pathlib import Path

from replay.export import plan as plans
from replay.export.request import ExportRequest
from replay.export.run import export_to
from schemas.topics import TRANSACTIONS
from tests.support.memory_log import MemoryLog, transactions_log

PARTITIONS, RECORDS, PIECE_RECORDS = 4, 1_500, 100
HANGS_S = 3_600
REQUEST = ExportRequest(TRANSACTIONS, margin_ms=0)


def make_log() -> MemoryLog:
    plans.PIECE_RECORDS = PIECE_RECORDS  # type: ignore[misc]
    return transactions_log(TRANSACTIONS, PARTITIONS, RECORDS)


def main() -> None:
    log = make_log()
    read, reads = log.read, count(1)

    def read_slowly(*place):
        time.sleep(0.01 if next(reads) <= int(sys.argv[2]) else HANGS_S)
        yield from read(*place)

    log.read = read_slowly  # type: ignore[method-assign]
    export_to(log, REQUEST, TRANSACTIONS, Path(sys.argv[1]), resume="--resume" in sys.argv)


if __name__ == "__main__":
    main()
