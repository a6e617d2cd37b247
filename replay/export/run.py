"""An export from its request to its result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa

from replay.export.dataset import Dataset, WritePiece, write_by_day, write_rows_as
from replay.export.finish import Manifest, finish, read_manifest
from replay.export.plan import ExportPlan, plan_export
from replay.export.request import ExportRequest
from replay.export.rows import RowMaker, RowStats
from replay.log.blocks import LogSource
from replay.log.pace import NO_BOUND, ReplayPace
from schemas.errors import UsageError

RESULT_SUFFIXES: Final = (".parquet", ".jsonl", ".csv", ".duckdb")
"""A result without one of these is a folder of Parquet files by day and provider."""

ShowProgress = Callable[[int, int], None]
"""Takes how many offsets have been read, and how many there are."""


def piece_writer(result: Path, request: ExportRequest) -> WritePiece:
    """Return the writer of a result's pieces. Raises UsageError for a suffix that is not known."""
    suffix = result.suffix
    if suffix in {".jsonl", ".csv"}:
        return write_rows_as(suffix)
    if suffix in {".parquet", ".duckdb"}:
        return write_rows_as(".parquet")
    if suffix:
        known = ", ".join(RESULT_SUFFIXES)
        raise UsageError(f"{result.name}: the suffix says the format: one of {known}, or a folder")
    has_period = request.since_ms is not None or request.until_ms is not None
    return write_by_day(request.time_column if has_period else "_append_at")


def export_to(
    source: LogSource,
    request: ExportRequest,
    topic: str,
    result: Path,
    *,
    resume: bool = False,
    progress: ShowProgress = lambda _, __: None,
    pace: ReplayPace = NO_BOUND,
) -> Manifest:
    """Export a stretch of a topic into a file or folder; `topic` is its name on the broker.

    `pace` is that of the writing, and best the one that the source has.

    Raises UsageError, LogGap, Unavailable, and ExportInterrupted for damaged remains of a run that
    is to be resumed.
    """
    request.check()
    request.condition()
    dataset = Dataset(result, piece_writer(result, request), pace)
    complete = read_manifest(result) if resume else None
    if complete is not None and msgspec.convert(complete.request, ExportRequest).is_like(request):
        dataset.remove()
        return complete
    plan = dataset.open(request, lambda: plan_export(source, request, topic), resume=resume)
    maker = RowMaker(plan)
    done = 0
    for piece in plan.pieces():
        if piece not in dataset.finished:
            stats = RowStats()
            blocks = source.read(plan.topic, *piece)
            dataset.store(piece, maker.build(blocks, stats), stats)
        done += piece.to_offset - piece.from_offset
        progress(done, plan.records)
    return finish(dataset, plan, maker.schema, maker.masked_fields)


def export_rows(
    source: LogSource, request: ExportRequest, topic: str, stats: RowStats
) -> Iterator[pa.Table]:
    """Yield the rows of a request in the order of the log, a table a piece; nothing is written.

    Raises as `export_to`.
    """
    plan: ExportPlan = plan_export(source, request, topic)
    maker = RowMaker(plan)
    for piece in plan.pieces():
        yield maker.build(source.read(plan.topic, *piece), stats)
