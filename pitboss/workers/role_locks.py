"""Locks by which a home knows the supervisors of its roles: one each, and which ones run.

Two supervisors of a role would give their workers the same ids and logs: Kafka then drops the
members of one for those of the other, again and again. The lock ends with the process that holds
it, however it ends; the file stays, and without its lock it means nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Final

from schemas.errors import UsageError

_SUFFIX: Final = ".lock"
_READ_TRIES: Final = 20
_READ_EVERY_S: Final = 0.01


@dataclass(frozen=True)
class RunningRole:
    """A role that a supervisor of this home runs."""

    role: str
    pid: int
    """Of the supervisor."""
    workers: int
    since_ms: int
    keys_file: str | None = None
    """The keys file by which its workers check signatures, as an absolute path."""
    worker_id: str = ""
    """PITBOSS_WORKER_ID of the supervisor, which tells it from others in the same home."""
    unsigned: Sequence[str] = ()
    """Providers that sign and whose records its workers book without a key."""
    telemetry_port: int | None = None
    """Port that the ports of its workers' pages count up from; None where there are none."""


@contextmanager
def hold_roles(
    home: Path,
    namespace: str,
    roles: Sequence[str],
    *,
    workers: int,
    worker_id: str = "",
    keys_file: Path | None = None,
    unsigned: Sequence[str] = (),
    telemetry_port: int | None = None,
) -> Iterator[None]:
    """Hold the locks of some roles. Raises UsageError where another process holds one."""
    folder = _folder(home, namespace)
    folder.mkdir(parents=True, exist_ok=True)
    keys = None if keys_file is None else str(keys_file.absolute())
    now_ms = time.time_ns() // 1_000_000
    with ExitStack() as stack:
        for role in roles:
            file = stack.enter_context((folder / _name(role, worker_id)).open("a+"))
            if not _try_lock(file, fcntl.LOCK_EX):
                holder = _read_holder(file)
                pid = "another process" if holder is None else f"pid {holder.pid}"
                raise UsageError(
                    f"{role} runs already in {home}, by {pid}, and a second one would take its "
                    "workers' ids and logs: stop that one, or give this one a name of its own in "
                    "PITBOSS_WORKER_ID"
                )
            booked = [*unsigned] if role == "normalise" else []
            running = RunningRole(
                role, os.getpid(), workers, now_ms, keys, worker_id, booked, telemetry_port
            )
            file.truncate(0)
            file.write(json.dumps(asdict(running)))
            file.flush()
        yield


def list_running(home: Path, namespace: str) -> list[RunningRole]:
    """Return the roles of a namespace that supervisors of this home run, in alphabetical order."""
    found = []
    for path in sorted(_folder(home, namespace).glob(f"*{_SUFFIX}")):
        with path.open("r") as file:
            if not _try_lock(file, fcntl.LOCK_SH):
                holder = _read_holder(file)
                found += [] if holder is None else [holder]
    return found


def _folder(home: Path, namespace: str) -> Path:
    return home / namespace / "run"


def _name(role: str, worker_id: str) -> str:
    return f"{role}{_SUFFIX}" if not worker_id else f"{role}@{file_stem(worker_id)}{_SUFFIX}"


def file_stem(worker_id: str) -> str:
    """Return a worker's id in characters that a file's name may have."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", worker_id)


def _try_lock(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_holder(file: IO[str]) -> RunningRole | None:
    """Return what the holder of the lock has written, which it does just after it locks."""
    for _ in range(_READ_TRIES):
        file.seek(0)
        try:
            return RunningRole(**json.loads(file.read()))
        except (ValueError, TypeError):
            time.sleep(_READ_EVERY_S)
    return None
