"""Errors of the servers that Pitboss starts itself; each message ends with a way out."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from schemas.errors import PitbossError

LOG_TAIL_LINES = 12

OWN_SERVERS = "or set PITBOSS_KAFKA and PITBOSS_DATABASE to servers of your own"


class StackError(PitbossError):
    """An embedded server cannot be used."""

    code: ClassVar[str] = "STACK"
    exit_code: ClassVar[int] = 69  # EX_UNAVAILABLE of sysexits.h


class PartMissing(StackError):
    """Something that the server needs is missing: the wheel, the jars, an account to run under."""

    code: ClassVar[str] = "STACK_PART_MISSING"


class StartFailed(StackError):
    """The server ended, or did not answer in time."""

    code: ClassVar[str] = "STACK_START_FAILED"

    def __init__(self, what: str, log: Path, way_out: str) -> None:
        """Make a message of what happened, the end of the server's log, and a way out."""
        super().__init__(f"{what}\n{log_tail(log)}\n{way_out}, {OWN_SERVERS}")
        self.log = log


class StopFailed(StackError):
    """The server still runs after SIGKILL."""

    code: ClassVar[str] = "STACK_STOP_FAILED"


class StackBusy(StackError):
    """Another command is starting or stopping the same stack."""

    code: ClassVar[str] = "STACK_BUSY"


def log_tail(log: Path) -> str:
    """Return the end of a server's log, as part of an error message."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
    except OSError:
        lines = []
    return "\n".join([f"the end of {log}:", *(f"  | {line[:300]}" for line in lines)])
