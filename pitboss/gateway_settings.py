"""Settings of the providers' HTTP door, read from the environment and the file of settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pitboss.settings import SettingValue, read_values
from schemas.errors import UsageError

PORT_MAX = 65_535

_BRAND = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")


@dataclass(frozen=True)
class DoorSettings:
    """Settings of the providers' HTTP door."""

    host: str
    port: int | None
    """None where it is not set: `run all` starts no gateway then."""
    brands: Mapping[str, str]
    """Region by brand; without any there is the default brand."""
    currency: str
    """Of every wallet; empty where wallets differ."""
    session_key: bytes | None = field(repr=False)
    patience_ms: int | None
    """None: as each provider's face says."""
    player_rate: int
    provider_rate: int | None
    files_folder: Path | None


def read_gateway_settings(environ: Mapping[str, str] | None = None) -> DoorSettings:
    """Read the settings of the gateway. Raises UsageError for a value or a file that is wrong."""
    given = read_values(environ)
    port: int | None = given["gateway_port"].value
    if port is not None and port > PORT_MAX:
        raise UsageError(f"{given['gateway_port'].place} is {port}: give a port up to {PORT_MAX:,}")
    for name in ("gateway_patience_ms", "gateway_player_rate", "gateway_provider_rate"):
        if given[name].value == 0:
            raise UsageError(f"{given[name].place} is 0: no call would be answered from the ledger")
    key_file = given["gateway_session_key_file"]
    return DoorSettings(
        host=given["gateway_host"].value,
        port=port,
        brands=_read_brands(given["gateway_brands"]),
        currency=given["gateway_currency"].value,
        session_key=None if key_file.value is None else _read_hex(key_file.value, key_file.place),
        patience_ms=given["gateway_patience_ms"].value,
        player_rate=given["gateway_player_rate"].value,
        provider_rate=given["gateway_provider_rate"].value,
        files_folder=given["gateway_files"].value,
    )


def _read_brands(given: SettingValue) -> dict[str, str]:
    brands: dict[str, str] = {}
    for text in sorted(given.value or ()):
        brand, _, region = text.partition(":")
        if brand in brands or not all(map(_BRAND.fullmatch, (brand, region or brand))):
            raise UsageError(
                f"{given.place}: {text!r} is not a brand: give each once, in lower-case letters, "
                "digits, dots and dashes, with its region behind a colon, as in lucky:eu"
            )
        brands[brand] = region
    return brands


def _read_hex(file: Path, place: str) -> bytes:
    try:
        return bytes.fromhex(file.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        # `from None`: the error would quote a part of the key.
        raise UsageError(f"{place} {file} is not a readable file of hexadecimal digits") from None
