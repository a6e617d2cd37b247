"""The drift worker: compares raw records with the schemas that their providers declared."""

from __future__ import annotations

from pitboss.setting_files import read_keyring
from pitboss.settings import Runtime, WorkerSettings
from runtime.kafka.app import PitbossApp
from streams.drift.handler import create_worker
from streams.drift.settings import DriftSettings


def create_app(runtime: Runtime, worker: WorkerSettings) -> PitbossApp:
    """Create the app."""
    settings = DriftSettings(
        runtime.broker,
        runtime.namespace,
        keyring=read_keyring(worker),
        group_instance_id=worker.worker_id or None,
        providers=worker.providers,
    )
    return create_worker(settings).app
