"""Checks of a worker's settings before it connects: files that it reads, keys that are missing."""

from __future__ import annotations

from pitboss.setting_files import configure_dialects, read_currencies, read_keyring
from pitboss.settings import WorkerSettings
from schemas.money import configure_currencies
from streams.providers.keyring import check_keyring, unchecked_providers
from streams.providers.registry import DIALECTS


def check_worker_settings(worker: WorkerSettings) -> list[str]:
    """Check the files that the settings name, and return the providers that lack a key.

    These have a live version, sign their records, and are booked unchecked. Raises UsageError for
    a file that cannot be read, a name in it that is unknown, and a key that cannot be used.
    """
    configure_currencies(read_currencies(worker))
    configure_dialects(worker)
    keyring = read_keyring(worker)
    check_keyring(keyring, DIALECTS, f"{worker.keys_place} {worker.keys_file}")
    return unchecked_providers(keyring, DIALECTS)


def format_unchecked(providers: list[str]) -> str:
    """Format the providers without a key as one sentence; empty if there are none."""
    if not providers:
        return ""
    return (
        f"no key for {len(providers)} live providers that sign, so their records are booked "
        f"unchecked: {', '.join(providers)}"
    )
