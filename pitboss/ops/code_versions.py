"""Versions of the code: a git revision, a source tree, or the packages of another interpreter.

Each runs in a process of its own, over the same records. A revision runs with the libraries of this
interpreter, another interpreter with its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec

import replay.versions
from replay.versions.comparison import VersionOutput
from schemas.errors import PitbossError, UsageError

RawRow = tuple[str, int, int, int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]
"""Topic, partition, offset, timestamp, key, value and headers of a raw record."""

_RUNNER: Final = Path(replay.versions.__file__).with_name("runner.py")
_RUN_MAX_S: Final = 3_600.0
_MARK: Final = Path("replay", "explain.py")
"""A file of every version that can be compared."""


class VersionFailed(PitbossError):
    """A version of the code did not come to a result."""

    code: ClassVar[str] = "VERSION_FAILED"
    exit_code: ClassVar[int] = 70  # EX_SOFTWARE of sysexits.h: not the 1 of sides that differ


@dataclass(frozen=True)
class CodeVersion:
    """A version that can be run: its interpreter, and the folder of its sources if it has one."""

    name: str
    interpreter: str
    sources: Path | None = None


@contextmanager
def open_version(text: str, repository: Path) -> Iterator[CodeVersion]:
    """Open what a person has named, and remove what was made for it afterwards.

    That is the folder of a virtual environment or of a source tree, an interpreter, or a revision
    of the repository. Raises UsageError for something else.
    """
    path = Path(text)
    if (path / "bin" / "python").exists():
        yield CodeVersion(text, str(path / "bin" / "python"))
    elif (path / _MARK).exists():
        yield CodeVersion(text, sys.executable, path.resolve())
    elif path.is_file() and os.access(path, os.X_OK):
        yield CodeVersion(text, str(path))
    else:
        commit = _find_commit(text, repository)
        with tempfile.TemporaryDirectory(prefix="pitboss-version-") as folder:
            _extract(commit, repository, Path(folder))
            if not (Path(folder) / _MARK).exists():
                raise UsageError(f"{text} is older than what it is compared by: {_MARK} is missing")
            yield CodeVersion(f"{text} ({commit[:10]})", sys.executable, Path(folder))


def _find_commit(text: str, repository: Path) -> str:
    found = _git(repository, "rev-parse", "--verify", "--end-of-options", f"{text}^{{commit}}")
    if found.returncode:
        raise UsageError(
            f"{text!r} is neither a revision of {repository}, a virtual environment, an "
            "interpreter, nor an export"
        )
    return found.stdout.decode().strip()


def _extract(commit: str, repository: Path, folder: Path) -> None:
    archive = folder / "version.tar"
    made = _git(repository, "archive", "--output", str(archive), commit)
    if made.returncode:
        raise UsageError(f"git does not archive {commit}: {made.stderr.decode().strip()}")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    archive.unlink()


def _git(repository: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = ["git", "-C", str(repository), *arguments]
    try:
        return subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - git only
    except FileNotFoundError as error:
        raise UsageError("git is not installed: name folders or environments instead") from error


def run_version(version: CodeVersion, records: Iterable[RawRow], folder: Path) -> VersionOutput:
    """Return what a version makes of raw records. Raises VersionFailed with what it printed."""
    records_file, result_file = folder / "records.msgpack", folder / "result.json"
    if not records_file.exists():
        records_file.write_bytes(msgspec.msgpack.encode([*records]))
    result_file.unlink(missing_ok=True)
    # Nothing of the caller's: both versions see the same, and no setting of the installation.
    environment = {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
    }
    if version.sources is not None:
        environment["PYTHONPATH"] = str(version.sources)
    command = [version.interpreter, "-P", str(_RUNNER), str(records_file), str(result_file)]
    try:
        run = subprocess.run(  # noqa: S603 - the interpreter that a person has named
            command,
            env=environment,
            cwd=folder,
            capture_output=True,
            check=False,
            timeout=_RUN_MAX_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise VersionFailed(f"{version.name} does not run: {error}") from error
    if run.returncode or not result_file.exists():
        lines: list[Any] = run.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
        raise VersionFailed(f"{version.name} ended with {run.returncode}: {lines[-1]}")
    return msgspec.json.decode(result_file.read_bytes(), type=VersionOutput)
