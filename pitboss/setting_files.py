"""The files that settings name: keys, currencies, settings of dialects."""

from __future__ import annotations

import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from pitboss.settings import WorkerSettings
from schemas.errors import UsageError, suggest

_JSON_KINDS: Final = {
    list: "a list",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def read_keyring(worker: WorkerSettings) -> Mapping[str, Any]:
    """Read the key material by provider. Raises UsageError as `read_keys_file` does."""
    return read_keys_file(worker.keys_file, worker.keys_place)


def read_keys_file(file: Path | None, name: str) -> Mapping[str, Any]:
    """Read a keys file; `name` says in messages what named it.

    Raises UsageError for a file that cannot be read, one that others than its owner can read, and
    for a name that is not a provider: its provider's records would be booked unchecked.
    """
    keyring = _read_object(file, name, "providers to keys")
    if file is not None:
        _check_mode(file, name)
    if keyring:
        from streams.providers.registry import DIALECTS

        for provider in keyring:
            if provider not in DIALECTS:
                hint = suggest(provider, DIALECTS) or ": `pitboss providers list` names all of them"
                raise UsageError(f"{name} {file}: {provider!r} is not a provider{hint}")
    return keyring


def _check_mode(file: Path, name: str) -> None:
    """Raise UsageError for a file of secrets that others than its owner may read or change."""
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(
            f"{name} {file} has mode {mode:04o}, so others than its owner can read the keys: "
            f"chmod 600 {file}, and take other keys if anyone may have read these"
        )


def read_currencies(worker: WorkerSettings) -> Mapping[str, Any]:
    """Read the decimals of the currencies that this installation adds, by currency.

    Raises UsageError for a file that cannot be read.
    """
    return _read_object(worker.currencies_file, worker.currencies_place, "currencies to decimals")


def read_dialect_settings(worker: WorkerSettings) -> Mapping[str, Mapping[str, Any]]:
    """Read an installation's settings of dialects, by provider.

    Raises UsageError for a file that cannot be read, and for what is not a table of settings.
    """
    file = worker.dialects_file
    if file is None:
        return {}
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{worker.dialects_place} {file} cannot be read: {error}") from error
    for provider, table in tables.items():
        if not isinstance(table, dict):
            raise UsageError(
                f"{worker.dialects_place} {file}: {provider}: give a table of settings, as in "
                f"[{provider}]"
            )
    return tables


def configure_dialects(worker: WorkerSettings) -> None:
    """Put the installation's settings over those of the dialects, for the whole process.

    Raises UsageError, naming the file, for a provider or a setting that is unknown, and for a value
    that does not fit.
    """
    settings = read_dialect_settings(worker)
    if not settings:
        return
    from streams.providers.registry import DIALECTS

    try:
        DIALECTS.configure(settings)
    except UsageError as error:
        raise UsageError(f"{worker.dialects_place} {worker.dialects_file}: {error}") from error


def list_dialect_settings(settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return one line a setting, as in `adyen.accept_test = true`, in alphabetical order."""
    return sorted(
        line
        for provider, table in settings.items()
        for name, value in table.items()
        for line in _setting_lines(f"{provider}.{name}", value)
    )


def _setting_lines(name: str, value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [line for key in value for line in _setting_lines(f"{name}.{key}", value[key])]
    return [f"{name} = {orjson.dumps(value, default=str).decode()}"]


def _read_object(file: Path | None, name: str, content: str) -> Mapping[str, Any]:
    if file is None:
        return {}
    try:
        value = orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        message = f"{name} {file} cannot be read: {error}"
        raise UsageError(message) from error
    if not isinstance(value, dict):
        kind = _JSON_KINDS[type(value)]
        message = f"{name} {file}: expected a JSON object that maps {content}, got {kind}"
        raise UsageError(message)
    return value
