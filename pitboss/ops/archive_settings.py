"""Where an installation keeps its archive, and how replay reads broker and archive as one log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pitboss.ops.exports import missing_packages
from pitboss.settings import Runtime, read_values
from replay.log.pace import ReplayPace
from schemas.errors import UsageError

if TYPE_CHECKING:
    from replay.archive.archived_log import ArchivedLog
    from replay.log.blocks import LogSource

SPAN_MS_MIN: Final = 1_000


@dataclass(frozen=True)
class ArchiveSettings:
    """Settings of the archive."""

    target: str | None
    """Folder or URL; None: nothing is archived."""
    span_ms: int


def read_archive_settings() -> ArchiveSettings:
    """Read where the archive is. Raises UsageError for a span that is too short."""
    values = read_values()
    span = values["archive_span_ms"]
    if span.value < SPAN_MS_MIN:
        raise UsageError(f"{span.place} is {span.value}: give at least {SPAN_MS_MIN} milliseconds")
    return ArchiveSettings(values["archive"].value or None, span.value)


def check_target(target: str | None) -> str:
    """Return the archive's target. Raises UsageError where none is set."""
    if not target:
        raise UsageError(
            "no archive is set: name a folder or a URL in PITBOSS_ARCHIVE, as in "
            "/var/lib/pitboss/archive"
        )
    return target


def open_archive(runtime: Runtime) -> ArchivedLog | None:
    """Open the installation's archive; None where none is set. Raises UsageError."""
    archive = _open(runtime, "")
    if archive is not None:
        with missing_packages("archive"):
            import replay.archive.files  # noqa: F401 - it reads the records
    return archive


def open_archive_index(runtime: Runtime, topic: str, partition: int) -> ArchivedLog | None:
    """Open the archive's files of one partition, to ask for offsets and times.

    Packages that read records are not imported before records are read: a manifest suffices.
    Returns None where no archive is set. Raises UsageError.
    """
    from replay.archive.manifest import partition_folder

    return _open(runtime, partition_folder(topic, partition))


def _open(runtime: Runtime, folder: str) -> ArchivedLog | None:
    target = read_archive_settings().target
    if target is None:
        return None
    with missing_packages("archive"):
        from replay.archive.archived_log import ArchivedLog
        from replay.archive.store import open_store

        store = open_store(target)
    return ArchivedLog(store, runtime.prefix, folder=folder)


@contextmanager
def open_log(runtime: Runtime, pace: ReplayPace | float) -> Iterator[LogSource]:
    """Open the broker's log at a pace, and the archive's before it if one is set.

    A number is a pace of so many records a second.
    """
    from replay.archive.archived_log import JoinedLog
    from replay.log.broker import BrokerLog

    archive = open_archive(runtime)
    if not isinstance(pace, ReplayPace):
        pace = ReplayPace(pace)
    with BrokerLog(runtime.broker, pace) as broker:
        yield broker if archive is None else JoinedLog(archive, broker)
