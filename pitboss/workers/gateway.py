"""The gateway: the providers' HTTP door, with the settings of this installation."""

from __future__ import annotations

import logging

from gateway.handler import create_gateway
from gateway.settings import PORT_DEFAULT, GatewaySettings
from ledger_sink.queries.current_player import PlayerPool
from pitboss.gateway_settings import read_gateway_settings
from pitboss.setting_files import read_keyring
from pitboss.settings import Runtime, WorkerSettings
from pitboss.workers.checks import format_unchecked
from runtime.kafka.app import PitbossApp
from streams.providers.keyring import unchecked_providers
from streams.providers.registry import DIALECTS

_LOG = logging.getLogger(__name__)


def create_app(runtime: Runtime, worker: WorkerSettings) -> PitbossApp:
    """Create the app. Logs the providers whose calls it cannot check."""
    keyring = read_keyring(worker)
    if sentence := format_unchecked(unchecked_providers(keyring, DIALECTS)):
        _LOG.warning("%s", sentence)
    door = read_gateway_settings()
    settings = GatewaySettings(
        runtime.broker,
        runtime.namespace,
        host=door.host,
        port=PORT_DEFAULT if door.port is None else door.port,
        keyring=keyring,
        session_key=door.session_key,
        providers=worker.providers,
        brands=door.brands,
        currency=door.currency,
        connector=worker.worker_id or "gateway",
        patience_ms=door.patience_ms,
        player_rate=door.player_rate,
        player_burst=2 * door.player_rate,
        provider_rate=door.provider_rate,
        files_folder=door.files_folder,
        tls=door.tls,
        access=door.access,
    )
    primary = runtime.database_url
    players = PlayerPool(
        door.read_database or primary,
        runtime.prefix + "pitboss.gateway",
        primary_url=None if door.read_database is None else primary,
    )
    app = create_gateway(settings, players=players).app
    # It stops after the server, which answers what is in progress.
    app.supervise(players, is_first=True)
    return app
