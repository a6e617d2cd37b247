"""The cause of a refused connection has a name: by servers of Python's ssl that are wrong in one way each."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from pitboss.embedded import tls_front
from pitboss.embedded.ports import choose_port
from pitboss.embedded.processes import poll
from runtime import connection_faults
from runtime.certificates import (
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
from runtime.connection_faults import (
    find_broker_fault,
    unreachable_broker,
    unreachable_database,
)
from runtime.kafka.topic_reader import partition_bounds, read_topics
from runtime.security import BrokerAddress, DatabaseSecurity, SecurityProtocol
from schemas.errors import Unavailable
from tests.support.certificates import Authority, Defect, Issued

Serve = Callable[..., str]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "authority")


@contextlib.contextmanager
def listening(answer: Callable[[socket.socket], object]) -> Iterator[str]:
    """A server that answers each client in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            answer(client)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    with listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def tls_server(
    own: Issued, *, client_ca: str | None = None, maximum: ssl.TLSVersion | None = None
) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    if maximum is not None:
        context.maximum_version = maximum

    def answer(client: socket.socket) -> None:
        with context.wrap_socket(client, server_side=True) as tls:
            tls.recv(1)

    with listening(answer) as address:
        yield address


def fault_of(servers: str, ca: str, own: Issued | None = None) -> ConnectionFault | None:
    files = (None, None) if own is None else (own.certificate, own.key)
    return find_broker_fault(BrokerAddress(servers, SecurityProtocol.SSL, ca, *files))


def test_a_server_that_is_right_has_no_fault(authority):
    with tls_server(authority.issue("127.0.0.1", "localhost")) as address:
        assert fault_of(address, authority.file) is None
        assert fault_of(address.replace("127.0.0.1", "localhost"), authority.file) is None


def test_another_authority(authority, tmp_path):
    other = Authority(tmp_path / "other")
    with tls_server(other.issue("127.0.0.1")) as address:
        fault = fault_of(address, authority.file)
    assert isinstance(fault, UnknownAuthority)
    assert authority.file in str(fault)
    assert "PITBOSS_KAFKA_CA" in str(fault)


def test_an_expired_certificate(authority):
    with tls_server(authority.issue("127.0.0.1", valid=-timedelta(hours=1))) as address:
        fault = fault_of(address, authority.file)
    assert isinstance(fault, CertificateExpired)
    assert address in str(fault)


@pytest.mark.parametrize("defect", Defect)
def test_an_authority_between_that_may_not_sign_others(authority, defect, tmp_path):
    between = Authority(tmp_path / "between", defect=defect, parent=authority)
    with tls_server(between.issue("127.0.0.1")) as address:
        fault = fault_of(address, authority.file)
    assert isinstance(fault, AuthorityWithoutKeyUsage), fault
    assert str(fault).startswith(f"{address}: ")
    assert "keyUsage keyCertSign" in str(fault)


def test_an_authority_between_that_is_right_has_no_fault(authority, tmp_path):
    between = Authority(tmp_path / "between", parent=authority)
    with tls_server(between.issue("127.0.0.1")) as address:
        assert fault_of(address, authority.file) is None


@pytest.mark.parametrize("ask", [read_topics, partition_bounds])
async def test_who_reads_a_topic_whole_gets_the_cause_too(ask, authority, tmp_path):
    """As the drift worker does before anything else."""
    other = Authority(tmp_path / "other")
    with tls_server(other.issue("127.0.0.1")) as address:
        broker = BrokerAddress(address, SecurityProtocol.SSL, authority.file)
        answer = ask(broker, ["t"])
        with pytest.raises(UnknownAuthority):
            await (anext(answer) if ask is read_topics else answer)


@pytest.mark.parametrize("host", ["broker.example", "10.0.0.1"])
def test_another_host(authority, host):
    with tls_server(authority.issue(host)) as address:
        assert isinstance(fault_of(address, authority.file), HostNameMismatch)


