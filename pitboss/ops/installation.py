"""The state of an installation by role and partition: lag, waits, ends, what is open and unsealed.

Each part is None where its server does not answer, so that the others are shown all the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from aiokafka.errors import KafkaError

from ledger_sink.queries.open_items import OpenGroup, read_open_work
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import CONSUMER
from ledger_sink.store.statements import statements
from pitboss.ops.consumer_lag import PartitionLag, measure_lag
from pitboss.ops.role_topics import GROUPS, find_sources
from pitboss.ops.stuck_partitions import find_waiting
from pitboss.settings import Runtime
from pitboss.workers import ALL_ROLES
from pitboss.workers.restarts import count_restarts
from runtime.postgres.roles import Role
from schemas.errors import PitbossError
from schemas.topics import TRANSACTIONS, provider_of
from streams.providers.registry import DIALECTS
from streams.providers.retirement import find_retiring
from streams.providers.versions import VersionRow

ANSWERING: Final = ("normalise", "ledger", "resolve")
"""Roles that an attempt passes before it is answered."""
_UNSEALED_STRETCH: Final = 10_000
_SQL: Final = statements("seals")

T = TypeVar("T")


@dataclass(frozen=True)
class RolePartition:
    """One partition as a role reads it."""

    topic: str
    partition: int
    position: int
    """Offset up to which it is read."""
    lag_records: int
    lag_s: float | None
    """Age of the oldest unread record; None if nothing is unread."""
    is_held: bool
    waits_for: str | None
    """What the worker says that it waits for, while something is unread."""


@dataclass(frozen=True)
class RoleState:
    """One role of the installation."""

    role: str
    partitions: Sequence[RolePartition]
    restarts: dict[str, int]
    """Ends of its workers in the last day by how they ended: those that this home supervises."""

    @property
    def lag_records(self) -> int:
        """Unread offsets of all partitions."""
        return sum(one.lag_records for one in self.partitions)

    @property
    def position(self) -> int:
        """Sum of the offsets up to which its partitions are read."""
        return sum(one.position for one in self.partitions)

    @property
    def lag_s(self) -> float | None:
        """Age of the oldest unread record; None if nothing is unread."""
        return max((one.lag_s for one in self.partitions if one.lag_s is not None), default=None)

    @property
    def waits_for(self) -> list[str]:
        """What its partitions wait for, each reason once."""
        return sorted({one.waits_for for one in self.partitions if one.waits_for})

    def as_json(self) -> dict[str, Any]:
        """Return the role as one JSON object."""
        return {
            "role": self.role,
            "lag_records": self.lag_records,
            "lag_s": self.lag_s,
            "restarts": self.restarts,
            "partitions": [asdict(one) for one in self.partitions],
        }


@dataclass(frozen=True)
class InstallationState:
    """What `pitboss status` and `pitboss top` show beside the servers and processes."""

    roles: Sequence[RoleState] | None = None
    open_groups: Sequence[OpenGroup] | None = None
    unsealed_s: float | None = None
    """Age of the oldest entry behind the last seal; None if there is none."""
    never_sealed: int | None = None
    """Partitions with entries and without a seal."""
    sealed: int | None = None
    """Partitions with a seal."""
    retiring: Sequence[dict[str, Any]] = ()
    """Versions of providers' dialects that retire within 30 days, or have retired."""
    notes: list[str] = field(default_factory=list)
    """What could not be read, and why."""

    @property
    def providers(self) -> set[str]:
        """Providers that have sent something here."""
        read = (one.partitions for one in self.roles or () if one.role == "normalise")
        return {provider_of(one.topic) for partitions in read for one in partitions}

    @property
    def oldest_unanswered_s(self) -> float | None:
        """Age of the oldest record on the way to its answer; None if none is, or not known."""
        ages = [one.lag_s for one in self.roles or () if one.role in ANSWERING]
        return max((age for age in ages if age is not None), default=None)

    def as_json(self, now_ms: int) -> dict[str, Any]:
        """Return the state as one JSON object."""
        groups = None if self.open_groups is None else [*self.open_groups]
        return {
            "roles": None if self.roles is None else [one.as_json() for one in self.roles],
            "oldest_unanswered_s": self.oldest_unanswered_s,
            "open": None if groups is None else [_open_row(one, now_ms) for one in groups],
            "unsealed_s": self.unsealed_s,
            "never_sealed": self.never_sealed,
            "retiring": [*self.retiring],
            "notes": self.notes,
        }


