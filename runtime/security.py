"""How broker and database are reached, and the one place that makes clients' security options.

Every client of the broker is constructed with the options of a `BrokerAddress`, so a role cannot
forget TLS or log in differently; psycopg gets all in the URL, from a `DatabaseSecurity`. The names
of protocols and mechanisms are Kafka's (https://kafka.apache.org/documentation/#security_overview)
and those of sslmode libpq's (https://www.postgresql.org/docs/current/libpq-ssl.html).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from runtime.certificates import check_authority, check_own_certificate
from schemas.errors import UsageError

if TYPE_CHECKING:  # every command would import OpenSSL, also one that asks no server
    import ssl

SCRAM_SHA_512: Final = "SCRAM-SHA-512"
SASL_MECHANISMS: Final = ("SCRAM-SHA-512", "SCRAM-SHA-256")

VERIFY_FULL: Final = "verify-full"
MACHINE_AUTHORITIES: Final = "system"
"""What `sslrootcert` has in the place of a file for OpenSSL's own authorities."""
SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", VERIFY_FULL)


class SecurityProtocol(StrEnum):
    """How a client speaks to the broker, in Kafka's words."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    """TLS; with a certificate and key the client shows who it is (mutual TLS)."""
    SASL_SSL = "SASL_SSL"
    """TLS, and a user with a password."""


@dataclass(frozen=True)
class BrokerAddress:
    """Bootstrap servers, and the security that each client of them uses.

    Files are paths as text, since benches hand an address to their processes as JSON.
    """

    servers: str
    """`host:port`, comma-separated."""
    protocol: SecurityProtocol = SecurityProtocol.PLAINTEXT
    ca_file: str | None = None
    """PEM; None: the authorities that this machine trusts."""
    certificate_file: str | None = None
    """PEM of the client's own certificate, for mutual TLS; with `key_file`."""
    key_file: str | None = None
    sasl_mechanism: str = SCRAM_SHA_512
    sasl_user: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    sasl_password_file: str | None = None
    """Read each time a client is made, so that a new password needs no restart."""

    def __str__(self) -> str:
        """Return the servers, as messages name a broker."""
        return self.servers

    @property
    def uses_tls(self) -> bool:
        """Whether bytes to the broker are encrypted."""
        return self.protocol is not SecurityProtocol.PLAINTEXT

    @property
    def uses_sasl(self) -> bool:
        """Whether a client gives a user and a password."""
        return self.protocol is SecurityProtocol.SASL_SSL

    def aiokafka_options(self) -> dict[str, Any]:
        """Return the arguments of aiokafka's clients: servers and security.

        Raises UsageError for a file that cannot be read, ConnectionFault for one that is out of
        date.
        """
        options: dict[str, Any] = {"bootstrap_servers": self.servers}
        if self.uses_tls:
            options |= {"security_protocol": str(self.protocol), "ssl_context": self.ssl_context()}
        if self.uses_sasl:
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_user,
                "sasl_plain_password": self.read_password(),
            }
        return options

    def librdkafka_options(self) -> dict[str, Any]:
        """Return the options of confluent-kafka's clients: servers and security.

        Raises UsageError for a file that cannot be read, ConnectionFault for one that is out of
        date.
        """
        options: dict[str, Any] = {"bootstrap.servers": self.servers}
        if not self.uses_tls:
            return options
        self.check_files()
        options |= {
            "security.protocol": str(self.protocol),
            "ssl.endpoint.identification.algorithm": "https",
        }
        files = {
            "ssl.ca.location": self.ca_file,
            "ssl.certificate.location": self.certificate_file,
            "ssl.key.location": self.key_file,
        }
        options |= {name: file for name, file in files.items() if file}
        if self.uses_sasl:
            options |= {
                "sasl.mechanism": self.sasl_mechanism,
                "sasl.username": self.sasl_user,
                "sasl.password": self.read_password(),
            }
        return options

    def faust_options(self) -> dict[str, Any]:
        """Return the arguments of a Faust app: servers and security.

        Raises UsageError for a file that cannot be read.
        """
        import faust

        options: dict[str, Any] = {
            "broker": [f"kafka://{server.strip()}" for server in self.servers.split(",")]
        }
        if self.uses_sasl:
            options["broker_credentials"] = faust.SASLCredentials(
                username=self.sasl_user,
                password=self.read_password(),
                ssl_context=self.ssl_context(),
                mechanism=self.sasl_mechanism,
            )
        elif self.uses_tls:
            options["broker_credentials"] = faust.SSLCredentials(self.ssl_context())
        return options

    def ssl_context(self) -> ssl.SSLContext:
        """Return the TLS settings of a client.

        Raises UsageError for a file that cannot be read, ConnectionFault for one that is out of
        date.
        """
        self.check_files()
        return strict_context(self.ca_file, self.certificate_file, self.key_file)

    def check_files(self) -> None:
        """Check our own files: the authorities, and the certificate that we show.

        Raises ConnectionFault for one that no server can be reached with, UsageError for one that
        cannot be read.
        """
        if self.ca_file:
            check_authority(self.ca_file)
        if self.certificate_file:
            check_own_certificate(self.certificate_file)

    def read_password(self) -> str:
        """Return the password of the SASL user. Raises UsageError if its file cannot be read."""
        if self.sasl_password is not None:
            return self.sasl_password
        assert self.sasl_password_file is not None
        return read_secret(self.sasl_password_file)


