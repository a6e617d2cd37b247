"""A slice of a topic kept as files of the archive's form, and played into another topic."""

from __future__ import annotations

import heapq
import re
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from replay.archive.archived_log import ArchivedLog
from replay.archive.cut import CutRule, FileCut
from replay.archive.files import FileMaker
from replay.archive.manifest import FileManifest, FileSpan
from replay.archive.store import ArchiveStore
from replay.export.plan import ExportPlan
from replay.log.blocks import LogBlock, LogSource, RecordHeaders
from schemas.errors import UsageError

_WITHOUT_CUTS: Final = CutRule(2**62, 2**62, 2**62)
_LIVE: Final = re.compile(
    r"([a-z][a-z0-9_]*\.)?(wallet|player|sports|game|risk|schema|audit|provider|pitboss)"
    r"\.[a-z0-9_.]+\.v\d+(\.dlt)?",
    re.ASCII,
)
"""Names that an installation's topics have, in whichever namespace."""


class RecordedRecord(NamedTuple):
    """One record of a slice, as it was on the broker."""

    timestamp_ms: int
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: RecordHeaders


Send = Callable[[RecordedRecord], None]


def record_slice(
    source: LogSource,
    plan: ExportPlan,
    store: ArchiveStore,
    progress: Callable[[int, int], None] = lambda _, __: None,
) -> list[FileManifest]:
    """Write every record of a plan, byte for byte, and return the manifests of the files.

    Filters of the plan's request do not apply: a slice is a stretch of offsets. Raises LogGap.
    """
    maker = FileMaker(plan.request.topic)
    manifests = []
    done = 0
    for piece in plan.pieces():
        cut = FileCut(_WITHOUT_CUTS, plan.request.topic, piece.partition, piece.from_offset)
        for block in source.read(plan.topic, *piece):
            cut.add(block)
        made = maker.make(FileSpan(plan.request.topic, *piece), cut.block)
        store.put(made.manifest.span.path, made.content)
        store.put(made.manifest.span.manifest_path, made.manifest_bytes)
        manifests.append(made.manifest)
        done += piece.to_offset - piece.from_offset
        progress(done, plan.records)
    return manifests


def check_play_target(topic: str) -> None:
    """Raise UsageError for a topic that an installation may read."""
    if _LIVE.fullmatch(topic):
        raise UsageError(
            f"{topic} is named like a topic of an installation, whose workers would act on what is "
            "played: name another one, such as replayed.week48"
        )


def in_time_order(log: ArchivedLog, topic: str) -> Iterator[RecordedRecord]:
    """Yield a recorded slice by its times, each partition in its own order."""
    partitions = [
        _records(log, topic, partition, begin, end)
        for partition, (begin, end) in sorted(log.bounds(topic).items())
    ]
    return heapq.merge(*partitions, key=lambda record: record.timestamp_ms)


def _records(
    log: ArchivedLog, topic: str, partition: int, begin: int, end: int
) -> Iterator[RecordedRecord]:
    for block in log.read(topic, partition, begin, end):
        yield from records_of(block)


def records_of(block: LogBlock) -> Iterator[RecordedRecord]:
    """Yield the records of a block one by one."""
    for index, offset in enumerate(block.offsets):
        yield RecordedRecord(
            block.timestamps_ms[index],
            block.partition,
            offset,
            block.keys[index],
            block.values[index],
            block.headers.get(index, ()),
        )


def play(
    records: Iterator[RecordedRecord],
    send: Send,
    speed: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Send records as far apart in time as they were, divided by `speed`; return how many.

    With 0 nothing waits. A record whose time goes back is sent at once.
    """
    count, first_ms, start_s = 0, 0, clock()
    for record in records:
        if count == 0:
            first_ms = record.timestamp_ms
        if speed:
            due_s = start_s + (record.timestamp_ms - first_ms) / 1000 / speed
            while (left_s := due_s - clock()) > 0:
                sleep(left_s)
        send(record)
        count += 1
    return count
