"""CPU time of the servers, which are not children of ours: read from /proc, by process tree."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lab.bench.processes import BenchFailed

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class ProcessStat(NamedTuple):
    """What /proc/PID/stat says of a process."""

    pid: int
    parent: int
    cpu_ticks: int
    """Of all its threads and of the children that it has waited for."""
    resident_pages: int


@dataclass(frozen=True)
class ServerPids:
    """Processes of the broker and the database; None for a server of another machine."""

    broker: int | None = None
    postgres: int | None = None
    database_front: int | None = None
    """The process that speaks TLS for the database, where there is one; part of `postgres`."""

    @property
    def are_known(self) -> bool:
        """Whether the CPU time of both can be measured."""
        return self.broker is not None and self.postgres is not None

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU time that each known server has spent, in seconds."""
        stats = read_stats()
        named = {"broker": (self.broker,), "postgres": (self.postgres, self.database_front)}
        return {
            name: sum(tree_cpu_ticks(pid, stats) for pid in pids if pid is not None) / _TICKS_PER_S
            for name, pids in named.items()
            if pids[0] is not None
        }


def parse_stat(text: str) -> ProcessStat:
    """Parse the content of a /proc/PID/stat file.

    The command stands in parentheses and may contain any character.
    """
    pid, _, rest = text.partition(" (")
    fields = rest.rpartition(")")[2].split()
    return ProcessStat(int(pid), int(fields[1]), sum(map(int, fields[11:15])), int(fields[21]))


def read_stats() -> dict[int, ProcessStat]:
    """Read the stats of every process of this machine, by pid."""
    stats = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = parse_stat((folder / "stat").read_text(encoding="utf-8", errors="replace"))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended; its parent counts it
            stats[stat.pid] = stat
    return stats


def tree_cpu_ticks(root: int, stats: Mapping[int, ProcessStat]) -> int:
    """Sum the CPU time of a process and all its descendants, ended ones included.

    A server that forks a process a connection counts those that ended when it waits for them.
    Raises BenchFailed if the process is not there.
    """
    if root not in stats:
        raise BenchFailed(f"the server with pid {root} has ended: see its log")
    children: defaultdict[int, list[ProcessStat]] = defaultdict(list)
    for stat in stats.values():
        children[stat.parent].append(stat)
    total, left = 0, [stats[root]]
    while left:
        stat = left.pop()
        total += stat.cpu_ticks
        left += children[stat.pid]
    return total


def resident_mb(pids: Iterable[int]) -> float:
    """Return the memory that these processes have in RAM, summed, in MB."""
    stats = read_stats()
    pages = sum(stats[pid].resident_pages for pid in pids if pid in stats)
    return pages * _PAGE_BYTES / 1e6
