"""Checks of a worker's settings before it connects: files that it reads, keys that are missing."""

from __future__ import annotations

from collections.abc import Collection

from pitboss.provider_settings import ALL_PROVIDERS
from pitboss.setting_files import configure_dialects, read_currencies, read_keyring
from pitboss.settings import WorkerSettings
from schemas.errors import UsageError
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


def check_unsigned(
    worker: WorkerSettings, providers: Collection[str] | None, *, are_ours: bool
) -> list[str]:
    """Return those of `providers` (None: of all) whose records are booked without a key.

    `are_ours`: the servers are the embedded ones, on which trials need no keys. Raises UsageError
    for a provider that signs, has no key, and is not named in `worker.unsigned`; and as
    `check_worker_settings` does.
    """
    unchecked = check_worker_settings(worker)
    found = [name for name in unchecked if providers is None or name in providers]
    allowed = worker.unsigned
    if allowed is None:
        allowed = frozenset({ALL_PROVIDERS} if are_ours else ())
    refused = [] if ALL_PROVIDERS in allowed else sorted(set(found) - allowed)
    if refused:
        signs = "signs its" if len(refused) == 1 else "sign their"
        raise UsageError(
            f"{', '.join(refused)} {signs} records, and the keys file has no key: add the key to "
            "the file of PITBOSS_KEYS_FILE, or name the provider in PITBOSS_UNSIGNED or with "
            "--unsigned, to book records that anyone may have written"
        )
    return found


def format_unchecked(providers: list[str]) -> str:
    """Format the providers without a key as one sentence; empty if there are none."""
    if not providers:
        return ""
    return (
        f"no key for {len(providers)} live providers that sign, so their records are booked "
        f"unchecked: {', '.join(providers)}"
    )
