"""Making a namespace ready: its database, tables of ledger and fraud agents, topics. All of it can be repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from fraud_agents.migrate import migrate as migrate_fraud
from ledger_sink.migrate import migrate as migrate_ledger
from pitboss.embedded.databases import create_database, drop_database
from pitboss.settings import Runtime
from pitboss.topic_admin import create_topics, delete_topics
from schemas.errors import UsageError
from schemas.topics import PARTITIONS_DEFAULT
from streams.providers.registry import DIALECTS


def provision(
    runtime: Runtime, *, partitions: int = PARTITIONS_DEFAULT, providers: Collection[str] | None = None
) -> None:
    """Create what is missing, with raw topics for `providers` (None: all that there is an adapter for).

    Each raw partition is one more that a normaliser asks for at every fetch: providers that nobody speaks with cost all
    others time. Raises Unavailable while a server is away, UsageError for a provider without an adapter.
    """
    chosen = sorted(DIALECTS if providers is None else providers)
    for name in chosen:
        if name not in DIALECTS:
            raise UsageError(f"there is no adapter for {name!r}: `pitboss providers list` names those there are")
    create_database(runtime)
    migrate_ledger(runtime.database_url)
    migrate_fraud(runtime.database_url)
    asyncio.run(create_topics(runtime.bootstrap_servers, runtime.namespace, chosen, partitions=partitions))


def unprovision(runtime: Runtime) -> None:
    """Drop a namespace with all it holds; for demos, trials and tests."""
    asyncio.run(delete_topics(runtime.bootstrap_servers, runtime.namespace))
    drop_database(runtime)