def _open_row(group: OpenGroup, now_ms: int) -> dict[str, Any]:
    return {
        "kind": group.kind,
        "reason": group.reason,
        "currency": group.currency,
        "count": group.count,
        "total_minor": group.total_minor,
        "oldest_s": max(0, now_ms - group.since_ms) / 1000,
    }


def read_installation(
    runtime: Runtime, home: Path, *, has_ledger: bool = True
) -> InstallationState:
    """Return the state of an installation; without `has_ledger` only that of its roles."""
    return asyncio.run(_read(runtime, home, has_ledger=has_ledger))


async def _read(runtime: Runtime, home: Path, *, has_ledger: bool) -> InstallationState:
    notes: list[str] = []
    roles = await _unless_away(read_roles(runtime, home, notes), "lag", notes)
    retiring = list_retiring(DIALECTS.rows, datetime.now(UTC).date())
    if not has_ledger:
        return InstallationState(roles, retiring=retiring, notes=notes)
    database = LedgerDatabase(runtime.database_url, "pitboss.status", role=Role.AUDITOR)
    try:
        work = read_open_work(database, entries_max=0, barrier_age_s=0)
        found = await _unless_away(work, "what is open", notes)
        unsealed = await _unless_away(_read_unsealed(database, runtime), "seals", notes)
    finally:
        await database.close()
    never, sealed, oldest_ms = unsealed or (None, None, None)
    return InstallationState(
        roles,
        None if found is None else found.groups,
        None if oldest_ms is None else max(0.0, time.time() - oldest_ms / 1000),
        never,
        sealed,
        retiring,
        notes,
    )


def list_retiring(rows: Iterable[VersionRow], today: date) -> list[dict[str, Any]]:
    """Return the versions that retire within 30 days, or have retired, the most urgent first."""
    return [
        {
            "provider": row.provider,
            "version": row.version,
            "retires_on": str(row.retires_on),
            "days": row.days_to_retirement(today),
            "state": row.state.value,
        }
        for row in find_retiring(rows, today)
    ]


async def _unless_away(read: Awaitable[T], what: str, notes: list[str]) -> T | None:
    try:
        return await read
    except (KafkaError, PitbossError) as error:
        notes.append(f"{what}: {error}")
        return None


async def _read_unsealed(database: LedgerDatabase, runtime: Runtime) -> tuple[int, int, int | None]:
    """Return the partitions never sealed, those with a seal, and when the oldest unsealed was."""
    columns = {
        "consumer": CONSUMER,
        "topic": runtime.topic(TRANSACTIONS),
        "stretch": _UNSEALED_STRETCH,
    }
    [(never, sealed, oldest_ms)] = await database.query(_SQL["unsealed"], columns)
    return never, sealed, oldest_ms


async def read_roles(runtime: Runtime, home: Path, notes: list[str]) -> list[RoleState]:
    """Return every role with the partitions that its group reads, if any. Raises Unavailable."""
    sources = await asyncio.to_thread(find_sources, runtime, notes.append)
    broker, namespace = runtime.broker, runtime.namespace
    lags = await measure_lag(broker, namespace, sources=sources)
    waiting = await find_waiting(runtime)
    restarts = count_restarts(home, namespace)
    now_ms = time.time_ns() // 1_000_000
    states = []
    for role in ALL_ROLES:
        # The gateway and the archive read without a group, so what they do shows in their restarts.
        group = runtime.group(GROUPS[role]) if role in GROUPS else None
        partitions = [
            _partition(one, waiting.get((one.group, one.topic, one.partition)), now_ms)
            for one in lags
            if one.group == group
        ]
        states.append(RoleState(role, partitions, restarts.get(role, {})))
    return states


def _partition(lag: PartitionLag, waits_for: str | None, now_ms: int) -> RolePartition:
    age_ms = lag.age_ms(now_ms)
    return RolePartition(
        lag.topic,
        lag.partition,
        lag.next_offset,
        lag.records,
        None if age_ms is None else age_ms / 1000,
        lag.is_held,
        waits_for if lag.records else None,
    )
