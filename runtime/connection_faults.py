"""Why a server cannot be reached: the named cause, where it is one of security.

The clients' libraries report a wrong certificate, a wrong password and a broker that is away alike
("unable to bootstrap"), so the cause is looked for by a handshake and a login of our own, after a
client has failed. A server that is not there has no such cause.
"""

from __future__ import annotations

import logging
import re
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from typing import Final

from runtime.certificates import (
    RENEW_CA,
    AuthorityWithoutKeyUsage,
    CertificateExpired,
    ClientRefused,
    ConnectionFault,
    HostNameMismatch,
    LoginRefused,
    TlsExpected,
    TlsMissing,
    UnknownAuthority,
)
from runtime.security import BrokerAddress, strict_context
from schemas.errors import Unavailable, UsageError

ANSWER_S: Final = 2.0
LOGIN_S: Final = 5.0
ALERT_S: Final = 0.5
"""With TLS 1.3 a server refuses a client's certificate after the client's side is done."""

PORT_DEFAULT: Final = 9092

_EXPIRED: Final = {9, 10}
_HOST_NAME: Final = {62, 64}
_STRICT: Final = {24, 79, 85, 86, 89, 90, 91, 92, 94}
"""X509_V_ERR_* of OpenSSL's x509_vfy.h: INVALID_CA, and what X509_V_FLAG_X509_STRICT adds."""


def unreachable_broker(broker: BrokerAddress, error: object) -> Unavailable:
    """Return the error of a client that could not reach a broker: with its cause if it is known."""
    fault = find_broker_fault(broker)
    return fault or Unavailable(f"no Kafka broker answers at {broker}: {error}")


def find_broker_fault(broker: BrokerAddress) -> ConnectionFault | None:
    """Return what of the security settings keeps a client away; None if that is not the reason.

    It connects anew, and takes some seconds where a server is silent.
    """
    for host, port in _addresses(broker):
        find = _find_tls_fault if broker.uses_tls else _find_plain_fault
        if fault := find(broker, host, port):
            return fault
    return _find_login_fault(broker) if broker.uses_sasl else None


def _addresses(broker: BrokerAddress) -> Iterator[tuple[str, int]]:
    for server in broker.servers.split(","):
        bare = server.strip()
        match = re.fullmatch(
            r"\[(?P<v6>[^\]]+)\](:(?P<p6>\d+))?|(?P<host>[^:]+)(:(?P<port>\d+))?", bare
        )
        if match is None:
            yield bare, PORT_DEFAULT
            continue
        yield match["v6"] or match["host"], int(match["p6"] or match["port"] or PORT_DEFAULT)


