"""The state of a started stack: one JSON file by which every command finds the servers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import msgspec

from pitboss.embedded.files import write_atomically
from pitboss.embedded.processes import ProcessId
from pitboss.settings import Runtime, StackSettings, runtime_of
from runtime.security import BrokerAddress
from schemas.errors import UsageError

STATE_FILE = "stack.json"


class NoStack(UsageError):
    """No broker and database are running or named."""

    code: ClassVar[str] = "NO_STACK"


@dataclass(frozen=True)
class StackState:
    """A started stack, as of the last `up`."""

    broker: BrokerAddress
    database_url: str
    """Of the `postgres` database, with its password: the file is readable by its owner only."""
    kafka: ProcessId
    postgres: ProcessId

    @property
    def is_running(self) -> bool:
        """Whether both servers' processes run; not whether they answer."""
        return self.kafka.is_alive and self.postgres.is_alive


def read_state(home: Path) -> StackState | None:
    """Return what the last `up` stored; None if there was none, or `down` came after it."""
    try:
        fields = json.loads((home / STATE_FILE).read_text())
        return StackState(
            msgspec.convert(fields["broker"], BrokerAddress),
            fields["database_url"],
            kafka=ProcessId(**fields["kafka"]),
            postgres=ProcessId(**fields["postgres"]),
        )
    except (OSError, ValueError, KeyError, TypeError, msgspec.ValidationError):
        return None


def write_state(home: Path, state: StackState) -> None:
    """Store the addresses of a stack's servers, so that every command finds them."""
    write_atomically(home / STATE_FILE, json.dumps(asdict(state), indent=2) + "\n")


def forget_state(home: Path) -> None:
    """Remove the state of a stack that was stopped."""
    (home / STATE_FILE).unlink(missing_ok=True)


def resolve_runtime(settings: StackSettings) -> Runtime:
    """Find the servers: those that the environment names, else the embedded ones.

    It starts and asks none: a named server that does not answer is noticed on first use, and
    `pitboss up` starts the embedded ones. Raises NoStack.
    """
    if settings.kafka is not None and settings.database is not None:
        return runtime_of(settings.kafka, settings.database, settings.namespace)
    state = read_state(settings.home)
    if state is None or not state.is_running:
        if state is not None or settings.home.exists():
            reason = "the stack is not running (any more)" if state else "no stack was started"
            raise NoStack(
                f"{reason} under {settings.home}: "
                "run `pitboss up`, or set PITBOSS_KAFKA and PITBOSS_DATABASE"
            )
        raise NoStack(
            f"no stack was started under {settings.home}: if yours is in another folder, go there "
            "or name its home in PITBOSS_HOME; else run `pitboss up`, or set PITBOSS_KAFKA and "
            "PITBOSS_DATABASE"
        )
    return runtime_of(state.broker, state.database_url, settings.namespace)
