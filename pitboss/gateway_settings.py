"""Settings of the providers' HTTP door, read from the environment and the file of settings."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from gateway.decisions.access import AccessRules, Network, ProviderAccess
from gateway.tls import TlsFiles
from pitboss.security_settings import read_database_security
from pitboss.settings import (
    SettingValue,
    SettingValues,
    check_namespace,
    database_name,
    read_values,
    with_database,
)
from schemas.errors import UsageError, suggest
from streams.providers.registry import DIALECTS

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
    tls: TlsFiles | None
    access: AccessRules
    read_database: str | None = field(repr=False)
    """URL of the copy that questions are answered from; None: the ledger's own database."""


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
        tls=_read_tls(given),
        access=_read_access(given["gateway_access_file"], given["gateway_tls_client_ca"].value),
        read_database=_read_database(given),
    )


def _read_tls(given: SettingValues) -> TlsFiles | None:
    certificate, key, authority = (
        given[name].value
        for name in ("gateway_tls_cert", "gateway_tls_key", "gateway_tls_client_ca")
    )
    if certificate is None and key is None:
        if authority is not None:
            raise UsageError(
                f"{given['gateway_tls_client_ca'].place} needs PITBOSS_GATEWAY_TLS_CERT: clients "
                "show their certificates to a gateway that speaks TLS itself"
            )
        return None
    if certificate is None or key is None:
        raise UsageError("set both PITBOSS_GATEWAY_TLS_CERT and PITBOSS_GATEWAY_TLS_KEY, or none")
    return TlsFiles(certificate, key, authority)


def _read_database(given: SettingValues) -> str | None:
    url = given["gateway_database"].value
    if url is None:
        return None
    namespace = check_namespace(given["namespace"].value)
    try:
        named = with_database(url, database_name(namespace))
    except UsageError as error:
        message = str(error).replace("PITBOSS_DATABASE", given["gateway_database"].place)
        raise UsageError(message) from None
    return read_database_security(given).secure_url(named)


def _read_access(given: SettingValue, client_authority: Path | None) -> AccessRules:
    file: Path | None = given.value
    if file is None:
        return AccessRules()
    place = f"{given.place} {file}"
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # TOMLDecodeError is a ValueError
        raise UsageError(f"{place} cannot be read: {error}") from error
    proxies = _read_networks(table.pop("proxies", []), f"{place}: proxies")
    providers = {}
    for name, row in table.items():
        if name not in DIALECTS or DIALECTS[name].face is None:
            raise UsageError(
                f"{place}: {name!r} is not a provider that calls over HTTP{suggest(name, DIALECTS)}"
            )
        providers[name] = _read_provider_access(row, f"{place}: {name}")
    rules = AccessRules(proxies, providers)
    if rules.needs_certificates and client_authority is None:
        raise UsageError(f"{place}: certificates need PITBOSS_GATEWAY_TLS_CLIENT_CA")
    return rules


def _read_provider_access(row: Any, place: str) -> ProviderAccess:
    known = ("addresses", "certificates")
    if not isinstance(row, dict) or not row or row.keys() - set(known):
        raise UsageError(f"{place}: give a table of {' and '.join(known)}, and nothing else")
    names = row.get("certificates", [])
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise UsageError(f"{place}: certificates: expected a list of names")
    networks = _read_networks(row.get("addresses", []), f"{place}: addresses")
    if not names and not networks:
        raise UsageError(f"{place}: an empty list would allow anyone: leave the provider out")
    return ProviderAccess(networks, frozenset(names))


def _read_networks(given: Any, place: str) -> tuple[Network, ...]:
    if not isinstance(given, list):
        raise UsageError(f"{place}: expected a list of addresses and networks")
    try:
        return tuple(ip_network(text) for text in given)
    except ValueError as error:
        raise UsageError(f"{place}: {error}") from error


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
