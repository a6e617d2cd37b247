"""The stack as a whole: both servers up, down, or started again, by one command at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pitboss.embedded.errors import StackError
from pitboss.embedded.files import exclusive_lock
from pitboss.embedded.kafka import KafkaServer
from pitboss.embedded.postgres import PostgresServer
from pitboss.embedded.state import StackState, forget_state, read_state, write_state
from pitboss.embedded.tls import StackTls
from pitboss.settings import Runtime, StackSettings, runtime_of
from schemas.errors import UsageError

LOCK_S = 180.0
"""How long to wait for another command that changes the stack; a first start fetches 45 MB."""

ReportProgress = Callable[[str], None]


@dataclass(frozen=True)
class ServerStatus:
    """Status of one server."""

    name: str
    is_ready: bool
    pid: int | None
    address: str
    log: Path | None


@dataclass(frozen=True)
class Stack:
    """The broker and the database server of one home folder."""

    settings: StackSettings
    kafka: KafkaServer
    postgres: PostgresServer

    @classmethod
    def open(cls, settings: StackSettings) -> Stack:
        """Return the stack of these settings; start nothing."""
        files = StackTls(settings.home / "tls")
        tls = files if files.exists else None
        kafka = KafkaServer(settings.home, settings.cache, settings.maven, tls)
        return cls(settings, kafka, PostgresServer(settings.home, tls))

    @property
    def is_secured(self) -> bool:
        """Whether clients of this stack speak TLS and log in."""
        return self.kafka.tls is not None

    def up(self, progress: ReportProgress | None = None, *, secure: bool = False) -> StackState:
        """Start what does not run, and wait until both servers answer.

        A running stack is left alone. A server that was killed starts again on its port with its
        data. With `secure` a new stack speaks TLS only and asks for a login; once made, it does so
        at each start. Raises StackError, UsageError for a stack that has data without TLS.
        """
        report = progress or _silent
        with self.lock(report):
            self.settings.home.mkdir(parents=True, exist_ok=True)
            self._hide_from_git()
            stack = self._secured(report) if secure else self
            return stack._start(report)  # noqa: SLF001 - of the same class

    def _secured(self, report: ReportProgress) -> Stack:
        if self.is_secured:
            return self
        if self.kafka.properties.exists() or self.postgres.data.exists():
            raise UsageError(
                f"the stack in {self.settings.home} was made without TLS and keeps that: name "
                "another home in PITBOSS_HOME, or move this one away, for a secured stack"
            )
        report("making an authority, certificates and passwords")
        StackTls(self.settings.home / "tls").make()
        return Stack.open(self.settings)

    def revive(self, progress: ReportProgress | None = None) -> bool:
        """Start what has ended of a stack that is up; return False if it was stopped meanwhile.

        Raises StackError.
        """
        report = progress or _silent
        with self.lock(report):
            if read_state(self.settings.home) is None:
                return False
            self._start(report)
            return True

    def ended_servers(self) -> list[str]:
        """Return the names of the servers that `up` started and that do not run any more.

        None where `down` has stopped them.
        """
        if read_state(self.settings.home) is None:
            return []
        has_ended = {"kafka": self.kafka.process() is None, "postgres": self.postgres.has_ended}
        return [name for name, it_has in has_ended.items() if it_has]

    def _start(self, report: ReportProgress) -> StackState:
        with ThreadPoolExecutor(2) as pool:
            starts = [pool.submit(server.start, report) for server in (self.postgres, self.kafka)]
        for failure in [start.exception() for start in starts]:
            if failure is not None:
                raise failure
        return self.write_state()

    def down(self, progress: ReportProgress | None = None) -> bool:
        """Stop both servers and keep their data; return False if neither ran.

        Creates nothing where no stack has ever been.
        """
        runs = self.kafka.process() is not None or self.postgres.process() is not None
        if not runs and not self.lock_file.exists():
            return False
        with self.lock(progress or _silent), ThreadPoolExecutor(2) as pool:
            # First, so that no command finds servers that are about to stop.
            forget_state(self.settings.home)
            if progress and self.kafka.is_recording:
                progress("Kafka writes a cache that makes its next starts faster (once a machine)")
            return any(list(pool.map(lambda server: server.stop(), (self.kafka, self.postgres))))

    def status(self) -> list[ServerStatus]:
        """Query both servers."""
        statuses = []
        for name, server in (("kafka", self.kafka), ("postgres", self.postgres)):
            process = server.process()
            is_ready = process is not None and server.is_ready()
            address = f"127.0.0.1:{server.port}" if server.port else ""
            pid = process.pid if process else None
            statuses.append(ServerStatus(name, is_ready, pid, address, server.log))
        return statuses

    def runtime(self, namespace: str | None = None) -> Runtime:
        """Return the addresses of this stack's servers, which must be up.

        Raises StackError if it is not.
        """
        state = read_state(self.settings.home)
        if state is None:
            raise StackError(f"the stack in {self.settings.home} is not up: run `pitboss up`")
        chosen = self.settings.namespace if namespace is None else namespace
        return runtime_of(state.broker, state.database_url, chosen)

    @property
    def lock_file(self) -> Path:
        """File that a command locks while it changes the stack."""
        return self.settings.home / "stack.lock"

    @contextmanager
    def lock(self, progress: ReportProgress) -> Iterator[None]:
        """Keep other commands from changing the stack. Raises StackBusy after LOCK_S."""
        waits = "another command starts or stops this stack; waiting for it"
        with exclusive_lock(self.lock_file, timeout_s=LOCK_S, on_wait=lambda: progress(waits)):
            yield

    def write_state(self) -> StackState:
        """Store and return the running servers' addresses. Raises StackError if one is down."""
        kafka, postgres = self.kafka.process(), self.postgres.process()
        if kafka is None or postgres is None:
            missing = "Kafka" if kafka is None else "PostgreSQL"
            home = self.settings.home
            raise StackError(f"{missing} does not run: run `pitboss up`, or see the logs in {home}")
        state = StackState(self.kafka.broker, self.postgres.url, kafka=kafka, postgres=postgres)
        write_state(self.settings.home, state)
        return state

    def _hide_from_git(self) -> None:
        ignore = self.settings.home / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")


def _silent(_: str) -> None:
    pass
