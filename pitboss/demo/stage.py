"""What a demo stands on: a stack that is left as it was found, and a namespace that is gone afterwards."""

from __future__ import annotations

import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

from pitboss.embedded.stack import Stack
from pitboss.provision import provision, unprovision
from pitboss.settings import Runtime, StackSettings, resolve_runtime, runtime_of
from pitboss.supervisor import ROLES, Supervisor, WorkerProcess, workers_for
from sandbox.actions import PROVIDERS
from sandbox.keys import SandboxKeys
from schemas.errors import UsageError

RESOLVE_MIN_AGE_MS = 3_000
"""A trial cannot wait a minute for a deposit that never comes."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Stage:
    """A namespace with its servers, its keys and where its files are."""

    runtime: Runtime
    keys: SandboxKeys
    folder: Path


@contextmanager
def fresh_stage(
    settings: StackSettings, prefix: str, say: Say, *, use_given_servers: bool = False, keep: bool = False
) -> Iterator[Stage]:
    """A stack that is up and a namespace nobody has used; kept with its logs if the block raises.

    Raises UsageError where the environment names servers and nobody said that they may be used.
    """
    if settings.uses_given_servers and not use_given_servers:
        message = (
            "PITBOSS_KAFKA and PITBOSS_DATABASE name servers, and this fills them with made-up traffic: unset both, "
            "or say --yes-use-these-servers"
        )
        raise UsageError(message)
    namespace = f"{prefix}_{secrets.token_hex(4)}"
    with _servers(settings, namespace, say, keep=keep) as runtime:
        folder = settings.home / namespace
        folder.mkdir(parents=True)
        say(f"namespace {namespace}: topics, database, tables")
        provision(runtime, providers=PROVIDERS)
        is_kept = True
        try:
            yield Stage(runtime, SandboxKeys.generate(), folder)
            is_kept = keep
        finally:
            if is_kept:
                say(f"kept for you to look at: logs in {folder}; `pitboss up`, then PITBOSS_NAMESPACE={namespace}")
        if not is_kept:
            unprovision(runtime)
            shutil.rmtree(folder)


@contextmanager
def _servers(settings: StackSettings, namespace: str, say: Say, *, keep: bool) -> Iterator[Runtime]:
    if settings.uses_given_servers:
        given = resolve_runtime(settings)
        yield runtime_of(given.bootstrap_servers, given.database_url, namespace)
        return
    stack = Stack.open(settings)
    was_running = all(server.is_ready for server in stack.status())
    if not was_running:
        say("starting Kafka and PostgreSQL")
    stack.up(say)
    try:
        yield stack.runtime(namespace)
    finally:
        if not was_running and not keep:
            say("stopping Kafka and PostgreSQL, as they were")
            stack.down()


@contextmanager
def running_workers(stage: Stage, home: Path, say: Say) -> Iterator[dict[str, WorkerProcess]]:
    """One worker of each role as a separate process, supervised; drained at the end."""
    keys_file = stage.folder / "keys.json"
    keys_file.write_bytes(orjson.dumps(stage.keys.keyring()))
    keys_file.chmod(0o600)
    environment = {"PITBOSS_KEYS_FILE": str(keys_file), "PITBOSS_RESOLVE_MIN_AGE_MS": str(RESOLVE_MIN_AGE_MS)}
    workers = workers_for(ROLES, stage.runtime, home=home, environment=environment)
    supervisor = Supervisor(workers, say)
    thread = threading.Thread(target=supervisor.run, name="supervisor")
    thread.start()
    try:
        yield {worker.role: worker for worker in workers}
    finally:
        supervisor.stop()
        thread.join()
