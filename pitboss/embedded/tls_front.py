"""TLS in front of the embedded PostgreSQL, whose wheel is built without it.

A program of its own that imports nothing of ours: it answers PostgreSQL's SSLRequest, speaks TLS
with the client and passes the bytes on to the server's Unix socket, which only the server's account
and root reach. A client without TLS is refused as a `hostssl` line refuses it. The messages are
those of https://www.postgresql.org/docs/current/protocol-message-formats.html.

    tls_front.py PORT CERTIFICATE KEY SOCKET
"""

from __future__ import annotations

import contextlib
import select
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
WAITS = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


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
    """The bytes of one side on their way to the other, which may not take them at once.

    An exchange costs one call of each side: the kernel says what is ready, so nothing is asked
    until it refuses, and an exception for each answer would cost more than the encryption.
    """

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source, self.target = source, target
        self.pending = bytearray()
        self.is_at_end = False

    @property
    def reads(self) -> bool:
        """Whether more is to be read from the source."""
        return not self.is_at_end and len(self.pending) < PENDING_BYTES_MAX

    @property
    def has_ended(self) -> bool:
        """Whether the source has ended and all that it sent is passed on."""
        return self.is_at_end and not self.pending

    def read(self) -> None:
        """Read what is there, once, and send it."""
        with contextlib.suppress(*WAITS):
            while not self.is_at_end:
                chunk = self.source.recv(CHUNK_BYTES)
                self.is_at_end = not chunk
                self.pending += chunk
                # Bytes that are decrypted already are no longer seen by the kernel.
                if not isinstance(self.source, ssl.SSLSocket) or not self.source.pending():
                    break
        self.write()

    def write(self) -> None:
        """Send what the receiver takes now."""
        with contextlib.suppress(*WAITS):
            while self.pending:
                del self.pending[: self.target.send(self.pending)]


def _pass_on(tls: ssl.SSLSocket, behind: socket.socket) -> None:
    """Pass bytes both ways until either side has ended and its bytes are sent."""
    inward, outward = _Direction(tls, behind), _Direction(behind, tls)
    from_to = {tls.fileno(): (inward, outward), behind.fileno(): (outward, inward)}
    ready = select.poll()
    watched = dict.fromkeys(from_to, select.POLLIN)
    for file, events in watched.items():
        ready.register(file, events)
    inward.read()  # what came with the handshake is no longer seen by the kernel either
    while not inward.has_ended and not outward.has_ended:
        for file, events in ready.poll():
            source, target = from_to[file]
            if events & select.POLLOUT:
                target.write()
            if events & ~select.POLLOUT and source.reads:
                source.read()
        for file, (source, target) in from_to.items():
            wanted = source.reads * select.POLLIN | bool(target.pending) * select.POLLOUT
            if wanted != watched[file]:
                watched[file] = wanted
                ready.modify(file, wanted)


if __name__ == "__main__":
    serve(int(sys.argv[1]), *sys.argv[2:])
