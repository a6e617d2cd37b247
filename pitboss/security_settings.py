"""The settings of TLS and logins: declared, checked together, written for worker processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from pitboss.setting_types import Setting, SettingType
from runtime.security import (
    SASL_MECHANISMS,
    SCRAM_SHA_512,
    SSL_MODES,
    BrokerAddress,
    DatabaseSecurity,
    SecurityProtocol,
)
from schemas.errors import UsageError

SECURITY_SETTINGS: Final = (
    Setting(
        "kafka_security",
        SettingType.TEXT,
        "everything",
        "How clients speak to the broker of `PITBOSS_KAFKA`: `PLAINTEXT`, `SSL` (TLS) or "
        "`SASL_SSL` (TLS with a user and a password). See [secure.md](../howto/secure.md)",
        "SASL_SSL",
        default_text="`PLAINTEXT`; of the embedded broker as `up` made it",
    ),
    Setting(
        "kafka_ca",
        SettingType.PATH,
        "everything",
        "PEM file of the authorities that may sign the broker's certificate",
        "/run/secrets/kafka-ca.pem",
        default_text="the authorities that this machine trusts",
    ),
    Setting(
        "kafka_cert",
        SettingType.PATH,
        "everything",
        "PEM file of this client's own certificate, for mutual TLS. Set both or neither of this "
        "and `PITBOSS_KAFKA_KEY`",
        "/run/secrets/kafka-client.pem",
        default_text="none",
    ),
    Setting(
        "kafka_key",
        SettingType.PATH,
        "everything",
        "PEM file of the private key of that certificate, without a password",
        "/run/secrets/kafka-client.key",
        default_text="none",
    ),
    Setting(
        "kafka_sasl_mechanism",
        SettingType.TEXT,
        "everything",
        "`SCRAM-SHA-512` or `SCRAM-SHA-256`, for `SASL_SSL`",
        "SCRAM-SHA-512",
        default_text="`SCRAM-SHA-512`",
    ),
    Setting(
        "kafka_sasl_user",
        SettingType.TEXT,
        "everything",
        "User that logs in to the broker",
        "pitboss",
        default_text="none",
    ),
    Setting(
        "kafka_sasl_password",
        SettingType.TEXT,
        "everything",
        "Its password; rather name a file that holds it",
        "a-long-password",
        default_text="none",
        is_in_file=False,
    ),
    Setting(
        "kafka_sasl_password_file",
        SettingType.PATH,
        "everything",
        "File of that password. It is read each time a client is made",
        "/run/secrets/kafka-password",
        default_text="none",
    ),
    Setting(
        "database_sslmode",
        SettingType.TEXT,
        "everything",
        "How the connection of `PITBOSS_DATABASE` is encrypted, in libpq's words; `verify-full` "
        "checks the server's certificate and its host name",
        "verify-full",
        default_text="what the URL says, else `verify-full` with `PITBOSS_DATABASE_CA`",
    ),
    Setting(
        "database_ca",
        SettingType.PATH,
        "everything",
        "PEM file of the authorities that may sign the database server's certificate",
        "/run/secrets/postgres-ca.pem",
        default_text="none",
    ),
    Setting(
        "database_cert",
        SettingType.PATH,
        "everything",
        "PEM file of this client's own certificate. Set both or neither of this and "
        "`PITBOSS_DATABASE_KEY`",
        "/run/secrets/postgres-client.pem",
        default_text="none",
    ),
    Setting(
        "database_key",
        SettingType.PATH,
        "everything",
        "PEM file of the private key of that certificate, readable by this user alone",
        "/run/secrets/postgres-client.key",
        default_text="none",
    ),
)
"""Rows of `pitboss.setting_table`, in the order of the reference page."""

SECRETS: Final = frozenset({"kafka_sasl_password"})
"""Settings whose values are never shown."""

_TLS: Final = ("kafka_ca", "kafka_cert", "kafka_key")
_SASL: Final = ("kafka_sasl_user", "kafka_sasl_password", "kafka_sasl_password_file")
_DATABASE: Final = ("database_sslmode", "database_ca", "database_cert", "database_key")


class GivenValue(Protocol):
    """Value of a setting, and how an error names its place."""

    @property
    def value(self) -> Any:
        """The value; None for a default that depends on the machine."""

    @property
    def place(self) -> str:
        """The variable, or the file with line and key."""

    @property
    def is_default(self) -> bool:
        """Whether neither the environment nor the file gives the value."""


GivenValues = Mapping[str, GivenValue]


def read_broker(values: GivenValues) -> BrokerAddress | None:
    """Return how the named broker is reached; None if none is named.

    Raises UsageError for settings that do not fit together.
    """
    protocol = _read_choice(values["kafka_security"], tuple(SecurityProtocol), "PLAINTEXT")
    _check_needed(values, ("kafka_security", *_TLS, *_SASL), "kafka")
    tls, sasl = protocol != "PLAINTEXT", protocol == "SASL_SSL"
    _check_used(values, _TLS, "SSL or SASL_SSL", is_used=tls)
    _check_used(values, (*_SASL, "kafka_sasl_mechanism"), "SASL_SSL", is_used=sasl)
    _check_pair(values, "kafka_cert", "kafka_key")
    if sasl:
        _check_login(values)
    if values["kafka"].value is None:
        return None
    return BrokerAddress(
        values["kafka"].value,
        SecurityProtocol(protocol),
        ca_file=_path(values["kafka_ca"]),
        certificate_file=_path(values["kafka_cert"]),
        key_file=_path(values["kafka_key"]),
        sasl_mechanism=_read_choice(values["kafka_sasl_mechanism"], SASL_MECHANISMS, SCRAM_SHA_512),
        sasl_user=values["kafka_sasl_user"].value,
        sasl_password=values["kafka_sasl_password"].value,
        sasl_password_file=_path(values["kafka_sasl_password_file"]),
    )


def read_database_security(values: GivenValues) -> DatabaseSecurity:
    """Return how the named database is reached, beside its URL.

    Raises UsageError for settings that do not fit together.
    """
    _check_needed(values, _DATABASE, "database")
    _check_pair(values, "database_cert", "database_key")
    return DatabaseSecurity(
        _read_choice(values["database_sslmode"], SSL_MODES, "") or None,
        ca_file=_path(values["database_ca"]),
        certificate_file=_path(values["database_cert"]),
        key_file=_path(values["database_key"]),
    )


def server_environment(broker: BrokerAddress, database_url: str) -> dict[str, str]:
    """Return the variables by which a worker process reaches these servers.

    The URL of the database holds its security already. Variables that do not apply are empty, so
    that they win over the file.
    """
    given = {
        "PITBOSS_KAFKA": broker.servers,
        "PITBOSS_KAFKA_SECURITY": str(broker.protocol),
        "PITBOSS_KAFKA_CA": broker.ca_file,
        "PITBOSS_KAFKA_CERT": broker.certificate_file,
        "PITBOSS_KAFKA_KEY": broker.key_file,
        "PITBOSS_KAFKA_SASL_MECHANISM": broker.sasl_mechanism if broker.uses_sasl else None,
        "PITBOSS_KAFKA_SASL_USER": broker.sasl_user,
        "PITBOSS_KAFKA_SASL_PASSWORD": broker.sasl_password,
        "PITBOSS_KAFKA_SASL_PASSWORD_FILE": broker.sasl_password_file,
        "PITBOSS_DATABASE": database_url,
        **dict.fromkeys((f"PITBOSS_{name.upper()}" for name in _DATABASE), None),
    }
    return {name: value or "" for name, value in given.items()}


def _read_choice(given: GivenValue, choices: tuple[str, ...], default: str) -> str:
    if given.value is None:
        return default
    text = str(given.value)
    match = next((choice for choice in choices if choice.lower() == text.lower()), None)
    if match is None:
        raise UsageError(f"{given.place} is {text!r}: give one of {', '.join(choices)}")
    return str(match)


def _check_needed(values: GivenValues, names: tuple[str, ...], server: str) -> None:
    """Refuse security of a server that is not named: the embedded one brings its own."""
    if values[server].value is not None:
        return
    for name in names:
        if not values[name].is_default:
            raise UsageError(
                f"{values[name].place} is set and PITBOSS_{server.upper()} is not: it is about "
                "servers that you name. `pitboss up --secure` secures the embedded ones"
            )


def _check_used(
    values: GivenValues, names: tuple[str, ...], protocols: str, *, is_used: bool
) -> None:
    for name in () if is_used else names:
        if not values[name].is_default:
            raise UsageError(
                f"{values[name].place} is set and PITBOSS_KAFKA_SECURITY is "
                f"{values['kafka_security'].value or 'PLAINTEXT'}: set that to {protocols}, or "
                "leave this out"
            )


def _check_pair(values: GivenValues, certificate: str, key: str) -> None:
    given = [name for name in (certificate, key) if values[name].value is not None]
    if len(given) == 1:
        [missing] = {certificate, key} - {*given}
        raise UsageError(
            f"{values[given[0]].place} is set and PITBOSS_{missing.upper()} is not: set both or "
            "neither"
        )


def _check_login(values: GivenValues) -> None:
    if not values["kafka_sasl_user"].value:
        raise UsageError("PITBOSS_KAFKA_SECURITY is SASL_SSL: set PITBOSS_KAFKA_SASL_USER too")
    passwords = [name for name in _SASL[1:] if values[name].value is not None]
    if len(passwords) != 1:
        raise UsageError(
            "PITBOSS_KAFKA_SECURITY is SASL_SSL: set one of PITBOSS_KAFKA_SASL_PASSWORD_FILE and "
            "PITBOSS_KAFKA_SASL_PASSWORD"
        )


def _path(given: GivenValue) -> str | None:
    return None if given.value is None else str(given.value.expanduser().absolute())
