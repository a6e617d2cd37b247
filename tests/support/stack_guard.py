"""Ends the servers of a test run however the run ends: by itself, at Ctrl-C, or by SIGKILL.

The servers of the embedded stack are in sessions of their own, so they outlive whoever started
them. A guard is a process beside pytest: its standard input is a pipe of which pytest alone has the
other end, so the end of that file is the end of pytest. Then it stops what it was given to watch
and removes the folders.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from signal import SIGQUIT
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pitboss.embedded.stack import Stack

ROOT = Path(__file__).parents[2]


class StackGuard:
    """The process that ends the servers in the folders it was given, once this process ends."""

    def __enter__(self) -> Self:
        # In a session of its own: Ctrl-C goes to all of pytest's.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.stack_guard"],
            stdin=subprocess.PIPE,
            start_new_session=True,
            cwd=ROOT,
        )
        return self

    def __exit__(self, *_: object) -> None:
        """Let it end the servers; returns when that is done."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def watch(self, home: Path, lock: Path | None = None) -> None:
        """Have the stack in this folder ended at last, by whoever is the last to hold the lock."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{home}\t{lock or ''}\n".encode())
        self._process.stdin.flush()


def end_stack(home: Path) -> None:
    """Stop the servers of a folder without regard for their data, and remove it."""
    from dataclasses import replace

    from pitboss.embedded.stack import Stack
    from pitboss.settings import read_settings

    end_servers(Stack.open(replace(read_settings({}), home=home)))
    shutil.rmtree(home, ignore_errors=True)


def end_servers(stack: Stack) -> None:
    """Stop the servers of a stack without regard for their data."""
    if stack.kafka.is_recording and not stack.kafka._start_up_cache().exists():
        stack.kafka.stop()  # in its own time, so that the next broker on this machine starts faster
    for server, signals in ((stack.kafka, []), (stack.postgres, [(SIGQUIT, 10.0)])):
        running = server.process()
        if running is not None:
            running.stop(signals)
    stack.postgres._stop_front()


def main() -> None:
    """Wait until the other end of standard input is gone, and end what is still there."""
    lines = sys.stdin.read().splitlines()
    for home, lock in [map(Path, line.split("\t")) for line in dict.fromkeys(lines)]:
        if not home.exists():
            continue
        if lock == Path():
            end_stack(home)
            continue
        with lock.open("a") as users:
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # another session uses it
            end_stack(home)


if __name__ == "__main__":
    os.chdir(ROOT)
    main()
