"""Composition of a role's app, with the services that every worker has."""

from __future__ import annotations

from pitboss.setting_files import configure_dialects, read_currencies
from pitboss.settings import Runtime, WorkerSettings
from runtime.kafka.app import PitbossApp
from runtime.kafka.control import Control
from runtime.telemetry.settings import TELEMETRY_OFF, TelemetrySettings
from schemas.money import configure_currencies
from schemas.topics import CONTROL


def compose(
    role: str,
    runtime: Runtime,
    worker: WorkerSettings,
    telemetry: TelemetrySettings = TELEMETRY_OFF,
) -> PitbossApp:
    """Create the app of a role with a listener for commands, without connecting.

    Raises UsageError for settings that are wrong, ValueError for an unknown role.
    """
    configure_currencies(read_currencies(worker))
    configure_dialects(worker)
    app = _create_app(role, runtime, worker)
    control = Control(runtime.broker, runtime.topic(CONTROL), role, app.intakes)
    # The intakes wait for it, so it connects while the other services start.
    app.supervise(control, is_first=True)
    if telemetry.is_on:
        from runtime.telemetry.worker import attach_telemetry

        attach_telemetry(app, role, worker.worker_id, telemetry)
    return app


def _create_app(role: str, runtime: Runtime, worker: WorkerSettings) -> PitbossApp:
    # Imported here, so that a process loads the domain of its own role only.
    match role:
        case "normalise":
            from pitboss.workers.normalise import create_app
        case "ledger":
            from pitboss.workers.ledger import create_app
        case "resolve":
            from pitboss.workers.resolve import create_app
        case "fraud":
            from pitboss.workers.fraud import create_app
        case "drift":
            from pitboss.workers.drift import create_app
        case "gateway":
            from pitboss.workers.gateway import create_app
        case "archive":
            from pitboss.workers.archive import create_app
        case _:
            message = f"{role!r} is not a role of a worker"
            raise ValueError(message)
    return create_app(runtime, worker)
