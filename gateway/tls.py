"""TLS of the gateway: certificates are read anew when their files change.

Each handshake takes the context that is current. So a renewed certificate, or another authority for
clients, holds from the next connection on, without a restart; connections that are open stay as
they are. Files that cannot be used, as while they are being written, change nothing.
"""

from __future__ import annotations

import logging
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from schemas.errors import UsageError

_LOG = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
"""How often the files are looked at, at most: at a handshake."""


@dataclass(frozen=True)
class TlsFiles:
    """The files, PEM: our certificate with its chain, its key, and the authorities of clients."""

    certificate: Path
    key: Path
    client_authority: Path | None = None
    """None: clients are not asked for a certificate."""


class TlsContexts:
    """The contexts of a listener: one that it listens with, and the current one of handshakes."""

    def __init__(self, files: TlsFiles) -> None:
        """Read the files. Raises UsageError where they cannot be used."""
        self._files = files
        self.look_every_s = LOOK_EVERY_S
        self._looked_at_s = time.monotonic()
        self._marks = _marks_of(files)
        self._current = _make_context(files)
        self.reread = 0
        """How often the files were read anew."""
        self.listening: Final = _make_context(files)
        self.listening.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        # Called at every handshake, whether the client names a server or not.
        self._look()
        connection.context = self._current

    def _look(self) -> None:
        now_s = time.monotonic()
        if now_s - self._looked_at_s < self.look_every_s:
            return
        self._looked_at_s = now_s
        marks = _marks_of(self._files)
        if marks == self._marks:
            return
        try:
            self._current = _make_context(self._files)
        except UsageError as error:
            _LOG.warning("the changed certificates are not used: %s", error)
        else:
            self.reread += 1
            _LOG.info("read the certificate %s anew", self._files.certificate)
        # A pair that does not fit yet changes once more when its second file is written.
        self._marks = marks


def names_of(certificate: Any) -> frozenset[str]:
    """Return the names in a client's certificate, as `SSLObject.getpeercert` returns it."""
    if not certificate:
        return frozenset()
    subject = {
        value
        for parts in certificate.get("subject", ())
        for name, value in parts
        if name == "commonName"
    }
    alternatives = {value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"}
    return frozenset(subject | alternatives)


def _marks_of(files: TlsFiles) -> list[tuple[int, int, int] | None]:
    marks: list[tuple[int, int, int] | None] = []
    for path in (files.certificate, files.key, files.client_authority):
        try:
            found = None if path is None else path.stat()
        except OSError:
            found = None
        marks.append(found and (found.st_mtime_ns, found.st_ino, found.st_size))
    return marks


def _make_context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A resumed session would show no certificate again, so the old authorities would still hold.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    try:
        # Without a password: a key that needs one would ask on the terminal.
        context.load_cert_chain(files.certificate, files.key, password=_refuse_password)
        if files.client_authority is not None:
            context.load_verify_locations(files.client_authority)
            # Which providers need one is known only after the path.
            context.verify_mode = ssl.CERT_OPTIONAL
    except (OSError, ssl.SSLError) as error:  # its text names no content
        raise UsageError(
            f"the certificate {files.certificate} with the key {files.key} cannot be used: {error}"
        ) from error
    return context


def _refuse_password() -> str:
    raise UsageError("the key of the gateway's certificate has a password: give one without")
