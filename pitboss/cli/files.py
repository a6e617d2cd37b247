"""Errors of files that cannot be read or written, reported with name and reason on one line."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final

from schemas.errors import PitbossError

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class FileFailed(PitbossError):
    """Failure to read or write a file or folder: missing, not permitted, or on a full disk."""

    code: ClassVar[str] = "FILE_FAILED"


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Add the file name to an OSError raised inside, which a write to a full disk lacks."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def file_failure(error: OSError) -> FileFailed | None:
    """Convert an OSError for the operator; None for one that is not about a file.

    The others are a socket's, or a bug. A full disk without a file name is reported as that of the
    output, such as stdout.
    """
    if error.filename is not None:
        return FileFailed(f"{error.filename}: {error.strerror}")
    if error.errno not in _FULL:
        return None
    _discard_unwritable_stdout()
    return FileFailed(f"the output: {error.strerror}")


def _discard_unwritable_stdout() -> None:
    """Redirect stdout to the null device if it cannot be flushed.

    Otherwise the interpreter tries again at exit, and ends with a traceback and a code of its own.
    """
    try:
        sys.stdout.flush()
    except OSError:
        with Path(os.devnull).open("wb") as devnull:
            os.dup2(devnull.fileno(), sys.stdout.fileno())
