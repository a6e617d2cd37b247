"""From the pieces of an export to the result that was asked for, and its manifest."""

from __future__ import annotations

import hashlib
import shutil
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from replay.export.dataset import Dataset, merged, total
from replay.export.plan import ExportPlan
from replay.export.writers import file_digest, parquet_options, to_csv
from replay.log.pace import PacedReader, PacedWriter
from schemas.registry import released_registry

MANIFEST = "manifest.json"
_ROWS_PER_GROUP = 131_072


class PartitionCount(msgspec.Struct, frozen=True):
    """What was read of one partition: offsets `[from_offset, to_offset)`, records and rows."""

    partition: int
    from_offset: int
    to_offset: int
    records: int
    rows: int


class ResultFile(msgspec.Struct, frozen=True):
    """One file of a result, by its path within it."""

    path: str
    rows: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What an export holds and where it is from.

    It has no time of its own: the same export of the same log has the same manifest.
    """

    topic: str
    request: dict[str, Any]
    records: int
    rows: int
    in_margin: int
    from_margin: int
    inexact_amounts: int
    schema_ids: dict[str, str]
    masked: list[str]
    unmask_reason: str | None
    unreadable: list[tuple[str, str]]
    unreadable_headers: list[str]
    partitions: list[PartitionCount]
    files: list[ResultFile]
    sha256: str
    """Over the digests of all files, in the order of their paths."""
    code_version: str


def finish(
    dataset: Dataset, plan: ExportPlan, schema: pa.Schema, masked: tuple[str, ...]
) -> Manifest:
    """Make the result of a complete data set, with its manifest, and remove the pieces.

    May be interrupted and called again.
    """
    result = dataset.result
    suffix = result.suffix
    if suffix in _ASSEMBLERS:
        if dataset.parts.exists():
            made = dataset.folder / f"result{suffix}"
            made.unlink(missing_ok=True)
            _ASSEMBLERS[suffix](dataset, plan, schema, made)
            made.replace(result)
        rows = total(dataset.finished.values(), "rows")
        files = [ResultFile(result.name, rows, file_digest(result, dataset.pace))]
        manifest = make_manifest(dataset, plan, masked, files)
        _write_manifest(result.with_name(f"{result.name}.{MANIFEST}"), manifest)
    else:
        pieces = merged(dataset.in_order(), "files")
        files = [ResultFile(each.path, each.rows, each.sha256) for each in pieces]
        manifest = make_manifest(dataset, plan, masked, sorted(files, key=lambda each: each.path))
        if dataset.parts.exists():
            _write_manifest(dataset.parts / MANIFEST, manifest)
            dataset.parts.replace(result)
    dataset.remove()
    return manifest


def read_manifest(result: Path) -> Manifest | None:
    """Return the manifest of a complete result, or None where there is none."""
    is_file = result.suffix in _ASSEMBLERS
    file = result.with_name(f"{result.name}.{MANIFEST}") if is_file else result / MANIFEST
    if not result.exists() or not file.exists():
        return None
    return msgspec.json.decode(file.read_bytes(), type=Manifest)


def make_manifest(
    dataset: Dataset, plan: ExportPlan, masked: tuple[str, ...], files: list[ResultFile]
) -> Manifest:
    """Return the manifest of a complete data set with these files."""
    pieces = [*dataset.in_order()]
    digest = hashlib.sha256("".join(f"{each.sha256}\n" for each in files).encode())
    ids = sorted(set(merged(pieces, "schema_ids")))
    records: dict[int, int] = defaultdict(int)
    rows: dict[int, int] = defaultdict(int)
    for each in pieces:
        records[each.partition] += each.read
        rows[each.partition] += each.rows
    return Manifest(
        topic=plan.topic,
        request=msgspec.to_builtins(plan.request),
        records=total(pieces, "read"),
        rows=total(pieces, "rows"),
        in_margin=total(pieces, "in_margin"),
        from_margin=total(pieces, "from_margin"),
        inexact_amounts=total(pieces, "inexact_amounts"),
        schema_ids={str(one): released_registry().by_id(one).name for one in ids},
        masked=[*masked],
        unmask_reason=plan.request.unmask_reason,
        unreadable=merged(pieces, "unreadable"),
        unreadable_headers=merged(pieces, "unreadable_headers"),
        partitions=[
            PartitionCount(number, *plan.offsets[number], records[number], rows[number])
            for number in sorted(plan.offsets)
        ],
        files=files,
        sha256=digest.hexdigest(),
        code_version=version("pitboss"),
    )


def _write_manifest(file: Path, manifest: Manifest) -> None:
    file.write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")


def _assemble_text(dataset: Dataset, _: ExportPlan, schema: pa.Schema, made: Path) -> None:
    with PacedWriter(made, dataset.pace) as out:
        if made.suffix == ".csv":
            out.write(to_csv(schema.empty_table(), with_header=True))
        for file in merged(dataset.in_order(), "files"):
            with PacedReader(dataset.parts / file.path, dataset.pace) as part:
                shutil.copyfileobj(part, out)


def _assemble_parquet(dataset: Dataset, _: ExportPlan, schema: pa.Schema, made: Path) -> None:
    """Write the pieces' rows into one file, small pieces together in one row group."""
    waiting: list[pa.Table] = []
    with (
        PacedWriter(made, dataset.pace) as out,
        pq.ParquetWriter(out, schema, **parquet_options(schema)) as writer,
    ):

        def flush() -> None:
            if waiting:
                writer.write_table(pa.concat_tables(waiting).combine_chunks())
                waiting.clear()

        for file in merged(dataset.in_order(), "files"):
            with PacedReader(dataset.parts / file.path, dataset.pace) as part:
                # A column at a time, by one thread: so there is a rest behind each.
                piece = pq.ParquetFile(part, pre_buffer=False).read(use_threads=False)
            waiting.append(piece.cast(schema))
            if sum(table.num_rows for table in waiting) >= _ROWS_PER_GROUP:
                flush()
        flush()


def _assemble_duckdb(dataset: Dataset, plan: ExportPlan, schema: pa.Schema, made: Path) -> None:
    """Make one table, named after the topic with underscores, in the order of the log."""
    import duckdb

    name = plan.request.topic.replace(".", "_").replace("-", "_")
    with duckdb.connect(str(made)) as connection:
        if dataset.pace.records_per_s:
            connection.execute("SET threads = 1")
        empty = schema.empty_table()
        connection.register("first_rows", empty)
        connection.execute(f'CREATE TABLE "{name}" AS SELECT * FROM first_rows')  # noqa: S608 - a topic of the catalogue
        connection.unregister("first_rows")
        for file in merged(dataset.in_order(), "files"):
            connection.execute(
                f'INSERT INTO "{name}" SELECT * FROM read_parquet(?)',  # noqa: S608 - as above
                [str(dataset.parts / file.path)],
            )
            dataset.pace.rest()


_ASSEMBLERS = {
    ".csv": _assemble_text,
    ".jsonl": _assemble_text,
    ".parquet": _assemble_parquet,
    ".duckdb": _assemble_duckdb,
}
