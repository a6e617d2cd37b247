"""The fraud worker: detectors over the log, and their alerts."""

from __future__ import annotations

from importlib.metadata import version

from fraud_agents import handler
from fraud_agents.settings import FraudSettings
from pitboss.settings import Runtime, WorkerSettings
from runtime.kafka.app import PitbossApp


def create_app(runtime: Runtime, worker: WorkerSettings) -> PitbossApp:
    """Create the app."""
    settings = FraudSettings(
        runtime.bootstrap_servers,
        runtime.database_url,
        runtime.namespace,
        version("pitboss"),
        group_instance_id=worker.worker_id or None,
    )
    return handler.create_app(settings)
