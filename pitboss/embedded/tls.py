"""Certificates and passwords of a secured embedded stack: an authority of its own, made once."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

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

BACKDATED: Final = timedelta(hours=1)
"""Of a certificate's beginning: a clock may be set back a little."""


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
        key = _make_key()
        certificate = _authority(key)
        write_atomically(self._ca_key_file, _key_text(key))
        write_atomically(self.ca_file, _text(certificate))  # last: its presence means the others'

    def issue(self, name: str) -> tuple[str, str]:
        """Return a certificate and its key, as PEM, of a server on the loopback interface."""
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        authority = x509.load_pem_x509_certificate(self.ca_file.read_bytes())
        signer = load_pem_private_key(self._ca_key_file.read_bytes(), None)
        key = _make_key()
        builder = _server_certificate(name, key, authority, signer)
        return _text(_sign(builder, signer)), _key_text(key)

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


def _make_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _authority(key: EllipticCurvePrivateKey) -> Certificate:
    """Make the authority with what RFC 5280 asks of one, and Python from 3.13 on refuses without.

    The identifiers of subject and authority key are what `VERIFY_X509_STRICT` looks for.
    """
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Pitboss embedded stack")])
    public = key.public_key()
    builder = (
        _begin(name, name, public, CA_VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
    )
    return _sign(builder, key)


def _server_certificate(
    name: str, key: EllipticCurvePrivateKey, authority: Certificate, signer: Any
) -> CertificateBuilder:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    hosts = [x509.IPAddress(IPv4Address(LOOPBACK)), x509.DNSName("localhost")]
    return (
        _begin(subject, authority.subject, key.public_key(), SERVER_VALID)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )


def _begin(subject: Any, issuer: Any, public: Any, valid: timedelta) -> CertificateBuilder:
    from cryptography import x509

    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + valid)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, signs: bool) -> Any:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _sign(builder: CertificateBuilder, key: Any) -> Certificate:
    from cryptography.hazmat.primitives.hashes import SHA256

    return builder.sign(key, SHA256())


def _text(certificate: Certificate) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM).decode()


def _key_text(key: EllipticCurvePrivateKey) -> str:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
