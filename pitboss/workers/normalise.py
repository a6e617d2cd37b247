"""The normalise worker: raw records to events, with the settings of this installation."""

from __future__ import annotations

import logging
from importlib.metadata import version

from pitboss.setting_files import read_keyring
from pitboss.settings import Runtime, WorkerSettings
from pitboss.workers.checks import format_unchecked
from pitboss.workers.retirement_watch import RetirementWatch
from runtime.dead_letters.key_holds import ParkLimits
from runtime.kafka.app import PitbossApp
from streams.normalise.handler import create_worker
from streams.normalise.settings import NormaliseSettings, ParkSettings
from streams.providers.keyring import check_keyring, unchecked_providers
from streams.providers.registry import DIALECTS

_LOG = logging.getLogger(__name__)


def create_app(runtime: Runtime, worker: WorkerSettings) -> PitbossApp:
    """Create the app, which also watches for versions of dialects that are to be retired.

    Logs the live providers whose records it cannot check.
    """
    park = None
    if worker.park_providers is not None:
        limits = ParkLimits(worker.park_records_max, age_max_ms=worker.park_age_max_ms)
        park = ParkSettings(runtime.database_url, worker.park_providers, limits)
    keyring = read_keyring(worker)
    check_keyring(keyring, DIALECTS, f"{worker.keys_place} {worker.keys_file}")
    if sentence := format_unchecked(unchecked_providers(keyring, DIALECTS)):
        _LOG.warning("%s", sentence)
    settings = NormaliseSettings(
        runtime.broker,
        runtime.namespace,
        version("pitboss"),
        keyring=keyring,
        group_instance_id=worker.worker_id or None,
        providers=worker.providers,
        brands=worker.brands,
        sample_rate=worker.drift_sample,
        park=park,
    )
    normaliser = create_worker(settings)
    normaliser.app.supervise(RetirementWatch(DIALECTS.rows, normaliser.stats.versions))
    return normaliser.app
