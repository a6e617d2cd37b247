"""Files that several commands share: written as a whole, locked while the stack changes, rolled."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pitboss.embedded.errors import StackBusy

LOG_BYTES_MAX = 20_000_000


def write_atomically(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Write a file so that a reader sees either the old or the new text, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


@contextmanager
def exclusive_lock(
    path: Path, *, timeout_s: float, on_wait: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Hold a lock that ends with this process, however it ends.

    Calls `on_wait` once if another process holds it. Raises StackBusy after `timeout_s`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_s
    with path.open("a") as file:
        waits = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StackBusy(
                        f"another command has held {path} for {timeout_s:.0f} s: "
                        f"find it with `fuser {path}`"
                    ) from None
            if not waits:
                waits = True
                on_wait()
            time.sleep(0.05)
        yield


def display_path(path: Path) -> str:
    """Return a path as typed at this terminal: relative if it is in the working directory."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def roll_log(log: Path) -> None:
    """Put a large log aside, over the older one, so that logs do not fill the disk."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        log.replace(log.with_suffix(".1.log"))
