"""What the pages of the workers on this machine say."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from pitboss.telemetry_settings import worker_port
from pitboss.workers.role_locks import RunningRole
from runtime.telemetry.pages import HOST

_TIMEOUT_S: Final = 5.0
_VALUE: Final = re.compile(r"^(process_\w+) (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class WorkerPage:
    """What the pages of one worker said; zeros where it did not answer."""

    role: str
    number: int
    port: int
    answers: bool
    is_ready: bool
    cpu_s: float = 0.0
    memory_bytes: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return it as one JSON object."""
        return asdict(self)


def read_pages(running: Iterable[RunningRole]) -> list[WorkerPage]:
    """Return what the pages of all workers say of which a port is known."""
    return [
        _read_page(one.role, number, worker_port(one.telemetry_port, one.role, number))
        for one in running
        if one.telemetry_port
        for number in range(1, one.workers + 1)
    ]


def _read_page(role: str, number: int, port: int) -> WorkerPage:
    ready, _ = _get(port, "/readyz")
    status, text = _get(port, "/metrics")
    values = {name: float(value) for name, value in _VALUE.findall(text)}
    return WorkerPage(
        role,
        number,
        port,
        answers=status == 200,
        is_ready=ready == 200,
        cpu_s=values.get("process_cpu_time_seconds_total", 0.0),
        memory_bytes=values.get("process_memory_usage_bytes", 0.0),
    )


def _get(port: int, path: str) -> tuple[int, str]:
    """Return the status and the text of a page; 0 where nothing answers."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=_TIMEOUT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except OSError:
        return 0, ""
