"""A process under measurement: started, watched from outside, ended.

It is never trusted to measure itself.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from schemas.errors import PitbossError

STOP_TIMEOUT_S = 30.0
_LOG_TAIL_LINES = 12
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class BenchFailed(PitbossError):
    """A measurement could not be completed, so it has no figure."""

    code = "BENCH_FAILED"


def machine_cpu_s() -> float:
    """Return the CPU time that all processes have spent since boot, on all cores.

    It is user and system time.
    """
    user, nice, system, _idle, _waiting, *interrupts = (
        Path("/proc/stat").read_text(encoding="ascii").split()[1:8]
    )
    return sum(map(int, (user, nice, system, *interrupts))) / _TICKS_PER_S


@dataclass(frozen=True)
class ProcessCommand:
    """Command of a process.

    It ends when its standard input does, so that no orphan is left.
    """

    arguments: Sequence[str]
    environment: Mapping[str, str]
    log: Path


class MeasuredProcess:
    """One run of a command; leaving the `with` statement ends the process."""

    def __init__(self, command: ProcessCommand) -> None:
        self._command = command

    def __enter__(self) -> Self:
        self._command.log.parent.mkdir(parents=True, exist_ok=True)
        with self._command.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a command of our own
                self._command.arguments,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._command.environment,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        """Let it drain, or kill it if it does not.

        Its output is complete by then, so both are the same to us.
        """
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()

    @property
    def pid(self) -> int:
        """Its number, while it runs."""
        return self._process.pid

    def cpu_s(self) -> float:
        """Return user and system time spent so far, all threads, to a hundredth.

        Read from /proc while it runs: what `getrusage` reports at its end would count its start and
        its end too. Raises BenchFailed if it has ended.
        """
        self.check_alive()
        fields = (
            Path(f"/proc/{self._process.pid}/stat")
            .read_text(encoding="ascii")
            .rpartition(")")[2]
            .split()
        )
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def check_alive(self) -> None:
        """Raise BenchFailed, with the end of its log, if the process has ended."""
        code = self._process.poll()
        if code is not None:
            raise BenchFailed(f"the measured process ended with code {code}; {self.log_tail()}")

    def log_tail(self) -> str:
        """Return the last lines of what it printed, for an error message."""
        lines = self._command.log.read_text(encoding="utf-8", errors="replace").splitlines()[
            -_LOG_TAIL_LINES:
        ]
        return "\n  ".join([f"the end of {self._command.log}:", *lines])
