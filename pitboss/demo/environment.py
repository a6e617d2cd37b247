"""The environment of a demo: servers, workers, and a namespace that is removed afterwards."""

from __future__ import annotations

import secrets
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

from lab.sandbox.actions import PROVIDERS
from lab.sandbox.keys import SandboxKeys
from pitboss.embedded.files import display_path
from pitboss.embedded.stack import Stack
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.provision import deprovision, provision
from pitboss.settings import Runtime, StackSettings, runtime_of
from pitboss.workers import ROLES
from pitboss.workers.supervisor import Supervisor, WorkerProcess, workers_for
from schemas.errors import UsageError

RESOLVE_MIN_AGE_MS = 3_000
"""A demo cannot wait a minute for a deposit that never comes."""

PARTITIONS = 1
"""Of every topic. Each role has one worker, which would not divide more among others, and what a
fetch costs the broker and the client grows with the partitions in it.
"""

_NOT_INHERITED = (
    "PITBOSS_CONFIG",
    "PITBOSS_PARK",
    "PITBOSS_DRIFT_SAMPLE",
    "PITBOSS_CURRENCIES_FILE",
    "PITBOSS_FRAUD_ENFORCE",
    "PITBOSS_GATEWAY_PORT",
    "PITBOSS_GATEWAY_HOST",
    "PITBOSS_GATEWAY_BRANDS",
    "PITBOSS_GATEWAY_CURRENCY",
    "PITBOSS_GATEWAY_SESSION_KEY_FILE",
    "PITBOSS_GATEWAY_FILES",
    "PITBOSS_GATEWAY_PATIENCE_MS",
    "PITBOSS_GATEWAY_PLAYER_RATE",
    "PITBOSS_GATEWAY_PROVIDER_RATE",
)
"""Settings of an installation in the caller's environment, which do not apply to a demo."""

Notify = Callable[[str], None]


@dataclass(frozen=True)
class DemoEnvironment:
    """Namespace with its servers, its keys and the folder of its files."""

    runtime: Runtime
    keys: SandboxKeys
    folder: Path


@contextmanager
def demo_environment(
    settings: StackSettings,
    prefix: str,
    notify: Notify,
    *,
    use_given_servers: bool = False,
    keep: bool = False,
    secure: bool = False,
) -> Iterator[DemoEnvironment]:
    """Provide running servers and a fresh namespace, and remove the namespace at the end.

    With `keep`, or if the block raises, the namespace and its logs stay. With `secure`, servers
    that are made have TLS and logins. Raises UsageError if the environment names servers and
    `use_given_servers` is not set.
    """
    if settings.uses_given_servers and not use_given_servers:
        message = (
            "PITBOSS_KAFKA and PITBOSS_DATABASE name servers, and this command fills them with "
            "generated traffic: unset both, or give --yes-use-these-servers"
        )
        raise UsageError(message)
    namespace = f"{prefix}_{secrets.token_hex(4)}"
    with _servers(settings, namespace, notify, keep=keep, secure=secure) as runtime:
        folder = settings.home / namespace
        folder.mkdir(parents=True)
        notify(f"namespace {namespace}: topics, database, tables")
        provision(runtime, providers=PROVIDERS, partitions=PARTITIONS, raw_partitions=PARTITIONS)
        is_kept = True
        try:
            yield DemoEnvironment(runtime, SandboxKeys.generate(), folder)
            is_kept = keep
        finally:
            if is_kept:
                logs = display_path(folder)
                notify(
                    f"kept for inspection: logs in {logs}; `pitboss up`, then "
                    f"PITBOSS_NAMESPACE={namespace}"
                )
        if not is_kept:
            deprovision(runtime)
            shutil.rmtree(folder)


@contextmanager
def _servers(
    settings: StackSettings, namespace: str, notify: Notify, *, keep: bool, secure: bool
) -> Iterator[Runtime]:
    if settings.uses_given_servers:
        given = resolve_runtime(settings)
        yield runtime_of(given.broker, given.database_url, namespace)
        return
    stack = Stack.open(settings)
    is_ours = all(server.pid is None for server in stack.status())
    if is_ours:
        notify("starting Kafka and PostgreSQL")
    is_up = False
    try:
        stack.up(notify, secure=secure)
        is_up = True
        yield stack.runtime(namespace)
    finally:
        # One server may run although `up` did not complete: it was interrupted, or the other did
        # not start.
        if is_ours and not (keep and is_up):
            with suppress(OSError):  # the terminal may be gone, as after SIGHUP
                notify("stopping Kafka and PostgreSQL, as they were")
            stack.down()


@contextmanager
def running_workers(
    runtime: Runtime,
    home: Path,
    notify: Notify,
    keys: SandboxKeys | None = None,
    roles: Sequence[str] = ROLES,
    **settings: str,
) -> Iterator[dict[str, WorkerProcess]]:
    """Run one supervised worker process of each role; drain all at the end.

    Yields the processes by role. Without keys no signature is checked. Settings of workers in the
    caller's environment do not apply, only those given by their variables as `settings`.
    """
    keys_file = None
    if keys is not None:
        keys_file = home / runtime.namespace / "keys.json"
        keys_file.parent.mkdir(parents=True, exist_ok=True)
        keys_file.touch(mode=0o600)
        keys_file.write_bytes(orjson.dumps(keys.keyring()))
    environment = {
        "PITBOSS_KEYS_FILE": str(keys_file or ""),
        "PITBOSS_RESOLVE_MIN_AGE_MS": str(RESOLVE_MIN_AGE_MS),
        **dict.fromkeys(_NOT_INHERITED, ""),
        **settings,
    }
    workers = workers_for(roles, runtime, home=home, environment=environment)
    supervisor = Supervisor(workers, notify)
    thread = threading.Thread(target=supervisor.run, name="supervisor")
    thread.start()
    try:
        yield {worker.role: worker for worker in workers}
    finally:
        supervisor.stop()
        thread.join()
