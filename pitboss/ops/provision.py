"""Provisioning a namespace: its database, the tables of ledger and fraud agents, its topics.

All of it can be repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

from fraud_agents.snapshots import TABLES as FRAUD
from fraud_agents.snapshots import migrate as migrate_fraud
from ledger_sink.store.migrate import TABLES as LEDGER
from ledger_sink.store.migrate import migrate as migrate_ledger
from pitboss.embedded.databases import create_database, database_exists, drop_database
from pitboss.ops import raw_topics, shared_settings
from pitboss.ops.raw_topics import RawTopics
from pitboss.ops.shared_settings import Sections, StoredSettings
from pitboss.ops.topic_admin import (
    TopicCreation,
    create_topics,
    delete_topics,
)
from pitboss.settings import Runtime
from runtime.postgres.migrations import Migration, MigrationSet, read_migrations
from schemas.topics import PARTITIONS_DEFAULT

FIRST_PROVISION = "first provision"
"""Who has accepted the settings that are stored with a new installation."""

ReportStage = Callable[[str, int, int], None]
"""Takes the name of a stage, how much of it is done, and how much there is."""


def report_no_stage(_stage: str, _done: int, _total: int) -> None:
    """Take a report and do nothing: the default."""


@dataclass(frozen=True)
class ProvisionResult:
    """Result of `provision`: what it created or, in a dry run, would create."""

    has_new_database: bool
    migrations: tuple[str, ...]
    """The SQL files that were missing."""
    topics: TopicCreation
    raw_topics: RawTopics
    changed_settings: tuple[str, ...] = ()
    """What was or would be changed of the settings that all processes share, one line each."""


def provision(
    runtime: Runtime,
    *,
    partitions: int = PARTITIONS_DEFAULT,
    providers: Collection[str] | None = None,
    raw_partitions: int | None = None,
    may_change: bool = True,
    shared: Sections | None = None,
    accepted_by: str | None = None,
    dry_run: bool = False,
    report: ReportStage = report_no_stage,
) -> ProvisionResult:
    """Create what is missing, with raw topics of `providers`, and store whose topics are read.

    Each raw partition is one more that a normaliser asks for at every fetch: raw topics of
    providers that are not in use cost all others time. Without `providers` and `raw_partitions`,
    what is stored counts, and at first all providers and the default. Without `may_change`, other
    providers than the stored ones are refused. `shared` are the settings that all processes share
    (None: leave them alone): they are stored the first time, and where they differ later they are
    refused, or stored if `accepted_by` names who accepts them. A dry run only queries both servers.
    Raises Unavailable while a server is away, RightsMissing, and UsageError for a provider without
    an adapter and another number of raw partitions.
    """
    stored = raw_topics.read_stored(runtime)
    decide = raw_topics.choose if may_change else raw_topics.check_settings
    existing = [] if stored else raw_topics.existing_counts(runtime)
    settings, changed = _decide_shared(runtime, shared, accepted_by)
    raw = decide(stored, providers=providers, partitions=raw_partitions, existing=existing)
    if dry_run:
        is_new = not database_exists(runtime)
        found = [
            migration
            for migration_set in (LEDGER, FRAUD)
            for migration in _missing(migration_set, runtime, is_new=is_new)
        ]
    else:
        is_new, found = _create_tables(runtime, report)
        raw_topics.store(runtime, raw, stored)
        if shared is not None and (settings is None or changed):
            by = accepted_by or FIRST_PROVISION
            shared_settings.store(runtime, shared, by, is_first=settings is None)
        report("topics", 0, 1)
    topics = asyncio.run(
        create_topics(
            runtime.broker,
            runtime.namespace,
            raw.names,
            partitions,
            raw.partitions,
            read=raw.providers,
            dry_run=dry_run,
            report=partial(report, "partitions with a leader:"),
        )
    )
    names = tuple(migration.name for migration in found)
    return ProvisionResult(is_new, names, topics, raw, changed)


def _create_tables(runtime: Runtime, report: ReportStage) -> tuple[bool, list[Migration]]:
    """Create the database and its tables; return whether it is new, and what was missing."""
    report("database", 0, 1)
    is_new = create_database(runtime)
    report("tables of the ledger", 0, 1)
    found = migrate_ledger(runtime.database_url)
    report("tables of the fraud agents", 0, 1)
    return is_new, found + migrate_fraud(runtime.database_url)


def _decide_shared(
    runtime: Runtime, shared: Sections | None, accepted_by: str | None
) -> tuple[StoredSettings | None, tuple[str, ...]]:
    """Return what is stored, and what an acceptance changes. Raises UsageError for a difference."""
    stored = None if shared is None else shared_settings.read_stored(runtime)
    if shared is None or stored is None:
        return stored, ()
    if accepted_by is None:
        shared_settings.check(stored, shared)
        return stored, ()
    return stored, tuple(shared_settings.list_differences(stored.sections, shared, is_exact=True))


def _missing(migrations: MigrationSet, runtime: Runtime, *, is_new: bool) -> list[Migration]:
    """Return what is not applied; all of it where the database is still to be created."""
    found = migrations.files() if is_new else read_migrations(migrations, runtime.database_url)
    return [migration for migration in found if not migration.is_applied]


def deprovision(runtime: Runtime) -> None:
    """Drop a namespace with all it holds; for demos, trials and tests."""
    asyncio.run(delete_topics(runtime.broker, runtime.namespace))
    drop_database(runtime)
