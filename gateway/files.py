"""The folder of files: bank statements and reports, appended as raw records once they are whole.

A provider whose dialect reads files has a folder, `<folder>/<provider>`, or one a brand below it.
What is put there is appended and moved to `done/`, or to `failed/` with a note that says why. A
file that still grows is left alone. Each step can be repeated: a file that was appended by a
process that ended before it moved it is appended again, and each event has its identity.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import stat
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from mode import Service

from gateway.appender import PendingAppend, Place
from gateway.decisions.routes import DEFAULT_BRAND
from runtime.kafka.records import Headers
from schemas.errors import PitbossError, RejectCode, Rejected, Unavailable
from schemas.topics import qualified_name, raw_topic
from streams.providers.dialect import Dialect, FilePart

_LOG = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
QUIET_S: Final = 5.0
"""A file counts as written when it has not changed for so long."""
UNFINISHED_S: Final = 60.0
"""A file that cannot be read may still be written by a slow sender until it has not changed for so
long."""
FILE_BYTES_MAX: Final = 64 * 1024 * 1024
DONE: Final = "done"
FAILED: Final = "failed"
_UNFINISHED_ENDINGS: Final = (".part", ".tmp", ".filepart", ".crdownload", "~")


class Appender(Protocol):
    """Appends raw records."""

    def append(
        self, topic: str, key: bytes, value: bytes | None, headers: Headers
    ) -> PendingAppend:
        """Append a record; its `place` raises AppendRefused or Unavailable."""
        ...


class FileSource(NamedTuple):
    """One folder, and what its files are."""

    folder: Path
    provider: str
    brand: str
    region: str
    topic: str
    dialect: Dialect


class _Look(NamedTuple):
    """Size and time of the last change (nanoseconds) of a file, and since when they are so."""

    size: int
    changed_ns: int
    since_s: float


def find_sources(
    folder: Path,
    dialects: Mapping[str, Dialect],
    providers: Collection[str] | None,
    brands: Mapping[str, str],
    namespace: str,
) -> list[FileSource]:
    """Return the folder of each provider that sends files, by brand where there are any."""
    names = sorted(dialects) if providers is None else sorted(providers)
    return [
        FileSource(
            folder / name / brand,
            name,
            brand,
            region,
            qualified_name(raw_topic(name), namespace),
            dialects[name],
        )
        for name in names
        if dialects[name].reads_files
        for brand, region in (brands or {DEFAULT_BRAND: ""}).items()
    ]


class FileReader(Service):
    """Service that looks into the folders once a second."""

    def __init__(
        self,
        sources: Collection[FileSource],
        appender: Appender,
        connector: str,
        *,
        quiet_s: float = QUIET_S,
        **kwargs: Any,
    ) -> None:
        """Prepare, without touching the folders."""
        super().__init__(**kwargs)
        self._sources = sources
        self._appender = appender
        self._connector = connector
        self._quiet_s = quiet_s
        self._looks: dict[Path, _Look] = {}

    async def on_start(self) -> None:
        """Make the folders. Raises Unavailable where that is not possible."""
        try:
            for source in self._sources:
                for folder in (source.folder / DONE, source.folder / FAILED):
                    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"the folder of files cannot be used: {error}") from error

    @Service.task
    async def _look_loop(self) -> None:
        while not self.should_stop:
            try:
                await self.look()
            except (OSError, Unavailable) as error:
                _LOG.warning("files are read later: %s", error)
            await self.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Read every file that is whole. Raises OSError, Unavailable."""
        looks: dict[Path, _Look] = {}
        for source in self._sources:
            for path, found in await asyncio.to_thread(_list_files, source.folder):
                look = _Look(found.st_size, found.st_mtime_ns, time.monotonic())
                before = self._looks.get(path)
                if before is not None and before[:2] == look[:2]:
                    look = before
                looks[path] = look
                quiet_s = time.monotonic() - look.since_s
                if quiet_s >= self._quiet_s and await self._read(source, path, quiet_s):
                    del looks[path]
        self._looks = looks

    async def _read(self, source: FileSource, path: Path, quiet_s: float) -> bool:
        """Append one file and move it. Returns whether it is done with."""
        try:
            value = await asyncio.to_thread(_read_bytes, path)
            parts = await asyncio.to_thread(source.dialect.split_file, value)
            places = await self._append(source, path, parts)
        except Rejected as error:
            # What cannot be read may be the first half of a file whose sender pauses.
            if error.reason is RejectCode.MALFORMED and quiet_s < max(UNFINISHED_S, self._quiet_s):
                return False
            await asyncio.to_thread(_move, path, FAILED, f"{error.reason}: {error.detail}")
            _LOG.warning("%s is not appended: %s: %s", path, error.reason, error.detail)
            return True
        await asyncio.to_thread(_move, path, DONE)
        _LOG.info("%s is appended at %s", path, ", ".join(places))
        return True

    async def _append(
        self, source: FileSource, path: Path, parts: Collection[FilePart]
    ) -> list[str]:
        headers: list[tuple[str, bytes | None]] = [
            ("file-name", path.name.encode("utf-8", "replace")),
            ("received-at", b"%d" % (time.time_ns() // 1_000_000)),
            ("connector", self._connector.encode()),
        ]
        if source.brand:
            headers.append(("brand", source.brand.encode()))
        if source.region:
            headers.append(("region", source.region.encode()))
        pending = [
            self._appender.append(source.topic, part.key, part.value, headers) for part in parts
        ]
        found = await asyncio.gather(*[each.place for each in pending], return_exceptions=True)
        for result in found:
            if isinstance(result, PitbossError):
                raise result
        places = [place for place in found if isinstance(place, Place)]
        return [f"{source.topic}-{place.partition}@{place.offset}" for place in places]


def _list_files(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """Return the files of a folder that may be whole, the oldest first; links are none."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name.endswith(_UNFINISHED_ENDINGS):
                continue
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                found.append((Path(entry.path), status))
    return sorted(found, key=lambda pair: (pair[1].st_mtime_ns, pair[0].name))


def _read_bytes(path: Path) -> bytes:
    """Return a file's bytes. Raises Rejected(TOO_LARGE), OSError."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        value = file.read(FILE_BYTES_MAX + 1)
    if len(value) > FILE_BYTES_MAX:
        raise Rejected(RejectCode.TOO_LARGE, f"a file has at most {FILE_BYTES_MAX:,} bytes")
    return value


def _move(path: Path, folder: str, reason: str | None = None) -> None:
    """Move a file into a folder beside it, over no other file than one of the same content."""
    target = path.parent / folder / path.name
    if target.exists():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        target = target.with_name(f"{target.stem}.{digest}{target.suffix}")
    if reason is not None:
        target.with_name(f"{target.name}.reason.txt").write_text(f"{reason}\n", encoding="utf-8")
    path.replace(target)
