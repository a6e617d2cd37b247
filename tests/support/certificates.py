"""Certificates that are right, or wrong in one way each, for tests of TLS."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Issued:
    """A certificate with its key, as files."""

    certificate: str
    key: str


class Authority:
    """An authority of its own, with its certificate in a file."""

    def __init__(
        self, folder: Path, *, valid: timedelta = 24 * HOUR, has_key_usage: bool = True
    ) -> None:
        folder.mkdir()
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = name_of(folder.name)
        builder = begin(self._name, self._name, self._key, self._key, valid).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        if has_key_usage:
            builder = builder.add_extension(usage(signs=True), critical=True)
        self.file = str(folder / "ca.pem")
        Path(self.file).write_bytes(builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM))

    def issue(self, *hosts: str, valid: timedelta = 24 * HOUR) -> Issued:
        """Issue a certificate for these hosts, valid until so long from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [
            x509.IPAddress(ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
            for host in hosts
        ]
        builder = (
            begin(name_of("server"), self._name, key, self._key, valid)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage(signs=False), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
        )
        number = len(list(self._folder.iterdir()))
        issued = Issued(str(self._folder / f"{number}.pem"), str(self._folder / f"{number}.key"))
        Path(issued.certificate).write_bytes(
            builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM)
        )
        Path(issued.key).write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        Path(issued.key).chmod(0o600)
        return issued


def name_of(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def begin(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    valid: timedelta,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    public = key.public_key()
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 48 * HOUR)
        .not_valid_after(now + valid)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )


def usage(*, signs: bool) -> x509.KeyUsage:
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
