"""Workers that end again and again for one reason: when they count as degraded, and who reads it.

The supervisor writes a file for such a worker beside its locks, and removes it once the worker has
run for a while. `pitboss status` reads the files of supervisors that run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from pitboss.workers.role_locks import RunningRole, file_stem
from schemas.errors import Unavailable

ENDS_MIN: Final = 3
"""Early ends in a row for one reason: two may be a rebalance, or a server's restart."""

_SUFFIX: Final = ".degraded"
_CODE: Final = re.compile(r"^([A-Z][A-Z0-9_]+): ")
_PLACE: Final = re.compile(r"[A-Za-z0-9._-]+-\d+@\d+")
_CONNECTIONS: Final = "docs/howto/secure.md#when-it-does-not-connect"
_RUNBOOKS: Final = {
    "LOG_MISMATCH": "docs/howto/restore.md",
    "PARTITION_STUCK": "docs/howto/runbooks.md#a-partition-is-stuck",
    "CHECKPOINTS_WENT_BACK": "docs/howto/runbooks.md#the-seals-prove-nothing-or-went-back",
    "LOGIN_REFUSED": _CONNECTIONS,
}
_RUNBOOK: Final = "docs/howto/runbooks.md#a-worker-ends-again-and-again"


@dataclass(frozen=True)
class DegradedWorker:
    """A worker that does not get beyond one error."""

    worker: str
    role: str
    worker_id: str
    """PITBOSS_WORKER_ID of its supervisor."""
    exit_code: int
    """Negative for a signal."""
    reason: str
    """The last line of its log, with the code of the error."""
    place: str | None
    """Topic, partition and offset, where the reason names one."""
    ends: int
    """In a row."""
    since_ms: int
    """Time of the first of them."""
    log: str
    runbook: str

    def __str__(self) -> str:
        """Return it for a line of `status`."""
        return (
            f"{self.worker} is DEGRADED: it ended {self.ends} times in a row: {self.reason}; see"
            f" {self.runbook}, log {self.log}"
        )


@dataclass
class RepeatedEnds:
    """Counts the ends of one worker for one reason. Pure."""

    reason: str = ""
    count: int = 0
    since_ms: int = 0

    def on_end(self, exit_code: int, error: str, now_ms: int, *, is_early: bool) -> bool:
        """Count an end; return whether the worker counts as degraded.

        A late end, or another reason, begins anew. A server that is away is reported by itself, and
        comes back by itself; a refused login or certificate, whose exit code is the same, does not.
        """
        code = error_code(error)
        reason = f"{exit_code} {code}"
        is_away = (exit_code, code) == (Unavailable.exit_code, Unavailable.code)
        if exit_code == 0 or is_away:
            self.reason, self.count = "", 0
            return False
        if reason != self.reason or not is_early:
            self.reason, self.count, self.since_ms = reason, 0, now_ms
        self.count += 1
        return self.count >= ENDS_MIN


def describe_worker(
    name: str, role: str, worker_id: str, exit_code: int, error: str, ends: RepeatedEnds, log: Path
) -> DegradedWorker:
    """Return what is shown of a degraded worker: the place in its error, and what to read."""
    code, place = error_code(error), _PLACE.search(error)
    runbook = _CONNECTIONS if code.startswith("TLS_") else _RUNBOOKS.get(code, _RUNBOOK)
    return DegradedWorker(
        name,
        role,
        worker_id,
        exit_code,
        error,
        place[0] if place else None,
        ends.count,
        ends.since_ms,
        str(log),
        runbook,
    )


def error_code(error: str) -> str:
    """Return the code that an error in a worker's log begins with, or an empty text."""
    found = _CODE.match(error)
    return found[1] if found else ""


def mark(home: Path, namespace: str, worker: DegradedWorker) -> None:
    """Write the file of a degraded worker, whole or not at all."""
    path = _path(home, namespace, worker.worker_id, worker.worker)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(asdict(worker)))
    draft.replace(path)


def unmark(home: Path, namespace: str, worker_id: str, name: str) -> None:
    """Remove the file of a worker, if there is one."""
    _path(home, namespace, worker_id, name).unlink(missing_ok=True)


def list_degraded(
    home: Path, namespace: str, running: Collection[RunningRole]
) -> list[DegradedWorker]:
    """Return the degraded workers of supervisors that run, by name."""
    alive = {(one.role, one.worker_id) for one in running}
    found = []
    for path in sorted((home / namespace / "run").glob(f"*{_SUFFIX}")):
        try:
            worker = DegradedWorker(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            continue  # it is just being removed, or of another release
        if (worker.role, worker.worker_id) in alive:
            found.append(worker)
    return found


def _path(home: Path, namespace: str, worker_id: str, name: str) -> Path:
    prefix = f"{file_stem(worker_id)}-" if worker_id else ""
    return home / namespace / "run" / f"{prefix}{name}{_SUFFIX}"
