"""What is wrong with TLS or a login: one error for each cause, and the checks of our own PEM files.

The causes have codes of their own, since a library's message names a routine of OpenSSL and not
what an operator has to change. Each is Unavailable: a worker comes back when it is repaired.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from schemas.errors import Unavailable, UsageError

if TYPE_CHECKING:  # half of its time of import would be every command's
    from cryptography.x509 import Certificate


class ConnectionFault(Unavailable):
    """A server is there, and its and our security settings do not agree."""


class UnknownAuthority(ConnectionFault):
    """The server's certificate is not signed by the authority that we trust."""

    code = "TLS_UNKNOWN_CA"


class CertificateExpired(ConnectionFault):
    """A certificate, of the server or our own, is not valid now."""

    code = "TLS_EXPIRED"


class HostNameMismatch(ConnectionFault):
    """The server's certificate is for another host."""

    code = "TLS_HOST_NAME"


class AuthorityWithoutKeyUsage(ConnectionFault):
    """The authority's certificate lacks what RFC 5280 asks of one that signs others."""

    code = "TLS_CA_KEY_USAGE"


class ClientRefused(ConnectionFault):
    """The server wants a client certificate, or does not accept the one it got."""

    code = "TLS_CLIENT_REFUSED"


class TlsExpected(ConnectionFault):
    """The server takes TLS only, and the client is set to plain text."""

    code = "TLS_EXPECTED"


class TlsMissing(ConnectionFault):
    """The server speaks plain text, and the client is set to TLS."""

    code = "TLS_MISSING"


class LoginRefused(ConnectionFault):
    """The server does not accept the user or the password."""

    code = "LOGIN_REFUSED"


RENEW_CA: Final = (
    "make the authority's certificate anew with the extensions basicConstraints CA:TRUE and "
    "keyUsage keyCertSign, both critical (keytool: -ext bc:c=ca:true -ext ku:c=keyCertSign)"
)


def check_authority(file: str) -> None:
    """Check a PEM file of authorities that we trust.

    Raises CertificateExpired where none of them is valid now, AuthorityWithoutKeyUsage where none
    may sign others (RFC 5280, section 4.2.1.3; Python refuses such a one from 3.13 on), and
    UsageError for a file that cannot be read. A machine's bundle holds a few old roots that may not
    sign; which of them a server's chain ends at shows the handshake.
    """
    authorities = _read(file)
    if not any(map(_may_sign, authorities)):
        first = _name(authorities[0])
        raise AuthorityWithoutKeyUsage(
            f"{file}: {first} has no key usage that lets it sign certificates: {RENEW_CA}"
        )
    if all(_is_out_of_date(one) for one in authorities):
        raise _expired(file, authorities[-1])


def check_own_certificate(file: str) -> None:
    """Check the certificate that we show. Raises CertificateExpired, UsageError."""
    own = _read(file)[0]
    if _is_out_of_date(own):
        raise _expired(file, own)


def _read(file: str) -> list[Certificate]:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(Path(file).read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read as PEM certificates: {error}") from error


def _may_sign(certificate: Certificate) -> bool:
    from cryptography import x509

    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return usage.key_cert_sign


def _is_out_of_date(certificate: Certificate) -> bool:
    now = datetime.now(UTC)
    return not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _expired(file: str, certificate: Certificate) -> CertificateExpired:
    since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return CertificateExpired(
        f"{file}: {_name(certificate)} is valid from {since:%Y-%m-%d %H:%M} to "
        f"{until:%Y-%m-%d %H:%M} UTC, not now: renew it, or correct this machine's clock"
    )


def _name(certificate: Certificate) -> str:
    return certificate.subject.rfc4514_string() or "a certificate without a name"
