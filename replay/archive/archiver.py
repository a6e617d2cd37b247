"""The loop of the role `archive`: plan a file, write it, note it as complete.

The offsets of a file are stored before it is written. So whatever is killed when, the same file is
written again from the same records, and a restart begins where the last planned file ends.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import psycopg

from replay.archive.cut import CutRule, FileCut
from replay.archive.files import FileMaker
from replay.archive.manifest import FileSpan
from replay.archive.store import ArchiveStore
from replay.log.blocks import LogBlock, LogSource
from runtime.connection_faults import unreachable_database
from runtime.postgres.roles import Role, take_role_sync
from runtime.postgres.statements import statements_of
from schemas.errors import Unavailable

logger = logging.getLogger(__name__)

SQL: Final = statements_of("replay.archive", "archive")
LOCK_KEY: Final = 0x50_17_A2_C1
"""Of PostgreSQL's advisory lock: one archiver writes at a time."""


class ArchiveBooks(Protocol):
    """Which files are planned, and which are complete."""

    def positions(self) -> dict[tuple[str, int], int]:
        """Return the offset behind the last planned file, by topic and partition."""

    def unfinished(self) -> list[FileSpan]:
        """Return the planned files that are not complete."""

    def plan(self, span: FileSpan) -> None:
        """Store that a file is to be written."""

    def finish(self, span: FileSpan, records: int, sha256: str) -> None:
        """Store that a file is complete."""


class PostgresBooks:
    """The books in the ledger's database; a context that holds the lock of the only archiver."""

    def __init__(self, database_url: str) -> None:
        """Connect. Raises Unavailable, also while another archiver runs."""
        self.last_positions: dict[tuple[str, int], int] = {}
        """What `positions` has returned last."""
        try:
            self._connection = psycopg.connect(
                database_url,
                autocommit=True,
                connect_timeout=10,
                application_name="pitboss.archive",
            )
        except psycopg.OperationalError as error:
            raise unreachable_database("the database", error) from error
        take_role_sync(self._connection, Role.WRITER)
        [(is_ours,)] = self._execute("lock", {"key": LOCK_KEY})
        if not is_ours:
            self._connection.close()
            raise Unavailable("another process archives this installation: one is enough")

    def close(self) -> None:
        """Release the lock and disconnect."""
        self._connection.close()

    def positions(self) -> dict[tuple[str, int], int]:
        """Return the offset behind the last planned file, by topic and partition."""
        rows = self._execute("positions", {})
        self.last_positions = {(topic, part): offset for topic, part, offset in rows}
        return self.last_positions

    def unfinished(self) -> list[FileSpan]:
        """Return the planned files that are not complete."""
        return [FileSpan(*row) for row in self._execute("unfinished", {})]

    def plan(self, span: FileSpan) -> None:
        """Store that a file is to be written."""
        self._execute("plan", _columns(span))

    def finish(self, span: FileSpan, records: int, sha256: str) -> None:
        """Store that a file is complete."""
        self._execute("finish", {**_columns(span), "records": records, "sha256": sha256})

    def _execute(self, name: str, columns: dict[str, Any]) -> list[tuple[Any, ...]]:
        try:
            cursor = self._connection.execute(SQL[name], columns)
            return cursor.fetchall() if cursor.description else []
        except psycopg.OperationalError as error:
            raise Unavailable(f"the ledger's database went away: {error}") from error


def _columns(span: FileSpan) -> dict[str, Any]:
    return {
        "topic": span.topic,
        "part": span.partition,
        "from": span.from_offset,
        "next": span.to_offset,
    }


@dataclass
class Archiver:
    """Archives the topics of one namespace."""

    source: LogSource
    store: ArchiveStore
    books: ArchiveBooks
    prefix: str
    """Of the topics' names on the broker; not part of their names in the archive."""
    rule: CutRule = field(default_factory=CutRule)
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    _makers: dict[str, FileMaker] = field(default_factory=dict)
    _due_ms: dict[tuple[str, int], int] = field(default_factory=dict)
    """When a partition's open file can be closed, if no more records come than now."""
    _seen_ends: dict[tuple[str, int], int] = field(default_factory=dict)

    def finish_planned(self) -> int:
        """Write the files that an earlier process has planned and not completed.

        Raises LogGap where the broker has deleted their records meanwhile.
        """
        spans = self.books.unfinished()
        for span in spans:
            block = LogBlock(span.topic, span.partition)
            cut = FileCut(CutRule(2**62, 2**62, 2**62), span.topic, span.partition, 0)
            name = self.prefix + span.topic
            for one in self.source.read(name, span.partition, span.from_offset, span.to_offset):
                cut.add(one)
            block = cut.block
            self._write(span, block)
        return len(spans)

    def archive(
        self, topics: Collection[str], should_stop: Callable[[], bool] = lambda: False
    ) -> int:
        """Archive what is complete of each topic, named without its namespace; return the files.

        It ends between two topics as soon as `should_stop` returns true.
        """
        positions = self.books.positions()
        files = 0
        there = self.source.all_bounds([self.prefix + topic for topic in sorted(topics)])
        for name, bounds in there.items():
            if should_stop():
                break
            topic = name.removeprefix(self.prefix)
            for partition, (begin, end) in sorted(bounds.items()):
                position = positions.get((topic, partition), begin)
                if position < begin:
                    logger.error(
                        "%s-%d: records %d to %d were deleted before they were archived",
                        *(topic, partition, position, begin - 1),
                    )
                    position = begin
                files += self._archive_partition(topic, partition, position, end)
        return files

    def _archive_partition(self, topic: str, partition: int, position: int, end: int) -> int:
        key = (topic, partition)
        grown = end - self._seen_ends.get(key, position)
        is_due = self.now_ms() >= self._due_ms.get(key, 0)
        if position >= end or not (is_due or grown >= self.rule.records_max):
            return 0
        files = 0
        cut = FileCut(self.rule, topic, partition, position)
        for block in self.source.read(self.prefix + topic, partition, position, end):
            rest = block
            while len(rest) and (ends_at := cut.add(rest)) is not None:
                self._plan_and_write(cut, ends_at)
                files += 1
                rest = rest.keep([n for n, one in enumerate(rest.offsets) if one >= ends_at])
                cut = FileCut(self.rule, topic, partition, ends_at)
        if cut.is_over(self.now_ms()):
            self._plan_and_write(cut, end)
            files += 1
            self._due_ms.pop(key, None)
        elif len(cut.block):
            self._due_ms[key] = cut.over_at_ms
        self._seen_ends[key] = end
        return files

    def _plan_and_write(self, cut: FileCut, ends_at: int) -> None:
        span = FileSpan(cut.block.topic, cut.block.partition, cut.from_offset, ends_at)
        self.books.plan(span)
        self._write(span, cut.block)

    def _write(self, span: FileSpan, block: LogBlock) -> None:
        maker = self._makers.setdefault(span.topic, FileMaker(span.topic))
        made = maker.make(span, block)
        self.store.put(span.path, made.content)
        self.store.put(span.manifest_path, made.manifest_bytes)
        self.books.finish(span, made.manifest.records, made.manifest.sha256)
