"""The ledger worker: events of the log to bookings, balances and outcomes."""

from __future__ import annotations

from importlib.metadata import version

from ledger_sink.booking.handler import create_ledger_app
from ledger_sink.booking.settings import LedgerSettings
from pitboss.settings import Runtime, WorkerSettings
from runtime.kafka.app import PitbossApp
from streams.providers.registry import policies


def create_app(runtime: Runtime, worker: WorkerSettings) -> PitbossApp:
    """Create the app, with the rollback policies of the providers' dialects."""
    settings = LedgerSettings(
        runtime.broker,
        runtime.database_url,
        runtime.namespace,
        version("pitboss"),
        group_instance_id=worker.worker_id or None,
    )
    return create_ledger_app(settings, policies())
