"""The ends of workers that were started again: noted by their supervisor, counted by `status`."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final

from schemas.errors import PitbossError

_FILE: Final = "restarts.jsonl"
_BYTES_MAX: Final = 256 * 1024
"""Of the file: about 4,000 ends. The older half goes when it is full."""
RECENT_S: Final = 24 * 60 * 60


def note_restart(home: Path, namespace: str, role: str, code: int | None, error: str = "") -> None:
    """Note that a worker of a role has ended and is started again.

    `code` is its exit code, `error` the code of the error that its log names, if any. A note
    that cannot be written is left out: the workers go on.
    """
    file = _file(home, namespace)
    row = {"at_ms": time.time_ns() // 1_000_000, "role": role, "code": name_exit(code, error)}
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists() and file.stat().st_size > _BYTES_MAX:
            lines = file.read_text(encoding="utf-8").splitlines()
            rest = lines[len(lines) // 2 :]
            file.write_text("".join(f"{line}\n" for line in rest), encoding="utf-8")
        with file.open("a", encoding="utf-8") as notes:
            notes.write(json.dumps(row) + "\n")


def count_restarts(
    home: Path, namespace: str, *, within_s: float = RECENT_S
) -> dict[str, dict[str, int]]:
    """Return how often workers were started again lately, by role and by how they had ended."""
    since_ms = (time.time() - within_s) * 1000
    found: dict[str, Counter[str]] = {}
    try:
        lines = _file(home, namespace).read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    for line in lines:
        with suppress(ValueError, TypeError, KeyError):  # the last line may be half written
            row = json.loads(line)
            if row["at_ms"] >= since_ms:
                found.setdefault(row["role"], Counter())[row["code"]] += 1
    return {role: dict(counts) for role, counts in sorted(found.items())}


def name_exit(code: int | None, error: str = "") -> str:
    """Return what an exit code means: the code of an error, a signal, `drained`, or the number.

    Several errors share an exit code, so `error`, the code that the worker named, tells more.
    """
    if code is None:
        return "unknown"
    if code < 0:
        return signal.Signals(-code).name
    if code == 0:
        return "drained"
    return error or _codes().get(code, f"exit {code}")


def _codes() -> dict[int, str]:
    """Return the code of the error with each exit code; of several, the one nearest to the base."""
    codes: dict[int, str] = {}
    errors = [PitbossError]
    for error in errors:
        errors += error.__subclasses__()
        codes.setdefault(error.exit_code, error.code)
    return codes | {1: "unexpected"}


def _file(home: Path, namespace: str) -> Path:
    return home / namespace / "run" / _FILE
