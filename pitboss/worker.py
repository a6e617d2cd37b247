"""One worker process: `python -m pitboss.worker ROLE`. The only module that is an entry point and nothing else."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import orjson

from pitboss.settings import Runtime, WorkerSettings, read_settings, read_worker_settings, resolve_runtime
from schemas.errors import UsageError
from streams.kafka.app import PitbossApp, run_worker


def _normalise(runtime: Runtime, worker: WorkerSettings) -> PitbossApp:
    from streams.normalise.agent import NormaliseSettings, create_worker

    settings = NormaliseSettings(
        runtime.bootstrap_servers,
        runtime.namespace,
        version("pitboss"),
        keyring=read_keyring(worker),
        group_instance_id=worker.worker_id or None,
    )
    return create_worker(settings).app


def _ledger(runtime: Runtime, worker: WorkerSettings) -> PitbossApp:
    from ledger_sink.agent import LedgerSettings, create_ledger_app
    from streams.providers.registry import policies

    settings = LedgerSettings(
        runtime.bootstrap_servers,
        runtime.database_url,
        runtime.namespace,
        version("pitboss"),
        group_instance_id=worker.worker_id or None,
    )
    return create_ledger_app(settings, policies())


def _resolve(runtime: Runtime, worker: WorkerSettings) -> PitbossApp:
    from ledger_sink.resolve_agent import ResolveSettings, create_resolve_app
    from streams.normalise.agent import NAME as NORMALISE_GROUP

    return create_resolve_app(
        ResolveSettings(
            runtime.bootstrap_servers,
            runtime.database_url,
            runtime.namespace,
            version("pitboss"),
            NORMALISE_GROUP,
            group_instance_id=worker.worker_id or None,
            min_age_ms=worker.resolve_min_age_ms,
        )
    )


def _fraud(runtime: Runtime, worker: WorkerSettings) -> PitbossApp:
    from fraud_agents.app import FraudSettings, create_app

    return create_app(
        FraudSettings(
            runtime.bootstrap_servers,
            runtime.database_url,
            runtime.namespace,
            version("pitboss"),
            group_instance_id=worker.worker_id or None,
        )
    )


ROLES: Mapping[str, Callable[[Runtime, WorkerSettings], PitbossApp]] = {
    "normalise": _normalise,
    "ledger": _ledger,
    "resolve": _resolve,
    "fraud": _fraud,
}


def read_keyring(worker: WorkerSettings) -> Mapping[str, Any]:
    """The key material by provider. Raises UsageError for a file that cannot be read."""
    if worker.keys_file is None:
        return {}
    try:
        keyring = orjson.loads(worker.keys_file.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        message = f"PITBOSS_KEYS_FILE {worker.keys_file} cannot be read: {error}"
        raise UsageError(message) from error
    if not isinstance(keyring, dict):
        message = f"PITBOSS_KEYS_FILE {worker.keys_file} is no JSON object of provider → keys"
        raise UsageError(message)
    return keyring


def main(role: str) -> int:
    """Run the role until it is told to drain, or until going on would lose or double something."""
    worker = read_worker_settings()
    logging.basicConfig(level=worker.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for library in ("aiokafka", "faust", "mode"):
        # Each start of each service of theirs is a line at INFO; a worker that works says nothing.
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLogger().level))
    create = ROLES.get(role)
    if create is None:
        message = f"there is no role {role!r}: choose {', '.join(ROLES)}"
        raise UsageError(message)
    return run_worker(lambda: create(resolve_runtime(read_settings()), worker))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
