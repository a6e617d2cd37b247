"""The supervisor: starts workers, starts them again when they end, and drains them on request.

A worker that meets an error with which it must not continue ends, with an exit code that names the
error; a restart is its way to a clean state. So every end is followed by a start, after longer and
longer waits while the worker keeps ending early. `RestartPolicy` decides when, without a process or
a clock. The one exception is a usage error: a start would meet the same wrong setting again, so it
ends the supervisor with all its workers.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pitboss.embedded.files import display_path, roll_log
from pitboss.settings import Runtime, worker_environment
from pitboss.telemetry_settings import PORT_VARIABLE, read_telemetry_settings, worker_port
from pitboss.workers.degraded import RepeatedEnds, describe_worker, error_code, mark, unmark
from pitboss.workers.role_locks import file_stem
from schemas.errors import UsageError

DELAY_FIRST_S = 0.25
DELAY_MAX_S = 30.0

HEALTHY_S = 30.0
"""A worker that ran this long has overcome the cause of its last end; up to 10 s of it are a
rebalance.
"""

DRAIN_S = 25.0
"""Less than the 30 s after which container platforms kill us and the workers."""

POLL_S = 0.05

_CRITICAL = re.compile(r"^\d[\d-]+ [\d:,]+ CRITICAL \S+ (.*)", re.MULTILINE | re.DOTALL)
_NEXT_LINE = re.compile(r"\n\d[\d-]+ [\d:,]+ [A-Z]+ \S+ .*", re.DOTALL)
_LOG_END_BYTES = 16_384


def next_delay_s(failures: int, jitter: float = 1.0) -> float:
    """Return the wait after so many early ends in a row: it doubles each time up to a bound.

    `jitter` in [0, 1] shortens it by up to a half. Without it, workers that a server's restart has
    ended would all come back at the same moment.
    """
    if failures <= 0:
        return 0.0
    longest = min(DELAY_MAX_S, DELAY_FIRST_S * 2.0 ** min(failures - 1, 20))
    return longest * (0.5 + 0.5 * jitter)


@dataclass
class RestartPolicy:
    """Waits before the restarts of one worker."""

    failures: int = 0

    def on_end(self, uptime_s: float, jitter: float) -> float:
        """Count an end, and return the seconds to wait before the next start."""
        self.failures = 1 if uptime_s >= HEALTHY_S else self.failures + 1
        return next_delay_s(self.failures, jitter)


class WorkerProcess:
    """A worker subprocess that can be started many times and never outlives this process."""

    def __init__(
        self,
        role: str,
        runtime: Runtime,
        *,
        home: Path,
        number: int = 1,
        module: str = "pitboss.workers",
        environment: Mapping[str, str] | None = None,
        log_prefix: str = "",
    ) -> None:
        """Prepare without starting; `environment` is added to that of every worker."""
        self.role = role
        self.number = number
        self.name = f"{role}-{number}"
        file = f"{file_stem(log_prefix)}-{self.name}.log" if log_prefix else f"{self.name}.log"
        self.log = home / runtime.namespace / "log" / file
        self.home = home
        self.worker_id = log_prefix
        self._runtime = runtime
        self._module = module
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def start(self) -> None:
        """Start the worker; returns when the process exists, not when it works."""
        assert not self.is_alive, f"{self.name} runs already"
        self.wait(0)
        roll_log(self.log)
        # It holds ids of players.
        self.log.touch(mode=0o600)
        self.log.chmod(0o600)
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(  # noqa: S603 - a command of our own
                [sys.executable, "-m", "pitboss.workers.lifeline", self._module, self.role],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._worker_environment(),
                # Ctrl-C in a terminal goes to its whole group; we drain the workers, in order.
                start_new_session=True,
            )

    def _worker_environment(self) -> dict[str, str]:
        environment = worker_environment(self._runtime, self.name) | self._environment
        base = read_telemetry_settings(environment).port
        if base is not None:
            environment[PORT_VARIABLE] = str(worker_port(base, self.role, self.number))
        return environment

    @property
    def namespace(self) -> str:
        """Namespace of the installation that it works for."""
        return self._runtime.namespace

    @property
    def pid(self) -> int | None:
        """Number of the process; None before the first start."""
        return None if self._process is None else self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Code that it ended with, a signal as its negative number; None while it has not ended."""
        return None if self._process is None else self._process.poll()

    def last_error(self) -> str:
        """Return the error that the log of the last start ends with, as in "USAGE: sentence"."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - _LOG_END_BYTES))
                return find_error(log.read().decode(errors="replace"))
        except OSError as error:
            return f"its log cannot be read: {error}"

    def terminate(self) -> None:
        """Ask the worker to drain and end; returns at once."""
        if self._process is not None:
            self._process.terminate()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end, and close our end of the lifeline; return False if it still runs."""
        process = self._process  # another thread may be about to start the next
        if process is None:
            return True
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        assert process.stdin is not None
        process.stdin.close()
        return True

    def stop(self, timeout_s: float = DRAIN_S) -> bool:
        """Drain the worker; return False if it had to be killed after that time."""
        self.terminate()
        if self.wait(timeout_s):
            return True
        self.kill()
        return False

    def kill(self) -> None:
        """Send SIGKILL; returns when the process is gone."""
        process = self._process
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()


