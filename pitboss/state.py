"""What is known of a started stack: one JSON file that every command finds it by."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pitboss.embedded.files import write_atomically
from pitboss.embedded.processes import ProcessId

STATE_FILE = "stack.json"


@dataclass(frozen=True)
class StackState:
    """A started stack, as of the last `up`."""

    kafka_bootstrap: str
    database_url: str
    """Of the `postgres` database, with its password: the file is readable by its owner only."""
    kafka: ProcessId
    postgres: ProcessId

    @property
    def is_running(self) -> bool:
        """Whether both servers' processes are there; not whether they answer."""
        return self.kafka.is_alive and self.postgres.is_alive


def read_state(home: Path) -> StackState | None:
    """Read what the last `up` left; None if there was none, or `down` came after it."""
    try:
        fields = json.loads((home / STATE_FILE).read_text())
        return StackState(
            fields["kafka_bootstrap"],
            fields["database_url"],
            kafka=ProcessId(**fields["kafka"]),
            postgres=ProcessId(**fields["postgres"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_state(home: Path, state: StackState) -> None:
    """Let every command find the stack."""
    write_atomically(home / STATE_FILE, json.dumps(asdict(state), indent=2) + "\n")


def forget_state(home: Path) -> None:
    """The stack was stopped."""
    (home / STATE_FILE).unlink(missing_ok=True)