def _check_database_files(parameters: Mapping[str, str]) -> None:
    """Check the files of a URL, since libpq's message names neither an expired one nor its date."""
    authority = parameters.get("sslrootcert")
    if authority and authority != MACHINE_AUTHORITIES:
        check_authority(authority)
    if own := parameters.get("sslcert"):
        check_own_certificate(own)


def strict_context(
    ca_file: str | None, certificate_file: str | None = None, key_file: str | None = None
) -> ssl.SSLContext:
    """Return the TLS settings of a client: TLS 1.2 or later, host name and chain checked.

    Chains are checked strictly (RFC 5280) on each version of Python, which does so by itself from
    3.13 on. Raises UsageError for a file that cannot be read.
    """
    import ssl

    try:
        context = ssl.create_default_context(cafile=ca_file)
        if certificate_file:
            context.load_cert_chain(certificate_file, key_file)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(filter(None, [ca_file, certificate_file, key_file]))
        raise UsageError(f"the TLS files {files} cannot be used: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def read_secret(file: str) -> str:
    """Return the content of a file, without the line end. Raises UsageError."""
    try:
        return Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the password file {file} cannot be read: {error}") from error


@dataclass(frozen=True)
class DatabaseSecurity:
    """How a connection to the database is encrypted and who it is, beside what its URL says."""

    sslmode: str | None = None
    """None: what the URL says, else `verify-full` where an authority is named."""
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None

    def secure_url(self, url: str) -> str:
        """Return the URL with these parameters, as psycopg takes it.

        Raises UsageError where the URL has one of them itself and for a file that cannot be read,
        ConnectionFault for one that no server can be reached with, also where the URL names it.
        """
        default = VERIFY_FULL if self.ca_file else None
        given = {
            "sslmode": self.sslmode or default,
            "sslrootcert": self.ca_file,
            "sslcert": self.certificate_file,
            "sslkey": self.key_file,
        }
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True)
        added = {name: value for name, value in given.items() if value}
        if both := added.keys() & dict(query).keys():
            names = ", ".join(sorted(both))
            raise UsageError(
                f"PITBOSS_DATABASE holds {names}, which a setting of its own gives too: set it once"
            )
        _check_database_files({**dict(query), **added})
        # libpq takes a + for itself, not for a space.
        text = urlencode([*query, *added.items()], safe="/", quote_via=quote)
        return parts._replace(query=text).geturl()
