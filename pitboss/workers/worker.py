"""One worker process: `python -m pitboss.workers.worker ROLE`.

The only module that is an entry point and nothing else.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from pitboss.settings import (
    Runtime,
    WorkerSettings,
    read_settings,
    read_worker_settings,
    resolve_runtime,
)
from runtime.kafka.app import PitbossApp, run_worker
from runtime.kafka.control import Control
from schemas.errors import UsageError
from schemas.money import configure_currencies
from schemas.topics import CONTROL


def _normalise(runtime: Runtime, worker: WorkerSettings) -> PitbossApp:
    from pitboss.workers.retirement_watch import RetirementWatch
    from runtime.dead_letters.key_holds import ParkLimits
    from streams.normalise.handler import NormaliseSettings, create_worker
    from streams.normalise.parking import ParkSettings
    from streams.providers.registry import DIALECTS

    park = None
    if worker.park_providers is not None:
        limits = ParkLimits(worker.park_records_max, age_max_ms=worker.park_age_max_ms)
        park = ParkSettings(runtime.database_url, worker.park_providers, limits)
    settings = NormaliseSettings(
        runtime.bootstrap_servers,
        runtime.namespace,
        version("pitboss"),
        keyring=read_keyring(worker),
        group_instance_id=worker.worker_id or None,
        park=park,
    )
    created = create_worker(settings)
    created.app.supervise(RetirementWatch(DIALECTS.rows, created.stats.versions))
    return created.app


def _ledger(runtime: Runtime, worker: WorkerSettings) -> PitbossApp:
    from ledger_sink.booking.handler import LedgerSettings, create_ledger_app
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
    from ledger_sink.resolve.handler import ResolveSettings, create_resolve_app
    from streams.normalise.handler import NAME as NORMALISE_GROUP

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
    from fraud_agents.handler import create_app
    from fraud_agents.settings import FraudSettings

    return create_app(
        FraudSettings(
            runtime.bootstrap_servers,
            runtime.database_url,
            runtime.namespace,
            version("pitboss"),
            group_instance_id=worker.worker_id or None,
        )
    )


def _drift(runtime: Runtime, worker: WorkerSettings) -> PitbossApp:
    from streams.drift.handler import create_worker
    from streams.drift.settings import DriftSettings

    settings = DriftSettings(
        runtime.bootstrap_servers,
        runtime.namespace,
        keyring=read_keyring(worker),
        rate=worker.drift_sample,
        group_instance_id=worker.worker_id or None,
    )
    return create_worker(settings).app


ROLES: Mapping[str, Callable[[Runtime, WorkerSettings], PitbossApp]] = {
    "normalise": _normalise,
    "ledger": _ledger,
    "resolve": _resolve,
    "fraud": _fraud,
    "drift": _drift,
}


def read_keyring(worker: WorkerSettings) -> Mapping[str, Any]:
    """The key material by provider. Raises UsageError for a file that cannot be read."""
    return _read_object(worker.keys_file, "PITBOSS_KEYS_FILE", "provider → keys")


def read_currencies(worker: WorkerSettings) -> Mapping[str, Any]:
    """Decimals by currency, of those that this installation adds.

    Raises UsageError for a file that cannot be read.
    """
    return _read_object(worker.currencies_file, "PITBOSS_CURRENCIES_FILE", "currency → decimals")


def _read_object(file: Path | None, name: str, what: str) -> Mapping[str, Any]:
    if file is None:
        return {}
    try:
        found = orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        message = f"{name} {file} cannot be read: {error}"
        raise UsageError(message) from error
    if not isinstance(found, dict):
        message = f"{name} {file} is no JSON object of {what}"
        raise UsageError(message)
    return found


def main(arguments: Sequence[str]) -> int:
    """Run a role until it is told to drain, or until going on would lose or double something."""
    worker = read_worker_settings()
    logging.basicConfig(
        level=worker.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    for library in ("aiokafka", "faust", "mode"):
        # Each start of each service of theirs is a line at INFO; a worker that works says nothing.
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLogger().level))
    if len(arguments) != 1 or arguments[0] not in ROLES:
        sys.stderr.write(
            f"usage: python -m pitboss.workers.worker ROLE, one of {', '.join(ROLES)}\n"
        )
        return UsageError.exit_code
    [role] = arguments
    return run_worker(lambda: compose(role, resolve_runtime(read_settings()), worker))


def compose(role: str, runtime: Runtime, worker: WorkerSettings) -> PitbossApp:
    """The role's app with what every worker has besides: an ear for commands.

    Nothing is connected yet.
    """
    configure_currencies(read_currencies(worker))
    app = ROLES[role](runtime, worker)
    app.supervise(Control(runtime.bootstrap_servers, runtime.topic(CONTROL), role, app.intakes))
    return app


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
