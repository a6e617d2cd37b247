"""Making a namespace ready: its database, tables of ledger and fraud agents, topics. All of it can be repeated."""

from __future__ import annotations

import asyncio

from fraud_agents.migrate import migrate as migrate_fraud
from ledger_sink.migrate import migrate as migrate_ledger
from pitboss.embedded.databases import create_database, drop_database
from pitboss.settings import Runtime
from pitboss.topic_admin import create_topics, delete_topics
from schemas.topics import PARTITIONS_DEFAULT
from streams.providers.registry import DIALECTS


def provision(runtime: Runtime, *, partitions: int = PARTITIONS_DEFAULT) -> None:
    """Create what is missing. Raises Unavailable while a server is away."""
    create_database(runtime)
    migrate_ledger(runtime.database_url)
    migrate_fraud(runtime.database_url)
    asyncio.run(create_topics(runtime.bootstrap_servers, runtime.namespace, sorted(DIALECTS), partitions=partitions))


def unprovision(runtime: Runtime) -> None:
    """Drop a namespace with all it holds; for demos, trials and tests."""
    asyncio.run(delete_topics(runtime.bootstrap_servers, runtime.namespace))
    drop_database(runtime)
