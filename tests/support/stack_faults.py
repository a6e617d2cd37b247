"""Killing and restarting one server of an embedded stack."""

from __future__ import annotations

from pitboss.embedded.kafka import KafkaServer
from pitboss.embedded.postgres import PostgresServer
from pitboss.embedded.stack import Stack
from pitboss.embedded.state import StackState


def kill_server(server: KafkaServer | PostgresServer) -> None:
    """Send SIGKILL to a server; returns when its process is gone."""
    running = server.process()
    if running is not None:
        running.stop([])


def restart_server(stack: Stack, server: KafkaServer | PostgresServer) -> StackState:
    """Stop a server of the stack if it runs, and start it on the same port."""
    with stack.lock(_silent):
        server.stop()
        server.start(_silent)
        return stack.write_state()


def _silent(_: str) -> None:
    pass
