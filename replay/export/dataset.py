"""An export's pieces on disk, so that it can be interrupted at any instant and resumed.

While an export runs, everything is in the folder `<result>.partial`: its plan, the files of each
piece, and a journal with a line for each piece whose files are complete and on the disk. After a
kill, files that no line of the journal names are removed and made again. The plan holds the offsets
that were found at the beginning, so the result is the same however often it was interrupted.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from replay.columns.avro_reader import TIME
from replay.export.plan import ExportPlan, Piece
from replay.export.request import ExportRequest
from replay.export.rows import RowStats
from replay.export.writers import file_digest, write_parquet, write_text
from replay.log.pace import NO_BOUND, ReplayPace
from schemas.errors import PitbossError, UsageError

PARTS: Final = "parts"
_PLAN: Final = "plan.json"
_JOURNAL: Final = "journal.jsonl"
_NO_PROVIDER: Final = "none"
_DAY_US: Final = 86_400_000_000


class ExportInterrupted(PitbossError):
    """What an interrupted export left on the disk is not what its journal says."""

    code: ClassVar[str] = "EXPORT_DAMAGED"


class PieceFile(msgspec.Struct, frozen=True):
    """One file of a piece: its path below the parts, its rows and its SHA-256."""

    path: str
    rows: int
    sha256: str


class FinishedPiece(msgspec.Struct, frozen=True):
    """A line of the journal: a piece whose files are complete."""

    partition: int
    from_offset: int
    to_offset: int
    read: int
    rows: int
    in_margin: int
    from_margin: int
    inexact_amounts: int
    schema_ids: list[int]
    unreadable: list[tuple[str, str]]
    unreadable_headers: list[str]
    files: list[PieceFile]

    @property
    def piece(self) -> Piece:
        """The piece that was finished."""
        return Piece(self.partition, self.from_offset, self.to_offset)


WritePiece = Callable[[Path, Piece, pa.Table, ReplayPace], list[tuple[Path, int]]]
"""Writes a piece's rows below a folder, at a pace, and returns each file with its rows."""


