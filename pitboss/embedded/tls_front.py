"""TLS in front of the embedded PostgreSQL, whose wheel is built without it.

A program of its own that imports nothing of ours: it answers PostgreSQL's SSLRequest, speaks TLS
with the client and passes the bytes on to the server's Unix socket, which only the server's account
and root reach. A client without TLS is refused as a `hostssl` line refuses it. The messages are
those of https://www.postgresql.org/docs/current/protocol-message-formats.html.

    tls_front.py PORT CERTIFICATE KEY SOCKET
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import struct
import sys
import threading

LOOPBACK = "127.0.0.1"

SSL_REQUEST, GSS_REQUEST = 80_877_103, 80_877_104
HANDSHAKE_S = 10.0
CHUNK_BYTES = 64 * 1024
PENDING_BYTES_MAX = 1024 * 1024
"""Of one direction: no more is read until its receiver has taken some."""


def serve(port: int, certificate: str, key: str, server: str) -> None:
    """Accept clients until the process is ended."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    with socket.create_server((LOOPBACK, port), backlog=128) as listener:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_serve, args=(client, context, server), daemon=True).start()


def _serve(client: socket.socket, context: ssl.SSLContext, server: str) -> None:
    """Serve one client to its end; whatever fails ends its connection, as a lost server does."""
    with contextlib.suppress(OSError), client:
        client.settimeout(HANDSHAKE_S)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not _takes_tls(client):
            return
        with (
            context.wrap_socket(client, server_side=True) as tls,
            socket.socket(socket.AF_UNIX) as behind,
        ):
            behind.connect(server)
            tls.setblocking(False)
            behind.setblocking(False)
            _pass_on(tls, behind)


def _takes_tls(client: socket.socket) -> bool:
    """Answer the client's first messages; return whether TLS comes next."""
    while True:
        first = client.recv(8, socket.MSG_WAITALL)
        if len(first) < 8:
            return False
        request = struct.unpack("!II", first)[1]
        if request == SSL_REQUEST:
            client.sendall(b"S")
            return True
        if request != GSS_REQUEST:
            _refuse(client)
            return False
        client.sendall(b"N")


def _refuse(client: socket.socket) -> None:
    """Say why, and read on to the client's end: a close with unread bytes would cut the answer."""
    client.sendall(_refusal())
    client.shutdown(socket.SHUT_WR)
    while client.recv(CHUNK_BYTES):
        pass


def _refusal() -> bytes:
    fields = b"SFATAL\0VFATAL\0C28000\0Mthis server takes encrypted connections only, no encryption"
    body = fields + b" was offered\0\0"
    return b"E" + struct.pack("!I", len(body) + 4) + body


class _Direction:
    """What one side has sent and the other has not taken yet."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source, self.target = source, target
        self.pending = bytearray()
        self.is_at_end = False

    def read(self) -> None:
        """Read what is there. Inside TLS it may be more than the socket shows."""
        while len(self.pending) < PENDING_BYTES_MAX:
            try:
                chunk = self.source.recv(CHUNK_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            if not chunk:
                self.is_at_end = True
                return
            self.pending += chunk

    def write(self) -> None:
        """Send what the receiver takes now."""
        while self.pending:
            try:
                sent = self.target.send(self.pending)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            del self.pending[:sent]


def _pass_on(tls: ssl.SSLSocket, behind: socket.socket) -> None:
    """Pass bytes both ways until either side has ended and its bytes are sent."""
    directions = (_Direction(tls, behind), _Direction(behind, tls))
    with selectors.DefaultSelector() as selector:
        for one in (tls, behind):
            selector.register(one, selectors.EVENT_READ)
        ready: set[object] = {tls, behind}
        while True:
            for direction in directions:
                if direction.source in ready:
                    direction.read()
                direction.write()
            if any(one.is_at_end and not one.pending for one in directions):
                return
            ready = _wait(selector, directions, tls)


def _wait(
    selector: selectors.BaseSelector, directions: tuple[_Direction, ...], tls: ssl.SSLSocket
) -> set[object]:
    """Return the sockets that have something to read, or room for what is pending."""
    if tls.pending() and len(directions[0].pending) < PENDING_BYTES_MAX:
        return {tls}
    for direction, other in zip(directions, reversed(directions), strict=True):
        reads = len(direction.pending) < PENDING_BYTES_MAX and not direction.is_at_end
        events = selectors.EVENT_READ if reads else 0
        events |= selectors.EVENT_WRITE if other.pending else 0
        # A side that is not to be read or written is watched for nothing but its end.
        events = events or selectors.EVENT_READ
        if selector.get_key(direction.source).events != events:
            selector.modify(direction.source, events)
    return {key.fileobj for key, _ in selector.select()}


if __name__ == "__main__":
    serve(int(sys.argv[1]), *sys.argv[2:])
