"""The resolve worker: finds the players of events that name none."""

from __future__ import annotations

from importlib.metadata import version

from ledger_sink.resolve.handler import create_resolve_app
from ledger_sink.resolve.settings import ResolveSettings
from pitboss.settings import Runtime, WorkerSettings
from runtime.kafka.app import PitbossApp
from streams.normalise.handler import NAME as NORMALISE_GROUP


def create_app(runtime: Runtime, worker: WorkerSettings) -> PitbossApp:
    """Create the app; it needs the normalisers' group, whose progress it waits for."""
    settings = ResolveSettings(
        runtime.broker,
        runtime.database_url,
        runtime.namespace,
        version("pitboss"),
        NORMALISE_GROUP,
        group_instance_id=worker.worker_id or None,
        providers=worker.providers,
        min_age_ms=worker.resolve_min_age_ms,
    )
    return create_resolve_app(settings)
