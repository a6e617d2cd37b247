"""Ending a connection whose server says nothing more."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import AsyncConnection


def shut_socket(connection: AsyncConnection[Any]) -> None:
    """Shut the connection's socket: whatever waits for the server's answer fails at once with an
    OperationalError.
    """
    # To cancel the task instead would not do: psycopg then asks the same silent server to cancel
    # the statement, and waits for its answer.
    with suppress(psycopg.Error, OSError):
        its_socket = socket.socket(fileno=connection.fileno())
        try:
            its_socket.shutdown(socket.SHUT_RDWR)
        finally:
            its_socket.detach()
