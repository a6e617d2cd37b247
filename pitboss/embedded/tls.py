"""Certificates and passwords of a secured embedded stack: an authority of its own, made once."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pitboss.embedded.certificates import (
    begin_certificate,
    certificate_pem,
    common_name,
    key_pem,
    key_usage,
    make_key,
    sign,
)
from pitboss.embedded.files import write_atomically
from pitboss.embedded.ports import LOOPBACK
from runtime.security import BrokerAddress, DatabaseSecurity, SecurityProtocol

if TYPE_CHECKING:  # a stack without TLS does without it
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, CertificateBuilder

CLIENT_USER: Final = "pitboss"
BROKER_USER: Final = "broker"
"""The broker's own, for what it sends to itself, as the ends of transactions."""

CA_VALID: Final = timedelta(days=3650)
SERVER_VALID: Final = timedelta(days=397)
"""A server's is made anew at each of its starts."""


@dataclass(frozen=True)
class StackTls:
    """The files of a secured stack's authority and logins; each is readable by its owner only."""

    folder: Path

    @property
    def ca_file(self) -> Path:
        """Certificate of the authority, which clients trust."""
        return self.folder / "ca.pem"

    @property
    def password_file(self) -> Path:
        """Password of the clients' user on the broker."""
        return self.folder / "kafka-password"

    @property
    def exists(self) -> bool:
        """Whether the stack of this home is secured."""
        return self.ca_file.exists()

    def make(self) -> None:
        """Make the authority and the passwords, unless they are there."""
        if self.exists:
            return
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for file in (self.password_file, self._broker_password_file):
            write_atomically(file, secrets.token_hex(24))
        key = make_key()
        certificate = _authority(key)
        write_atomically(self._ca_key_file, key_pem(key))
        write_atomically(
            self.ca_file, certificate_pem(certificate)
        )  # last: its presence means the others'

    def issue(self, name: str) -> tuple[str, str]:
        """Return a certificate and its key, as PEM, of a server on the loopback interface."""
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        authority = x509.load_pem_x509_certificate(self.ca_file.read_bytes())
        signer = load_pem_private_key(self._ca_key_file.read_bytes(), None)
        key = make_key()
        builder = _server_certificate(name, key, authority, signer)
        return certificate_pem(sign(builder, signer)), key_pem(key)

    def broker_address(self, port: int | None) -> BrokerAddress:
        """Return how clients reach the broker."""
        return BrokerAddress(
            f"{LOOPBACK}:{port}",
            SecurityProtocol.SASL_SSL,
            ca_file=str(self.ca_file),
            sasl_user=CLIENT_USER,
            sasl_password_file=str(self.password_file),
        )

    def database_url(self, url: str) -> str:
        """Return how clients reach the database."""
        return DatabaseSecurity(ca_file=str(self.ca_file)).secure_url(url)

    def read_users(self) -> dict[str, str]:
        """Return the passwords of the broker's users."""
        return {
            CLIENT_USER: self.password_file.read_text(),
            BROKER_USER: self._broker_password_file.read_text(),
        }

    @property
    def _broker_password_file(self) -> Path:
        return self.folder / "broker-password"

    @property
    def _ca_key_file(self) -> Path:
        return self.folder / "ca.key"


def _authority(key: EllipticCurvePrivateKey) -> Certificate:
    """Make the authority with what RFC 5280 asks of one: Python from 3.13 on refuses another."""
    from cryptography import x509

    name, public = common_name("Pitboss embedded stack"), key.public_key()
    builder = (
        begin_certificate(name, name, public, public, CA_VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(signs=True), critical=True)
    )
    return sign(builder, key)


def _server_certificate(
    name: str, key: EllipticCurvePrivateKey, authority: Certificate, signer: Any
) -> CertificateBuilder:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    subject, issuer = common_name(name), authority.subject
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    hosts = [x509.IPAddress(IPv4Address(LOOPBACK)), x509.DNSName("localhost")]
    return (
        begin_certificate(subject, issuer, key.public_key(), signer.public_key(), SERVER_VALID)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
    )
