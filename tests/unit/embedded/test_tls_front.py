"""The front passes every byte on, in both directions at once, however large."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pitboss.embedded import tls_front
from tests.support.certificates import Authority

REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
GSS_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x30"
BYTES = 8 * 1024 * 1024


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "authority")


@contextlib.contextmanager
def through_the_front(
    authority: Authority, tmp_path: Path
) -> Iterator[tuple[ssl.SSLSocket, socket.socket]]:
    """A client's side of a connection, and the server's."""
    own = authority.issue("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    trusting = ssl.create_default_context(cafile=authority.file)
    near, far = socket.socketpair()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "server"))
        listener.listen()
        arguments = (far, context, str(tmp_path / "server"))
        threading.Thread(target=tls_front._serve, args=arguments, daemon=True).start()
        near.sendall(REQUEST)
        assert near.recv(1) == b"S"
        with trusting.wrap_socket(near, server_hostname="localhost") as client:
            server, _ = listener.accept()
            with server:
                yield client, server


def send_all(side: socket.socket, data: bytes) -> threading.Thread:
    thread = threading.Thread(target=side.sendall, args=(data,), daemon=True)
    thread.start()
    return thread


def read(side: socket.socket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count and (chunk := side.recv(65_536)):
        found += chunk
    return bytes(found)


@pytest.fixture(autouse=True)
def no_nodelay(monkeypatch: pytest.MonkeyPatch) -> None:
    # A pair of Unix sockets stands for TCP.
    monkeypatch.setattr(socket.socket, "setsockopt", lambda *_: None)


def test_large_requests_and_answers_pass_one_after_the_other(authority, tmp_path):
    with through_the_front(authority, tmp_path) as (client, server):
        data = os.urandom(BYTES)
        sending = send_all(client, data)
        assert read(server, BYTES) == data
        sending.join()
        sending = send_all(server, data)
        assert read(client, BYTES) == data
        sending.join()


def test_a_server_that_reads_only_when_it_has_been_read_blocks_nothing(authority, tmp_path):
    with through_the_front(authority, tmp_path) as (client, server):
        data = os.urandom(BYTES)
        sending = send_all(server, data)  # before it has read anything
        client.sendall(b"q" * 100_000)
        assert read(client, BYTES) == data
        sending.join()
        assert read(server, 100_000) == b"q" * 100_000


def test_the_end_of_one_side_ends_the_other_after_its_bytes(authority, tmp_path):
    with through_the_front(authority, tmp_path) as (client, server):
        server.sendall(b"last words")
        server.close()
        assert read(client, 100) == b"last words"


def test_a_client_without_tls_is_refused_in_the_protocol(authority, tmp_path):
    near, far = socket.socketpair()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    thread = threading.Thread(target=tls_front._serve, args=(far, context, ""), daemon=True)
    thread.start()
    with near:
        near.sendall(GSS_REQUEST)
        assert near.recv(1) == b"N", "there is no GSSAPI"
        near.sendall(b"\x00\x00\x00\x10\x00\x03\x00\x00user\x00u\x00\x00")
        answer = read(near, 1_000)
    assert answer[:1] == b"E"
    assert int.from_bytes(answer[1:5], "big") == len(answer) - 1
    assert b"C28000\0" in answer
    thread.join()
