"""Machine and commit of a measurement, without which a rate cannot be assessed."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

LIBRARIES = (
    "faust-streaming",
    "mode-streaming",
    "aiokafka",
    "confluent-kafka",
    "fastavro",
    "msgspec",
)


@dataclass(frozen=True)
class Machine:
    """Facts that a reader needs to assess a figure, or to repeat it."""

    cpu: str
    cores: int
    memory_gb: float
    system: str
    python: str
    libraries: dict[str, str]
    load_before: float
    """Processes that were ready to run in the minute before, without ours: 0 on a machine of
    our own.
    """


def this_machine() -> Machine:
    """Look at the machine now; call it before the work begins."""
    return Machine(
        cpu=_cpu_name(),
        cores=len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        memory_gb=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        system=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        libraries={name: version(name) for name in LIBRARIES},
        load_before=round(os.getloadavg()[0], 2),
    )


def this_commit() -> str | None:
    """Return the commit that is measured, or None outside of a checkout.

    `-dirty` follows if files differ from it.
    """
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        result = subprocess.run(  # noqa: S603 - a fixed command
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return result.stdout.strip() or None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
