"""Where an archive's files lie: a local folder, or any target that fsspec reaches."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from schemas.errors import Unavailable, UsageError


class ArchiveStore(Protocol):
    """A folder of files; paths are relative, with slashes. A file appears whole or not at all."""

    def put(self, path: str, content: bytes) -> None:
        """Write a file, in the place of an older one, durably."""

    def get(self, path: str) -> bytes:
        """Return a file's content. Raises UsageError for one that does not exist."""

    def list(self, folder: str = "") -> list[str]:
        """Return the paths of all files below a folder, sorted."""


def open_store(target: str) -> ArchiveStore:
    """Open the store at a path, or at a URL such as `s3://bucket/folder`.

    Raises UsageError for a URL whose protocol fsspec does not know, or needs a package for.
    """
    if "://" not in target:
        return LocalStore(Path(target).expanduser())
    return FsspecStore(target)


class LocalStore:
    """Files below a local folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, path: str, content: bytes) -> None:
        """Write beside the place, flush to the disk, and rename."""
        file = self._folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.new")
        with temporary.open("wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        temporary.replace(file)
        descriptor = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def get(self, path: str) -> bytes:
        """Return a file's content. Raises UsageError for one that does not exist."""
        try:
            return (self._folder / path).read_bytes()
        except FileNotFoundError as error:
            raise UsageError(f"the archive has no file {self._folder / path}") from error

    def list(self, folder: str = "") -> list[str]:
        """Return the paths of all files, without those that are being written."""
        found = []
        for parent, _, names in os.walk(self._folder / folder):
            place = Path(parent).relative_to(self._folder)
            found += [(place / name).as_posix() for name in names if not name.startswith(".")]
        return sorted(found)


class FsspecStore:
    """Files at a URL; an object store makes a written object visible as a whole."""

    def __init__(self, url: str) -> None:
        """Connect. Raises UsageError."""
        import fsspec

        try:
            self._system, root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise UsageError(f"the archive {url} cannot be opened: {error}") from error
        self._root = PurePosixPath(str(root))

    def put(self, path: str, content: bytes) -> None:
        """Write an object. Raises Unavailable."""
        place = self._root / path
        try:
            self._system.makedirs(str(place.parent), exist_ok=True)
            self._system.pipe_file(str(place), content)
        except OSError as error:
            raise Unavailable(f"the archive does not take {place}: {error}") from error

    def get(self, path: str) -> bytes:
        """Return an object. Raises UsageError for one that does not exist."""
        try:
            content: Any = self._system.cat_file(str(self._root / path))
        except FileNotFoundError as error:
            raise UsageError(f"the archive has no file {self._root / path}") from error
        return bytes(content)

    def list(self, folder: str = "") -> list[str]:
        """Return the paths of all objects."""
        self._system.invalidate_cache()
        found = self._system.find(str(self._root / folder))
        return sorted(
            PurePosixPath("/" + str(one).lstrip("/"))
            .relative_to("/" + str(self._root).lstrip("/"))
            .as_posix()
            for one in found
        )
