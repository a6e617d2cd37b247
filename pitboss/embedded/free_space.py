"""The free space of the disk that holds the embedded servers' data."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pitboss.settings import StackSettings
from runtime.telemetry.samples import MetricSample

MB = 1024 * 1024


@dataclass(frozen=True)
class FreeSpace:
    """How much is free where the home folder is, and how much should be."""

    path: str
    """The folder, or the deepest one above it that exists."""
    free_mb: int
    required_mb: int
    is_enough: bool

    def __str__(self) -> str:
        """Return a sentence on the space that is free, without its full stop."""
        return f"{self.free_mb / 1024:.1f} GB free at {self.path}"


def nearest_folder(path: Path) -> Path:
    """Return the deepest folder of a path that exists.

    Uses `os.path`, which treats a path that it may not read as missing.
    """
    folders = (path, *path.parents)
    return next(one for one in folders if os.path.exists(one))  # noqa: PTH110 - as stated


def free_bytes(path: Path) -> int:
    """Return how much is free for this user where a folder is or would be."""
    return shutil.disk_usage(nearest_folder(path)).free


def disk_samples(settings: StackSettings) -> Iterator[MetricSample]:
    """Yield what is free at the home folder, and what should be, as metrics."""
    required_mb: int = settings.values["disk_free_min_mb"].value
    yield MetricSample("pitboss.disk.free", (), free_bytes(settings.home))
    yield MetricSample("pitboss.disk.free.min", (), required_mb * MB)


def free_space(settings: StackSettings) -> FreeSpace:
    """Compare what is free at the home folder with PITBOSS_DISK_FREE_MIN_MB."""
    free_mb = free_bytes(settings.home) // MB
    required_mb: int = settings.values["disk_free_min_mb"].value
    path = str(nearest_folder(settings.home))
    return FreeSpace(path, free_mb, required_mb, free_mb >= required_mb)
