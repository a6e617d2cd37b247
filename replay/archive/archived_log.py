"""The log in an archive, and broker and archive as one log."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from typing import Final

from replay.archive.manifest import (
    FileManifest,
    FileSpan,
    decode_manifest,
    spans_of,
    unpack_times,
)
from replay.archive.store import ArchiveStore
from replay.log.blocks import Bounds, LogBlock, LogGap, LogSource
from schemas.errors import UsageError, suggest

_UNORDERED_FILES: Final = 8
"""So many files before the one that a time points at may hold records that are later all the same.
"""


class ArchivedLog:
    """A `LogSource` over the files of an archive; `prefix` is that of the broker's names.

    With a `folder`, that of a topic or of a partition, only the files below it are there. Parquet's
    packages are imported where records are read.
    """

    def __init__(self, store: ArchiveStore, prefix: str = "", *, folder: str = "") -> None:
        self._store = store
        self._prefix = prefix
        self._folder = folder
        self._manifests: dict[str, FileManifest] = {}

    @cached_property
    def _spans(self) -> dict[str, dict[int, list[FileSpan]]]:
        found: dict[str, dict[int, list[FileSpan]]] = {}
        for span in spans_of(self._store.list(self._folder)):
            found.setdefault(span.topic, {}).setdefault(span.partition, []).append(span)
        return found

    def has_topic(self, topic: str) -> bool:
        """Return whether the archive has files of a topic."""
        return topic.removeprefix(self._prefix) in self._spans

    def bounds(self, topic: str) -> Mapping[int, Bounds]:
        """Return what each partition holds, as `LogSource`; holes between are found when read."""
        return {
            partition: (spans[0].from_offset, spans[-1].to_offset)
            for partition, spans in self._of(topic).items()
        }

    def all_bounds(self, topics: Collection[str]) -> Mapping[str, Mapping[int, Bounds]]:
        """Return what each partition of several topics holds, as `LogSource`."""
        return {topic: self.bounds(topic) for topic in topics}

    def first_at(self, topic: str, at_ms: int) -> Mapping[int, int]:
        """Return the first offsets at or after a time, as `LogSource`."""
        return {partition: self.first_in(topic, partition, at_ms) for partition in self._of(topic)}

    def first_in(self, topic: str, partition: int, at_ms: int) -> int:
        """Return the first offset at or after a time of one partition; its end where none is.

        Some twenty manifests are read, of however many files: times of the log rise from file to
        file, but for records out of order by less than a few files. The records themselves are read
        only where their manifest does not have their times, as those of before.
        """
        spans = self._of(topic)[partition]
        first = bisect_left(spans, at_ms, key=self._last_ms)
        for span in spans[max(0, first - _UNORDERED_FILES) :]:
            if self._last_ms(span) < at_ms:
                continue
            offset = self._first_of_file(span, topic, at_ms)
            if offset is not None:
                return offset
        return spans[-1].to_offset

    def _first_of_file(self, span: FileSpan, topic: str, at_ms: int) -> int | None:
        times = unpack_times(self._manifest(span))
        if times is not None:
            return times.first_at(at_ms)
        for block in self._read_file(span, topic):
            for offset, timestamp_ms in zip(block.offsets, block.timestamps_ms, strict=True):
                if timestamp_ms >= at_ms:
                    return offset
        return None

    def has_append_time(self, topic: str) -> bool:
        """Return False: an archive does not say which clock the times are from."""
        del topic
        return False

    def read(
        self, topic: str, partition: int, from_offset: int, to_offset: int
    ) -> Iterator[LogBlock]:
        """Yield records in blocks, as `LogSource`. Raises LogGap where a file is missing."""
        position = from_offset
        for span in self._of(topic).get(partition, []):
            if span.to_offset <= position or position >= to_offset:
                continue
            if span.from_offset > position:
                break
            for block in self._read_file(span, topic):
                wanted = [
                    index
                    for index, offset in enumerate(block.offsets)
                    if position <= offset < to_offset
                ]
                if wanted:
                    yield block if len(wanted) == len(block) else block.keep(wanted)
            position = span.to_offset
        if position < to_offset:
            raise LogGap(
                f"{topic}-{partition}@{position}: the archive has no file that begins there"
            )

    def _read_file(self, span: FileSpan, topic: str) -> Iterator[LogBlock]:
        from replay.archive.files import read_records

        return read_records(self._store.get(span.path), topic, span)

    def _of(self, topic: str) -> dict[int, list[FileSpan]]:
        name = topic.removeprefix(self._prefix)
        if name not in self._spans:
            raise UsageError(f"the archive has no topic {name!r}{suggest(name, self._spans)}")
        return self._spans[name]

    def _last_ms(self, span: FileSpan) -> int:
        last_ms = self._manifest(span).last_append_ms
        return -1 if last_ms is None else last_ms

    def _manifest(self, span: FileSpan) -> FileManifest:
        path = span.manifest_path
        if path not in self._manifests:
            self._manifests[path] = decode_manifest(self._store.get(path), path)
        return self._manifests[path]


class JoinedLog:
    """A `LogSource` over both: the broker where it holds a record, else the archive."""

    def __init__(self, archive: ArchivedLog, broker: LogSource) -> None:
        self._archive = archive
        self._broker = broker

    def bounds(self, topic: str) -> Mapping[int, Bounds]:
        """Return what both hold of each partition, as `LogSource`."""
        return self.all_bounds([topic])[topic]

    def all_bounds(self, topics: Collection[str]) -> Mapping[str, Mapping[int, Bounds]]:
        """Return what both hold of several topics, as `LogSource`."""
        found = {}
        for topic, live in self._broker.all_bounds(topics).items():
            older = self._archived(topic)
            found[topic] = {
                partition: (min(begin, older.get(partition, (begin, begin))[0]), end)
                for partition, (begin, end) in live.items()
            }
        return found

    def first_at(self, topic: str, at_ms: int) -> Mapping[int, int]:
        """Return the first offsets at or after a time in either, as `LogSource`."""
        live, begins = self._broker.first_at(topic, at_ms), self._broker.bounds(topic)
        older = self._archive.first_at(topic, at_ms) if self._archive.has_topic(topic) else {}
        return {
            partition: older[partition]
            if partition in older and older[partition] < begins[partition][0]
            else offset
            for partition, offset in live.items()
        }

    def has_append_time(self, topic: str) -> bool:
        """Return whether the broker sets the times, as `LogSource`."""
        return self._broker.has_append_time(topic)

    def read(
        self, topic: str, partition: int, from_offset: int, to_offset: int
    ) -> Iterator[LogBlock]:
        """Yield records across the seam, as `LogSource`. Raises LogGap, Unavailable."""
        seam = min(to_offset, max(from_offset, self._broker.bounds(topic)[partition][0]))
        if from_offset < seam:
            yield from self._archive.read(topic, partition, from_offset, seam)
        if seam < to_offset:
            yield from self._broker.read(topic, partition, seam, to_offset)

    def _archived(self, topic: str) -> Mapping[int, Bounds]:
        return self._archive.bounds(topic) if self._archive.has_topic(topic) else {}
