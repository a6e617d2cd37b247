"""Building blocks of certificates: those of a secured stack's authority, and of tests of TLS.

The package cryptography is imported when it is used: a stack without TLS does without it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, CertificateBuilder, KeyUsage, Name

BACKDATED: Final = timedelta(hours=1)
"""Of a certificate's beginning: a clock may be set back a little."""


def make_key() -> EllipticCurvePrivateKey:
    """Return a new private key on the curve P-256."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def common_name(text: str) -> Name:
    """Return a name that is a common name alone."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def begin_certificate(
    subject: Name,
    issuer: Name,
    public_key: Any,
    signer_key: Any,
    valid: timedelta,
    backdated: timedelta = BACKDATED,
) -> CertificateBuilder:
    """Return a certificate's beginning, valid from a little ago until `valid` from now.

    The identifiers of subject and authority key are what `VERIFY_X509_STRICT` looks for.
    """
    from cryptography import x509

    now = datetime.now(UTC)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer_key)
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - backdated)
        .not_valid_after(now + valid)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(identifier, critical=False)
    )


def key_usage(*, signs: bool) -> KeyUsage:
    """Return the usage of a key that signs certificates, or of one that signs handshakes."""
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


def sign(builder: CertificateBuilder, key: Any) -> Certificate:
    """Return the signed certificate."""
    from cryptography.hazmat.primitives.hashes import SHA256

    return builder.sign(key, SHA256())


def certificate_pem(certificate: Certificate) -> str:
    """Return a certificate as PEM."""
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM).decode()


def key_pem(key: EllipticCurvePrivateKey) -> str:
    """Return a private key as unencrypted PEM."""
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