@pytest.mark.parametrize("maximum", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_wants_a_client_certificate(authority, maximum, tmp_path):
    own = authority.issue("127.0.0.1")
    with tls_server(own, client_ca=authority.file, maximum=maximum) as address:
        assert isinstance(fault_of(address, authority.file), ClientRefused)
        strange = Authority(tmp_path / "strange").issue("client")
        assert isinstance(fault_of(address, authority.file, strange), ClientRefused)
        assert fault_of(address, authority.file, authority.issue("client")) is None


def test_plain_text_to_a_port_of_tls(authority):
    with tls_server(authority.issue("127.0.0.1")) as address:
        fault = unreachable_broker(BrokerAddress(address), "unable to bootstrap")
    assert isinstance(fault, TlsExpected)
    assert "PITBOSS_KAFKA_SECURITY" in str(fault)


@pytest.mark.parametrize("reply", [b"", b"\x00\x00\x00\x04rubbish"])
def test_tls_to_a_port_of_plain_text(authority, reply):
    def answer(client: socket.socket) -> None:
        client.recv(1024)
        client.sendall(reply)

    with listening(answer) as address:
        assert isinstance(fault_of(address, authority.file), TlsMissing)
        assert find_broker_fault(BrokerAddress(address)) is None


def test_a_server_that_is_away_or_silent_has_no_fault_of_security(authority, monkeypatch):
    monkeypatch.setattr(connection_faults, "ANSWER_S", 0.2)
    away = BrokerAddress("127.0.0.1:1", SecurityProtocol.SSL, authority.file)
    error = unreachable_broker(away, "refused")
    assert (type(error), str(error)) == (
        Unavailable,
        "no Kafka broker answers at 127.0.0.1:1: refused",
    )
    is_over = threading.Event()
    with listening(lambda _: not is_over.wait(60)) as address:
        assert fault_of(address, authority.file) is None
        assert find_broker_fault(BrokerAddress(address)) is None
        is_over.set()


def test_each_of_several_servers_is_looked_at(authority):
    with tls_server(authority.issue("broker.example")) as address:
        assert isinstance(fault_of(f"127.0.0.1:1,{address}", authority.file), HostNameMismatch)


@pytest.mark.parametrize(
    ("servers", "addresses"),
    [
        ("a", [("a", 9092)]),
        ("a:1, b", [("a", 1), ("b", 9092)]),
        ("[::1]:7,[fe80::1]", [("::1", 7), ("fe80::1", 9092)]),
        ("::1", [("::1", 9092)]),
    ],
)
def test_addresses(servers, addresses):
    assert [*connection_faults._addresses(BrokerAddress(servers))] == addresses


# The database, by libpq itself, with the front of the embedded server before a server of no words.


@contextlib.contextmanager
def front(own: Issued, server: Path) -> Iterator[int]:
    port = choose_port()
    program = [sys.executable, "-I", tls_front.__file__]
    arguments = [str(port), own.certificate, own.key, str(server)]
    with subprocess.Popen([*program, *arguments]) as process:
        try:
            yield port
        finally:
            process.terminate()


def connect(port: int, security: DatabaseSecurity) -> Exception:
    url = security.secure_url(f"postgresql://u:p@127.0.0.1:{port}/d?connect_timeout=10")
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(url).close()
    return caught.value


def fault_of_database(own: Issued, security: DatabaseSecurity, tmp_path: Path) -> Unavailable:
    with front(own, tmp_path / "absent") as port:
        assert poll(lambda: is_listening(port), 60)
        return unreachable_database("the database", connect(port, security))


def is_listening(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def test_causes_of_the_database(authority, tmp_path):
    trusting = DatabaseSecurity(ca_file=authority.file)
    other = Authority(tmp_path / "other").issue("127.0.0.1")
    expired = authority.issue("127.0.0.1", valid=-timedelta(hours=1))
    for own, security, fault in [
        (other, trusting, UnknownAuthority),
        (expired, trusting, CertificateExpired),
        (authority.issue("db.example"), trusting, HostNameMismatch),
        (authority.issue("127.0.0.1"), DatabaseSecurity("disable"), TlsExpected),
        (authority.issue("127.0.0.1"), trusting, Unavailable),
    ]:
        found = fault_of_database(own, security, tmp_path)
        assert type(found) is fault, found


@pytest.mark.parametrize("defect", [Defect.SIGNS_NOTHING, Defect.IS_NO_AUTHORITY])
def test_an_authority_of_the_database_that_libpq_refuses(authority, defect, tmp_path):
    between = Authority(tmp_path / "between", defect=defect, parent=authority)
    trusting = DatabaseSecurity(ca_file=authority.file)
    found = fault_of_database(between.issue("127.0.0.1"), trusting, tmp_path)
    assert type(found) is AuthorityWithoutKeyUsage, found


def test_a_database_without_tls(authority):
    def answer(client: socket.socket) -> None:
        client.recv(8)
        client.sendall(b"N")

    with listening(answer) as address:
        port = int(address.rpartition(":")[2])
        error = connect(port, DatabaseSecurity(ca_file=authority.file))
    assert isinstance(unreachable_database("the database", error), TlsMissing)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('FATAL:  password authentication failed for user "u"', LoginRefused),
        ("FATAL:  connection requires a valid client certificate", ClientRefused),
        ("SSL error: tlsv1 alert unknown ca", ClientRefused),
        (
            'FATAL:  no pg_hba.conf entry for host "h", user "u", database "d", no encryption',
            TlsExpected,
        ),
        ('root certificate file "/root/.postgresql/root.crt" does not exist', UnknownAuthority),
        ("connection refused", Unavailable),
    ],
)
def test_words_of_libpq_and_the_server(text, fault):
    assert type(unreachable_database("the database", psycopg.OperationalError(text))) is fault
