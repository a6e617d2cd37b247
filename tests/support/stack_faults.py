"""Killing and restarting one server of an embedded stack."""

from __future__ import annotations

from pitboss.embedded.kafka import KafkaServer
from pitboss.embedded.ports import is_free
from pitboss.embedded.postgres import PostgresServer
from pitboss.embedded.processes import poll
from pitboss.embedded.stack import Stack
from pitboss.embedded.state import StackState


def kill_server(server: KafkaServer | PostgresServer) -> None:
    """Send SIGKILL to a server; returns when its process is gone."""
    running = server.process()
    if running is not None:
        running.stop([])


def kill_until_port_is_free(server: KafkaServer | PostgresServer) -> None:
    """SIGKILL, and wait for the port too: a thread may outlive its process's leader for a moment and still hold it."""
    port = server.port
    kill_server(server)
    assert port is not None
    assert poll(lambda: is_free(port), 30)


def restart_server(stack: Stack, server: KafkaServer | PostgresServer) -> StackState:
    """Stop a server of the stack if it runs, and start it on the same port."""
    with stack.lock(_silent):
        server.stop()
        server.start(_silent)
        return stack.write_state()


def _silent(_: str) -> None:
    pass
