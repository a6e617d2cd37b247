"""The fraud worker: detectors over the log, and their alerts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from fraud_agents import handler
from fraud_agents.enforcement import OPERATIONS, Enforcement, RawHeaders
from fraud_agents.settings import FraudSettings
from pitboss.ops.operator_events import active_signing_key, build_record
from pitboss.setting_files import read_keyring
from pitboss.settings import Runtime, WorkerSettings
from runtime.kafka.app import PitbossApp
from schemas.errors import UsageError


def create_app(runtime: Runtime, worker: WorkerSettings) -> PitbossApp:
    """Create the app. Raises UsageError for a severity that stops no player."""
    settings = FraudSettings(
        runtime.broker,
        runtime.database_url,
        runtime.namespace,
        version("pitboss"),
        group_instance_id=worker.worker_id or None,
        enforcement=create_enforcement(worker.fraud_enforce, read_keyring(worker)),
    )
    return handler.create_app(settings)


def create_enforcement(
    severities: frozenset[str] | None, keyring: Mapping[str, Any]
) -> Enforcement | None:
    """Return what alerts of these severities do; None where they do nothing.

    Raises UsageError for a severity that neither blocks nor holds.
    """
    if not severities:
        return None
    if unknown := severities - OPERATIONS.keys():
        raise UsageError(
            f"PITBOSS_FRAUD_ENFORCE: {', '.join(sorted(unknown))} does not stop a player; there are"
            f" {', '.join(OPERATIONS)}"
        )

    def build(event: Mapping[str, str], brand: str, at_ms: int) -> tuple[bytes, RawHeaders]:
        # The clock chooses the key that is valid now; the record itself is the same at any time.
        key = active_signing_key(keyring, time.time_ns() // 1_000_000)
        return build_record(event, key, brand, at_ms)

    return Enforcement(severities, build)
