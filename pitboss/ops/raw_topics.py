"""Whose raw topics an installation reads, and how many partitions each of them has.

`pitboss provision` stores both with the installation, from PITBOSS_PROVIDERS and
PITBOSS_RAW_PARTITIONS. A process whose settings differ from what is stored refuses to start: two
workers of a group that read different topics would leave some of them to chance.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.statements import statements
from pitboss.ops.stored_rows import query_if_provisioned
from pitboss.ops.topic_admin import admin_client, partition_counts, record_counts
from pitboss.provider_settings import ALL_PROVIDERS, check_providers
from pitboss.setting_table import BY_NAME
from pitboss.settings import Runtime, WorkerSettings
from runtime.postgres.roles import Role
from runtime.security import BrokerAddress
from schemas.errors import UsageError
from schemas.topics import (
    RAW_PARTITIONS_DEFAULT,
    provider_of,
    raw_pattern,
    unread_pattern,
)
from streams.providers.registry import DIALECTS

_SQL: Final = statements("raw_topics")
_PROVIDERS: Final = BY_NAME["providers"].variable
_APPLICATION: Final = "pitboss.raw_topics"


@dataclass(frozen=True)
class RawTopics:
    """Providers whose raw topics are made and read, and the partitions of each topic."""

    providers: frozenset[str] | None = None
    """None: those of every provider, also of one without an adapter."""
    partitions: int = RAW_PARTITIONS_DEFAULT

    @property
    def names(self) -> list[str]:
        """The providers whose raw topics are created."""
        return sorted(DIALECTS if self.providers is None else self.providers)


@dataclass(frozen=True)
class UnreadTopic:
    """A topic that a connector may take for a raw topic, and that is read by nothing."""

    topic: str
    records: int
    """Offsets that the broker still has, those of transactions' markers included."""
    remedy: str

    def __str__(self) -> str:
        """Return it for a line on a screen."""
        return f"{self.topic} holds {self.records} records and is read by nothing: {self.remedy}"


def choose(
    stored: RawTopics | None,
    providers: Collection[str] | None = None,
    partitions: int | None = None,
    existing: Sequence[int] = (),
) -> RawTopics:
    """Return what an installation has after provisioning.

    `providers` and `partitions` are what was asked for, None for nothing; `existing` are the
    partition counts of its raw topics on the broker. An installation that has raw topics keeps
    their count. Raises UsageError for a provider without an adapter, and for another count.
    """
    check_providers(providers, _PROVIDERS)
    if providers is None:
        chosen = None if stored is None else stored.providers
    else:
        chosen = None if ALL_PROVIDERS in providers else frozenset(providers)
    kept = None if stored is None else stored.partitions
    if kept is None and existing:
        # Most of them have it; `pitboss topics check` reports the others.
        [(kept, _)] = Counter(sorted(existing, reverse=True)).most_common(1)
    if kept is not None and partitions not in {None, kept}:
        raise UsageError(
            f"PITBOSS_RAW_PARTITIONS is {partitions}, and the raw topics of this installation have "
            f"{kept} partitions: the number decides which key is in which partition, so it never "
            "changes; unset it"
        )
    return RawTopics(chosen, kept or partitions or RAW_PARTITIONS_DEFAULT)


def check_settings(
    stored: RawTopics | None,
    providers: Collection[str] | None,
    partitions: int | None,
    existing: Sequence[int] = (),
) -> RawTopics:
    """Return what is stored, or as `choose` where nothing is.

    Raises UsageError where the settings differ from what is stored.
    """
    wanted = choose(stored, providers, partitions, existing)
    if stored is not None and wanted.providers != stored.providers:
        raise UsageError(
            f"{_PROVIDERS} names {_format(wanted.providers)}, this installation was provisioned "
            f"with {_format(stored.providers)}: unset it, or run `pitboss provision` with it first "
            "and restart all workers"
        )
    return wanted


def _format(providers: Collection[str] | None) -> str:
    return ALL_PROVIDERS if providers is None else ",".join(sorted(providers))


