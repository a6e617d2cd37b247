"""Choosing TCP ports on the loopback interface."""

from __future__ import annotations

import secrets
import socket

from pitboss.embedded.errors import StackError

LOOPBACK = "127.0.0.1"

PORTS = range(20_000, 32_000)
"""Below the ephemeral ports of Linux and macOS, so that a client's outgoing connection cannot take
the port of a server that is down for a moment."""

_chosen: set[int] = set()


def is_free(port: int) -> bool:
    """Return whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def accepts_connections(port: int) -> bool:
    """Return whether something accepts connections there."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError:
        return False
    return True


def choose_port(preferred: int | None = None) -> int:
    """Return the preferred port if it is free, else any. Raises StackError if none is free.

    A port that is not the preferred one is given once in the life of this process: who has chosen
    it may not listen there yet, or be down for a moment.
    """
    if preferred is not None and is_free(preferred):
        _chosen.add(preferred)
        return preferred
    for _ in range(200):
        port = PORTS[secrets.randbelow(len(PORTS))]
        if port not in _chosen and is_free(port):
            _chosen.add(port)
            return port
    raise StackError(f"no free port between {PORTS.start} and {PORTS.stop}: see `ss -ltn`")
