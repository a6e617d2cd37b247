"""What is said of a file that cannot be read or written: its name and why, on one line."""

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
    """A file or folder cannot be read or written: it is not there, not ours, or on a disk that is
    full.
    """

    code: ClassVar[str] = "FILE_FAILED"


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Let an error of what is done inside name its file: one of writing, as on a full disk, does
    not by itself.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def file_failure(error: OSError) -> FileFailed | None:
    """The same error for an operator, or None for one that is about no file: a socket's, or a bug.

    A full disk is told without a name where nobody has given one, as behind stdout.
    """
    if error.filename is not None:
        return FileFailed(f"{error.filename}: {error.strerror}")
    if error.errno not in _FULL:
        return None
    _give_up_what_stdout_does_not_take()
    return FileFailed(f"the output: {error.strerror}")


def _give_up_what_stdout_does_not_take() -> None:
    """Or the interpreter tries once more while it ends, and ends with a traceback and a code of its
    own.
    """
    try:
        sys.stdout.flush()
    except OSError:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
