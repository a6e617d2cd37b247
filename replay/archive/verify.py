"""Checks of an archive from its files alone: no broker and no database is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from itertools import groupby, pairwise

import msgspec
import pyarrow.lib

from replay.archive.files import read_records
from replay.archive.manifest import (
    FileManifest,
    FileSpan,
    decode_manifest,
    parse_path,
    rising_times,
    unpack_times,
)
from replay.archive.store import ArchiveStore
from schemas.errors import UsageError


class ArchiveFault(msgspec.Struct, frozen=True):
    """Something that is not as it should be, and where."""

    path: str
    what: str


class ArchiveReport(msgspec.Struct, frozen=True):
    """Result of a verification."""

    files: int
    records: int
    partitions: int
    faults: list[ArchiveFault]


def verify_archive(
    store: ArchiveStore,
    topic: str | None = None,
    *,
    progress: Callable[[int, int], None] = lambda _, __: None,
) -> ArchiveReport:
    """Check names, digests, manifests and contents of all files, or of one topic's.

    A hole or an overlap shows in the names; a file must have the digest, the count and the times of
    its manifest, and offsets that rise within its span.
    """
    paths = store.list(topic or "")
    if topic is not None:
        paths = [path for path in paths if path.startswith(f"{topic}/")]
    spans = sorted(span for path in paths if (span := parse_path(path)) is not None)
    faults = [*_stray_files(paths, spans), *find_holes(spans)]
    records = 0
    for number, span in enumerate(spans, 1):
        count, found = _verify_file(store, span)
        records += count
        faults += found
        progress(number, len(spans))
    partitions = len({(span.topic, span.partition) for span in spans})
    return ArchiveReport(len(spans), records, partitions, faults)


def find_holes(spans: list[FileSpan]) -> Iterator[ArchiveFault]:
    """Yield the holes and overlaps between the files of each partition; `spans` are sorted."""
    for _, group in groupby(spans, key=lambda span: (span.topic, span.partition)):
        for before, after in pairwise(group):
            if before.to_offset < after.from_offset:
                gap = f"{before.to_offset} to {after.from_offset - 1}"
                yield ArchiveFault(after.path, f"a hole before it: offsets {gap} are missing")
            elif before.to_offset > after.from_offset:
                yield ArchiveFault(after.path, f"an overlap with {before.path}")


def _stray_files(paths: list[str], spans: list[FileSpan]) -> Iterator[ArchiveFault]:
    known = {span.path for span in spans} | {span.manifest_path for span in spans}
    for path in paths:
        if path not in known:
            yield ArchiveFault(path, "not a file of the archive, or a manifest without its file")


def _verify_file(store: ArchiveStore, span: FileSpan) -> tuple[int, list[ArchiveFault]]:
    try:
        manifest = decode_manifest(store.get(span.manifest_path), span.manifest_path)
    except UsageError as error:
        return 0, [ArchiveFault(span.path, f"no usable manifest: {error}")]
    content = store.get(span.path)
    faults = []
    if manifest.span != span:
        faults.append(ArchiveFault(span.path, "its manifest is that of other records"))
    if hashlib.sha256(content).hexdigest() != manifest.sha256:
        # A damaged file can say anything about itself, so it is not read.
        return 0, [*faults, ArchiveFault(span.path, "its SHA-256 is not that of its manifest")]
    try:
        records = [
            (offset, time_ms)
            for block in read_records(content, span.topic, span)
            for offset, time_ms in zip(block.offsets, block.timestamps_ms, strict=True)
        ]
    except (pyarrow.lib.ArrowException, OSError, KeyError) as error:
        return 0, [*faults, ArchiveFault(span.path, f"it cannot be read: {error}")]
    found = _compare(manifest, [offset for offset, _ in records], [at for _, at in records])
    return len(records), [*faults, *(ArchiveFault(span.path, what) for what in found)]


def _compare(manifest: FileManifest, offsets: list[int], times_ms: list[int]) -> Iterator[str]:
    """Yield how the records of a file differ from its manifest."""
    if len(offsets) != manifest.records:
        yield f"it holds {len(offsets)} records, its manifest says {manifest.records}"
    span = manifest.span
    in_span = all(span.from_offset <= offset < span.to_offset for offset in offsets)
    if not in_span or any(one >= two for one, two in pairwise(offsets)):
        yield "its offsets do not rise within its name's"
    try:
        stated = unpack_times(manifest)
    except UsageError as error:
        yield f"no usable manifest: {error}"
        return
    if stated is not None and stated != rising_times(offsets, times_ms):
        yield "its manifest has the times of other records"
