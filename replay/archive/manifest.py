"""What is known of a file of the archive without its columns: its name, its manifest, its times.

Nothing here needs the packages of Parquet, whose import takes longer than most questions.
"""

from __future__ import annotations

import re
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Final

import msgspec

from schemas.errors import UsageError

_NAME: Final = re.compile(
    r"(?P<topic>[^/]+)/p=(?P<partition>\d+)/(?P<begin>\d+)-(?P<end>\d+)\.parquet"
)


def partition_folder(topic: str, partition: int) -> str:
    """Return the folder of a partition's files in the archive."""
    return f"{topic}/p={partition:02}"


class FileSpan(msgspec.Struct, frozen=True, order=True):
    """The records `[from_offset, to_offset)` of a partition, which one file holds."""

    topic: str
    """Without the namespace, so that an archive can be restored into another."""
    partition: int
    from_offset: int
    to_offset: int

    @property
    def path(self) -> str:
        """Path of the file in the archive."""
        offsets = f"{self.from_offset:012}-{self.to_offset:012}"
        return f"{partition_folder(self.topic, self.partition)}/{offsets}.parquet"

    @property
    def manifest_path(self) -> str:
        """Path of its manifest, beside it."""
        return self.path.removesuffix(".parquet") + ".json"


def parse_path(path: str) -> FileSpan | None:
    """Return what a file's name says; None for another file."""
    match = _NAME.fullmatch(path)
    if match is None:
        return None
    return FileSpan(match["topic"], int(match["partition"]), int(match["begin"]), int(match["end"]))


class FileManifest(msgspec.Struct, frozen=True):
    """What stands beside a file."""

    topic: str
    partition: int
    from_offset: int
    to_offset: int
    records: int
    sha256: str
    schema_ids: list[int]
    first_append_ms: int | None
    last_append_ms: int | None
    unreadable: list[tuple[str, str]]
    """Records whose fields are empty, since no schema reads them; their bytes are there."""
    unreadable_headers: list[int]
    """Offsets of records whose headers no client can decode: they are not in the file."""
    code_version: str
    rising_times: bytes = b""
    """Packed `RisingTimes` of the records; empty in manifests of before they had them."""

    @property
    def span(self) -> FileSpan:
        """The records that the file holds."""
        return FileSpan(self.topic, self.partition, self.from_offset, self.to_offset)


class RisingTimes(msgspec.Struct, frozen=True, array_like=True):
    """The records of a file whose time is later than that of all records before them.

    They suffice to say which record of the file is the first one at or after a time.
    """

    offsets: list[int]
    times_ms: list[int]

    def pack(self) -> bytes:
        """Return them as a manifest holds them: compressed differences, a byte or two a record."""
        steps = RisingTimes(_steps(self.offsets), _steps(self.times_ms))
        return zlib.compress(msgspec.msgpack.encode(steps), 9)

    def first_at(self, at_ms: int) -> int | None:
        """Return the first offset at or after a time; None where all records are earlier."""
        index = bisect_left(self.times_ms, at_ms)
        return self.offsets[index] if index < len(self.offsets) else None


def rising_times(offsets: Sequence[int], times_ms: Sequence[int]) -> RisingTimes:
    """Return the records whose time is later than all before them."""
    found = RisingTimes([], [])
    for offset, time_ms in zip(offsets, times_ms, strict=True):
        if not found.times_ms or time_ms > found.times_ms[-1]:
            found.offsets.append(offset)
            found.times_ms.append(time_ms)
    return found


def unpack_times(manifest: FileManifest) -> RisingTimes | None:
    """Return a manifest's times; None where it has none. Raises UsageError for damaged ones."""
    if not manifest.rising_times:
        return None
    try:
        packed = zlib.decompress(manifest.rising_times)
        steps = msgspec.msgpack.decode(packed, type=RisingTimes)
    except (zlib.error, msgspec.DecodeError) as error:
        path = manifest.span.manifest_path
        raise UsageError(f"{path} has damaged times: {error}") from error
    return RisingTimes([*accumulate(steps.offsets)], [*accumulate(steps.times_ms)])


def _steps(values: Sequence[int]) -> list[int]:
    return [*values[:1], *(after - before for before, after in pairwise(values))]


def decode_manifest(content: bytes, path: str) -> FileManifest:
    """Parse a manifest. Raises UsageError for one that is damaged."""
    try:
        return msgspec.json.decode(content, type=FileManifest)
    except msgspec.DecodeError as error:
        raise UsageError(f"{path} is not a manifest of the archive: {error}") from error


def spans_of(paths: Iterable[str]) -> list[FileSpan]:
    """Return the spans that files' names say, in the order of topics, partitions and offsets."""
    return sorted(span for path in paths if (span := parse_path(path)) is not None)