def find_error(log: str) -> str:
    """Return the message of the last critical line of a log, else the last line that has text."""
    if found := list(re.finditer(r"^\d[\d-]+ [\d:,]+ CRITICAL ", log, re.MULTILINE)):
        message = _CRITICAL.match(log[found[-1].start() :])
        if message is not None:
            return _NEXT_LINE.sub("", message[1]).strip()
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1] if lines else "it wrote no reason"


@dataclass
class _SupervisedWorker:
    worker: WorkerProcess
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    started_at: float = 0.0
    start_at: float | None = 0.0
    """Time of the next start; None while it runs."""
    ends: RepeatedEnds = field(default_factory=RepeatedEnds)
    is_degraded: bool = False

    def note_end(self, exit_code: int, uptime_s: float) -> str | None:
        """Count an end, and return a line for people where the worker is degraded by it."""
        worker, error = self.worker, self.worker.last_error()
        now_ms, is_early = time.time_ns() // 1_000_000, uptime_s < HEALTHY_S
        if not self.ends.on_end(exit_code, error, now_ms, is_early=is_early):
            self.clear()
            return None
        found = describe_worker(
            worker.name, worker.role, worker.worker_id, exit_code, error, self.ends, worker.log
        )
        mark(worker.home, worker.namespace, found)
        was_degraded, self.is_degraded = self.is_degraded, True
        return None if was_degraded else str(found)

    def clear(self) -> None:
        """Remove what was written of the worker as degraded."""
        self.is_degraded = False
        unmark(self.worker.home, self.worker.namespace, self.worker.worker_id, self.worker.name)


class Supervisor:
    """Runs workers until it is asked to stop."""

    def __init__(
        self,
        workers: Sequence[WorkerProcess],
        report: Callable[[str], None],
        note_end: Callable[[str, int | None, str], None] = lambda *_: None,
    ) -> None:
        """Prepare without starting; `report` takes a line for each start and end.

        `note_end` takes the role, the exit code and the error code (empty if its log has none) of
        each worker that has to be started again.
        """
        self._note_end = note_end
        self._workers = [_SupervisedWorker(worker) for worker in workers]
        self._report = report
        self._is_stopping = threading.Event()
        self.usage_error: str | None = None
        """The sentence of the worker that ended this supervisor with a usage error."""

    def stop(self) -> None:
        """Let `run` drain the workers and return.

        May be called from a signal handler or another thread.
        """
        self._is_stopping.set()

    def run(self) -> None:
        """Keep the workers running until `stop` or a worker's usage error, then drain them."""
        for supervised in self._workers:
            supervised.clear()  # what a supervisor that was killed has left
        try:
            while not self._is_stopping.is_set():
                now = time.monotonic()
                for supervised in self._workers:
                    if not self._is_stopping.is_set():
                        self._restart_if_due(supervised, now)
                self._is_stopping.wait(POLL_S)
        finally:
            self._drain()

    def _restart_if_due(self, supervised: _SupervisedWorker, now: float) -> None:
        worker = supervised.worker
        if supervised.start_at is not None:
            if now >= supervised.start_at:
                worker.start()
                supervised.started_at, supervised.start_at = now, None
                self._report(f"{worker.name} started, pid {worker.pid}")
        elif worker.wait(0):
            uptime_s = now - supervised.started_at
            if worker.exit_code == UsageError.exit_code:
                self.usage_error = worker.last_error()
                self._report(
                    f"{worker.name} {_describe_end(worker.exit_code)} and is not started again, "
                    f"log {display_path(worker.log)}"
                )
                self._is_stopping.set()
                return
            self._note_end(worker.role, worker.exit_code, error_code(worker.last_error()))
            jitter = random.random()  # noqa: S311  # jitter need not be a secret
            delay_s = supervised.policy.on_end(uptime_s, jitter)
            supervised.start_at = now + delay_s
            self._report(
                f"{worker.name} {_describe_end(worker.exit_code)} after {uptime_s:.1f} s; "
                f"starts again in {delay_s:.1f} s (end {supervised.policy.failures} in a row), "
                f"log {display_path(worker.log)}"
            )
            if line := supervised.note_end(worker.exit_code or 0, uptime_s):
                self._report(line)
        elif supervised.is_degraded and now - supervised.started_at >= HEALTHY_S:
            supervised.clear()

    def _drain(self) -> None:
        running = [one.worker for one in self._workers if one.worker.is_alive]
        self._report(f"draining {len(running)} workers")
        for worker in running:
            worker.terminate()
        deadline = time.monotonic() + DRAIN_S
        for worker in running:
            if worker.wait(max(0.0, deadline - time.monotonic())):
                self._report(f"{worker.name} {_describe_end(worker.exit_code)}")
            else:
                worker.kill()
                self._report(
                    f"{worker.name} did not drain within {DRAIN_S:.0f} s and was killed, "
                    f"log {display_path(worker.log)}"
                )


def workers_for(
    roles: Sequence[str],
    runtime: Runtime,
    *,
    home: Path,
    each: int = 1,
    environment: Mapping[str, str] | None = None,
    log_prefix: str = "",
) -> list[WorkerProcess]:
    """Return `each` workers of every role; `environment` is added to that of every worker.

    `log_prefix` tells the logs of two supervisors in one home apart.
    """
    return [
        WorkerProcess(
            role,
            runtime,
            home=home,
            number=n + 1,
            environment=environment,
            log_prefix=log_prefix,
        )
        for role in roles
        for n in range(each)
    ]


def _describe_end(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}" if code else "ended"