class Dataset:
    """The folder of an export that is under way."""

    def __init__(self, result: Path, write: WritePiece, pace: ReplayPace = NO_BOUND) -> None:
        self.result = result
        self.pace = pace
        self.folder = result.with_name(result.name + ".partial")
        self.parts = self.folder / PARTS
        self._write = write
        self.finished: dict[Piece, FinishedPiece] = {}

    def open(
        self, request: ExportRequest, make_plan: Callable[[], ExportPlan], *, resume: bool
    ) -> ExportPlan:
        """Begin an export, or resume the one that was interrupted, and return its plan.

        A resumed one keeps the period of its first run. Raises UsageError where the result exists,
        where an interrupted export is there and shall not be resumed, and where it is another one.
        """
        if self.result.exists() and not self.folder.exists():
            raise UsageError(f"{self.result} exists already: give another name, or remove it")
        plan_file = self.folder / _PLAN
        if plan_file.exists():
            if not resume:
                raise UsageError(
                    f"{self.folder} holds an interrupted export: go on with it with --resume, or "
                    "remove that folder"
                )
            plan = msgspec.json.decode(plan_file.read_bytes(), type=ExportPlan)
            if not plan.request.is_like(request):
                raise UsageError(
                    f"{self.folder} holds another export: --resume needs the same topic and "
                    "filters; or remove that folder"
                )
            self._read_journal()
            self._remove_unfinished()
            return plan
        plan = make_plan()
        self.parts.mkdir(parents=True, exist_ok=True)
        _write_durably(plan_file, msgspec.json.format(msgspec.json.encode(plan)))
        return plan

    def store(self, piece: Piece, table: pa.Table, stats: RowStats) -> None:
        """Write a piece's files, then the line that makes them part of the export."""
        written = self._write(self.parts, piece, table, self.pace)
        files = []
        for file, rows in written:
            _sync(file)
            path = file.relative_to(self.parts).as_posix()
            files.append(PieceFile(path, rows, file_digest(file, self.pace)))
        for folder in {file.parent for file, _ in written}:
            _sync(folder)
        finished = FinishedPiece(
            *piece,
            stats.read,
            stats.rows,
            stats.in_margin,
            stats.from_margin,
            stats.inexact_amounts,
            sorted(stats.schema_ids),
            stats.unreadable,
            stats.unreadable_headers,
            sorted(files, key=lambda each: each.path),
        )
        with (self.folder / _JOURNAL).open("ab") as journal:
            journal.write(msgspec.json.encode(finished) + b"\n")
            journal.flush()
            os.fsync(journal.fileno())
        self.finished[piece] = finished

    def in_order(self) -> Iterator[FinishedPiece]:
        """Yield the finished pieces in the order of the log."""
        for piece in sorted(self.finished):
            yield self.finished[piece]

    def _read_journal(self) -> None:
        journal = self.folder / _JOURNAL
        if not journal.exists():
            return
        text = journal.read_bytes()
        whole, _, cut = text.rpartition(b"\n")
        if cut:  # the kill came within the last line
            _write_durably(journal, whole + b"\n" if whole else b"")
        for line in whole.splitlines():
            finished = msgspec.json.decode(line, type=FinishedPiece)
            self.finished[finished.piece] = finished

    def _remove_unfinished(self) -> None:
        """Remove files of unfinished pieces; check that those of the finished ones are whole."""
        kept = {
            self.parts / each.path: each for one in self.finished.values() for each in one.files
        }
        if not self.parts.exists():
            if self.result.exists():
                return  # the kill came after the parts had become the result
            self.parts.mkdir(parents=True)
        for file in sorted(self.parts.rglob("*")):
            if file.is_file() and file not in kept:
                file.unlink()
        for file, expected in kept.items():
            if not file.exists() or file_digest(file) != expected.sha256:
                raise ExportInterrupted(
                    f"{file} is missing or changed since it was written: remove {self.folder} and "
                    "export again"
                )

    def remove(self) -> None:
        """Remove the folder; the result is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _write_durably(file: Path, content: bytes) -> None:
    temporary = file.with_name(file.name + ".new")
    temporary.write_bytes(content)
    _sync(temporary)
    temporary.replace(file)
    _sync(file.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_by_day(time_column: str) -> WritePiece:
    """Return a writer of Parquet files by day and provider, in folders as Hive names them."""

    def write(
        parts: Path, piece: Piece, table: pa.Table, pace: ReplayPace
    ) -> list[tuple[Path, int]]:
        written = []
        for folder, rows in split_by_day(table, time_column):
            file = parts / folder / f"{piece.name}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            write_parquet(rows, file, pace)
            written.append((file, rows.num_rows))
        return written

    return write


def split_by_day(table: pa.Table, time_column: str) -> Iterator[tuple[str, pa.Table]]:
    """Yield `day=<day>/provider=<provider>`, or the day alone, with the rows that belong there.

    The provider stays a column, too: a file tells it without its path.
    """
    if not table.num_rows:
        return
    times = pc.fill_null(table.column(time_column), pa.scalar(0).cast(TIME))
    days = times.cast(pa.int64()).to_numpy() // _DAY_US
    names, codes = _provider_codes(table)
    places = days * len(names) + codes
    found = np.unique(places)
    for place in found.tolist():
        day, code = divmod(place, len(names))
        folder = f"day={np.datetime64(day, 'D')}{names[code]}"
        rows = table if found.size == 1 else table.filter(pa.array(places == place))
        yield folder, rows.combine_chunks()


def _provider_codes(table: pa.Table) -> tuple[list[str], Any]:
    """Return the folder of each provider, and for each row which of them is its own."""
    if "provider" not in table.column_names:
        return [""], np.zeros(table.num_rows, dtype=np.int64)
    filled = pc.fill_null(table.column("provider"), _NO_PROVIDER).combine_chunks()
    encoded = filled.dictionary_encode()
    whole = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    array = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
    names = [f"/provider={name}" for name in array.dictionary.to_pylist()]
    return names, array.indices.to_numpy().astype(np.int64)


def write_rows_as(suffix: str) -> WritePiece:
    """Return a writer of one file a piece: `.parquet`, `.jsonl` or `.csv`."""

    def write(
        parts: Path, piece: Piece, table: pa.Table, pace: ReplayPace
    ) -> list[tuple[Path, int]]:
        if not table.num_rows:
            return []
        file = parts / f"{piece.name}{suffix}"
        (write_parquet if suffix == ".parquet" else write_text)(table, file, pace)
        return [(file, table.num_rows)]

    return write


def total(finished: Iterable[FinishedPiece], name: str) -> int:
    """Return the sum of one count over pieces."""
    return sum(getattr(each, name) for each in finished)


def merged(finished: Iterable[FinishedPiece], name: str) -> list[Any]:
    """Return the items of one list over pieces, in their order."""
    return [item for each in finished for item in getattr(each, name)]