def _find_plain_fault(_: BrokerAddress, host: str, port: int) -> ConnectionFault | None:
    """Return TlsExpected if the server completes a handshake of TLS, with any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent or read through it
    try:
        with _connect(host, port) as plain, context.wrap_socket(plain):
            pass
    except (OSError, ssl.SSLError):
        return None
    return TlsExpected(
        f"{host}:{port} takes TLS only: set PITBOSS_KAFKA_SECURITY to SSL or SASL_SSL, with "
        "PITBOSS_KAFKA_CA"
    )


def _find_tls_fault(broker: BrokerAddress, host: str, port: int) -> ConnectionFault | None:
    context, where = broker.ssl_context(), f"{host}:{port}"
    try:
        plain = _connect(host, port)
    except OSError:
        return None
    with plain:
        try:
            tls = context.wrap_socket(plain, server_hostname=host)
        except ssl.SSLCertVerificationError as error:
            return _name_verify_fault(error, broker.ca_file, where, "PITBOSS_KAFKA_CA")
        except (OSError, ssl.SSLError) as error:
            return _name_handshake_fault(error, broker, where)
        with tls:
            return _find_refusal(tls, broker, where)


def _connect(host: str, port: int) -> socket.socket:
    plain = socket.create_connection((host, port), timeout=ANSWER_S)
    plain.settimeout(ANSWER_S)
    return plain


def _name_verify_fault(
    error: ssl.SSLCertVerificationError, ca_file: str | None, where: str, setting: str
) -> ConnectionFault:
    code, message = error.verify_code, error.verify_message
    if code in _EXPIRED:
        return CertificateExpired(
            f"the certificate of {where} is not valid now ({message}): renew the server's, or "
            "correct this machine's clock"
        )
    if code in _HOST_NAME:
        return HostNameMismatch(
            f"the certificate of {where} is for another host ({message}): connect by a name that "
            "is in it, or make it anew with this one as a subject alternative name"
        )
    if code in _STRICT:
        return AuthorityWithoutKeyUsage(f"{where}: {message}: {RENEW_CA}")
    trusted = ca_file or "this machine's authorities"
    return UnknownAuthority(
        f"the certificate of {where} is not signed by {trusted} ({message}): set {setting} to the "
        "file of the authority that signed it"
    )


def _name_handshake_fault(
    error: OSError, broker: BrokerAddress, where: str
) -> ConnectionFault | None:
    if isinstance(error, TimeoutError):
        return None  # a server that is frozen or starts
    if "ALERT" in str(error):
        return _client_refused(error, broker, where)
    return TlsMissing(
        f"{where} does not speak TLS ({error}): set PITBOSS_KAFKA_SECURITY to PLAINTEXT, or use "
        "the port of the broker's TLS listener"
    )


def _find_refusal(tls: ssl.SSLSocket, broker: BrokerAddress, where: str) -> ConnectionFault | None:
    tls.settimeout(ALERT_S)
    try:
        tls.recv(1)
    except TimeoutError:
        return None  # the server waits for a request, as it should
    except (OSError, ssl.SSLError) as error:
        return _client_refused(error, broker, where)
    return None


def _client_refused(error: OSError, broker: BrokerAddress, where: str) -> ClientRefused:
    shown = broker.certificate_file or "no certificate"
    return ClientRefused(
        f"{where} does not accept {shown} of this client ({error}): set PITBOSS_KAFKA_CERT and "
        "PITBOSS_KAFKA_KEY to a certificate that an authority of the broker's signed"
    )


def _find_login_fault(broker: BrokerAddress) -> ConnectionFault | None:
    """Log in with librdkafka, which reports a refused login as an error of its own."""
    from confluent_kafka import KafkaError
    from confluent_kafka.admin import AdminClient

    errors: list[KafkaError] = []
    silent = logging.Logger("silent", logging.CRITICAL + 1)  # noqa: LOG001 - of this client alone
    options = {**broker.librdkafka_options(), "error_cb": errors.append, "log_level": 0}
    admin = AdminClient(options, logger=silent)
    deadline = time.monotonic() + LOGIN_S
    while time.monotonic() < deadline and not errors:
        admin.poll(0.05)
    refused = [one for one in errors if one.code() == KafkaError._AUTHENTICATION]  # noqa: SLF001
    if not refused:
        return None
    return LoginRefused(
        f"{broker} does not accept the user {broker.sasl_user!r} ({refused[0].str()}): correct "
        "PITBOSS_KAFKA_SASL_USER and its password, or make the user on the broker (kafka-configs "
        f"--alter --add-config '{broker.sasl_mechanism}=[password=…]' --entity-type users)"
    )


_CA_OF_DATABASE: Final = "set PITBOSS_DATABASE_CA to the file of the authority that signed it"
_DATABASE_FAULTS: Final[tuple[tuple[str, type[ConnectionFault], str], ...]] = (
    ("certificate has expired", CertificateExpired, "renew it, or correct this machine's clock"),
    ("certificate is not yet valid", CertificateExpired, "correct this machine's clock"),
    ("does not match host name", HostNameMismatch, "connect by a name that the certificate has"),
    ("certificate verify failed", UnknownAuthority, _CA_OF_DATABASE),
    ("root certificate file", UnknownAuthority, _CA_OF_DATABASE),
    ("no encryption", TlsExpected, "set PITBOSS_DATABASE_SSLMODE to verify-full"),
    ("server does not support SSL", TlsMissing, "switch TLS on at the server (ssl = on)"),
    (
        "requires a valid client certificate",
        ClientRefused,
        "set PITBOSS_DATABASE_CERT and PITBOSS_DATABASE_KEY",
    ),
    ("alert", ClientRefused, "correct PITBOSS_DATABASE_CERT and PITBOSS_DATABASE_KEY"),
    (
        "password authentication failed",
        LoginRefused,
        "correct the user or the password of PITBOSS_DATABASE",
    ),
)
"""What libpq's messages (fe-secure-openssl.c, fe-auth.c) and the server's (auth.c) say."""


def unreachable_database(what: str, error: Exception) -> Unavailable:
    """Return the error of a connection that failed: with its cause if it is one of security.

    `what` names the database, as in "the ledger's database". libpq gives only a text, and of a
    certificate that it refuses not the reason: that is found by a handshake.
    """
    text = str(error)
    if "certificate verify failed" in text and (found := _find_certificate_fault(error)):
        return found
    for words, fault, way_out in _DATABASE_FAULTS:
        if words in text:
            return fault(f"{what}: {text.strip()}: {way_out}")
    return Unavailable(f"{what} does not answer: {error}")


_SSL_REQUEST: Final = struct.pack("!II", 8, 80_877_103)
"""PostgreSQL's message SSLRequest, to which the server answers S or N."""


def _find_certificate_fault(error: Exception) -> ConnectionFault | None:
    """Return why a database's certificate is refused, by a handshake with the same authority."""
    failed = getattr(error, "pgconn", None)  # psycopg's copy of the connection
    if failed is None:
        return None
    given = {option.keyword.decode(): (option.val or b"").decode() for option in failed.info}
    ca_file, host = given["sslrootcert"] or None, given["host"]
    where = f"{host}:{given['port']}"
    try:
        with _connect(host, int(given["port"])) as plain:
            plain.sendall(_SSL_REQUEST)
            plain.recv(1)
            strict_context(ca_file).wrap_socket(plain, server_hostname=host).close()
    except ssl.SSLCertVerificationError as refused:
        return _name_verify_fault(refused, ca_file, where, "PITBOSS_DATABASE_CA")
    except (OSError, ValueError, UsageError):
        return None
    return None
