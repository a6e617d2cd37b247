"""Processes that outlive the command that started them, identified by pid *and* start time.

A pid alone names whatever process has that number now. Nothing here signals a process whose start
time is not the one that was stored when it was launched.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from signal import SIGKILL, Signals

from pitboss.embedded.errors import StackError, StopFailed
from pitboss.embedded.files import write_atomically

POLL_S = 0.02

# Forks once more, so that the server is the child of init and cannot become a zombie of ours. Runs
# without site and imports only os and sys: it must be quick, and must not depend on the virtual
# environment.
_LAUNCHER = """
import os, sys
log, uid, gid, cwd, *command = sys.argv[1:]
if os.fork():
    os._exit(0)
os.setsid()
out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
os.write(1, b"%d\\n" % os.getpid())
if not os.read(0, 1):
    os._exit(1)
os.dup2(out, 1)
os.dup2(out, 2)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
try:
    os.chdir(cwd)
    if int(uid):
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    os.execv(command[0], command)
except OSError as error:
    os.write(2, f"cannot run {command[0]}: {error}\\n".encode())
    os._exit(127)
"""


@dataclass(frozen=True)
class Account:
    """The account that a process runs under."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class ProcessId:
    """Identity of one process while the machine is up: a pid may be reused, the pair is not."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """Return the running process that has this number now; None without one."""
        started = _start_time(pid)
        return None if started is None else cls(pid, started)

    @classmethod
    def read(cls, path: Path) -> ProcessId | None:
        """Return what `launch` stored; None if the file holds nothing usable."""
        try:
            fields = json.loads(path.read_text())
            return cls(int(fields["pid"]), str(fields["started"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def is_alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        return _start_time(self.pid) == self.started

    def signal(self, number: Signals) -> bool:
        """Signal the process, never another with its number; return False if it is gone.

        Raises StackError for a process of another user.
        """
        if not self.is_alive:
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        except PermissionError as error:
            raise StackError(
                f"pid {self.pid} belongs to another user: run this as the user who started it"
            ) from error
        return True

    def wait(self, timeout_s: float) -> bool:
        """Wait until the process is gone; return False if it still runs after that time."""
        return poll(lambda: not self.is_alive, timeout_s)

    def stop(self, signals: Sequence[tuple[Signals, float]]) -> None:
        """Send each signal in turn, with its time to take effect, and SIGKILL in the end.

        Raises StopFailed if the process survives that.
        """
        for number, patience_s in (*signals, (SIGKILL, 10.0)):
            if not self.signal(number) or self.wait(patience_s):
                return
        raise StopFailed(
            f"pid {self.pid} does not end even on SIGKILL: it hangs in the kernel; see dmesg"
        )


def poll(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Wait for a condition; return False if it does not hold at the end of the time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def launch(
    command: Sequence[str],
    *,
    log: Path,
    pid_file: Path,
    cwd: Path,
    environ: Mapping[str, str],
    account: Account | None = None,
) -> ProcessId:
    """Start a process in a session of its own and return its identity.

    The identity is in `pid_file` before the process runs its first instruction. Raises StackError.
    """
    uid, gid = (account.uid, account.gid) if account else (0, 0)
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER]
    arguments = [str(log), str(uid), str(gid), str(cwd), *command]
    with subprocess.Popen(  # noqa: S603 - a command of our own
        [*launcher, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=dict(environ),
    ) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        answer = first.stdout.readline().strip()
        process = ProcessId.of(int(answer)) if answer else None
        if process is None:
            raise StackError(f"cannot start {command[0]}: see {log}")
        write_atomically(pid_file, json.dumps(asdict(process)))
        first.stdin.write(b"g")
    return process


def find_by_argument(argument: str, *, program: str) -> ProcessId | None:
    """Return a process of that program with that argument: ours, if its pid file was lost."""
    proc = Path("/proc")
    for entry in proc.glob("[0-9]*"):
        process = ProcessId.of(int(entry.name))
        words = command_line(process).split(b"\0") if process else [b""]
        if argument.encode() in words and Path(os.fsdecode(words[0])).name == program:
            return process
    return None


def command_line(process: ProcessId) -> bytes:
    """Return the program and its arguments, each ended by a zero byte; b"" if not known."""
    try:
        return Path(f"/proc/{process.pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _start_time(pid: int) -> str | None:
    if sys.platform == "linux":
        try:
            # Field 2 is the program's name in parentheses and may hold spaces; the rest is regular.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in {"Z", "X"} else f"{_boot_id()}:{fields[19]}"
    shown = subprocess.run(  # noqa: S603 - a fixed command
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split(maxsplit=1)
    return shown[1].strip() if len(shown) == 2 and not shown[0].startswith("Z") else None


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