def read_stored(runtime: Runtime, role: Role = Role.WRITER) -> RawTopics | None:
    """Return what is stored; None in an installation that was not provisioned by this release.

    Raises Unavailable, RightsMissing.
    """
    return asyncio.run(fetch_stored(runtime, role))


async def fetch_stored(runtime: Runtime, role: Role = Role.WRITER) -> RawTopics | None:
    """Do as `read_stored` within an event loop."""
    rows = await query_if_provisioned(runtime, _APPLICATION, _SQL["stored"], role)
    return next((RawTopics(_set(providers), count) for providers, count in rows or ()), None)


def _set(providers: Sequence[str] | None) -> frozenset[str] | None:
    return None if providers is None else frozenset(providers)


def store(runtime: Runtime, raw: RawTopics, stored: RawTopics | None) -> None:
    """Store it with the installation, which has `stored` now. Raises Unavailable, RightsMissing."""

    async def write() -> None:
        # A worker's login may store the first choice; only the tables' owner changes it.
        statement, role = ("store", Role.WRITER) if stored is None else ("change", Role.MIGRATOR)
        database = LedgerDatabase(runtime.database_url, _APPLICATION, role=role)
        columns = {
            "providers": None if raw.providers is None else sorted(raw.providers),
            "partitions": raw.partitions,
        }
        try:
            await database.query(_SQL[statement], columns)
        finally:
            await database.close()

    if raw != stored:
        asyncio.run(write())


def existing_counts(runtime: Runtime) -> list[int]:
    """Return the partition counts of the raw topics on the broker. Raises Unavailable."""
    pattern = raw_pattern(runtime.namespace)
    return list(asyncio.run(partition_counts(runtime.broker, pattern)).values())


def read_current(runtime: Runtime, worker: WorkerSettings) -> RawTopics:
    """Return what is stored or, before the first `provision` of this release, what is there.

    Raises UsageError where the settings differ from it, Unavailable, RightsMissing.
    """
    stored = read_stored(runtime, Role.READER)
    existing = [] if stored else existing_counts(runtime)
    return check_settings(stored, worker.providers, worker.raw_partitions, existing)


async def resolve_raw_topics(runtime: Runtime, worker: WorkerSettings) -> RawTopics:
    """Return whose raw topics a worker reads.

    Raises UsageError where its settings differ from what is stored, Unavailable, RightsMissing.
    """
    stored = await fetch_stored(runtime)
    return check_settings(stored, worker.providers, worker.raw_partitions)


async def find_unread(
    broker: BrokerAddress, namespace: str, providers: Collection[str] | None
) -> list[UnreadTopic]:
    """Return the topics that look like raw topics, hold records, and are read by nothing.

    Raises Unavailable.
    """
    async with admin_client(broker) as admin:
        names = await admin.list_topics()
    wanted = re.compile(raw_pattern(namespace, providers))
    similar = re.compile(unread_pattern(namespace))
    unread = [name for name in names if similar.match(name) and not wanted.match(name)]
    if not unread:
        return []
    counts = await record_counts(broker, unread)
    return [
        UnreadTopic(name, count, _remedy(name, namespace))
        for name, count in sorted(counts.items())
        if count
    ]


def list_unread(runtime: Runtime, worker: WorkerSettings) -> list[UnreadTopic]:
    """Return the unread topics of an installation, by what is stored or else by the settings.

    Raises UsageError where both differ, Unavailable, RightsMissing.
    """
    raw = read_current(runtime, worker)
    return asyncio.run(find_unread(runtime.broker, runtime.namespace, raw.providers))


def _remedy(topic: str, namespace: str) -> str:
    if re.match(raw_pattern(namespace), topic):
        return (
            f"add {provider_of(topic)!r} to PITBOSS_PROVIDERS, run `pitboss provision` and restart "
            "the workers, or delete the topic"
        )
    return (
        "no provider has a topic of this name; have the connector write to provider.<name>.raw.v1"
    )
