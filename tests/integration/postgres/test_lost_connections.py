"""A connection that is lost before COMMIT: whoever wrote is told, and nothing is taken for kept that is not.

psycopg leaves a transaction block without a word if the connection is already known to be lost. Records that wait
behind a dead letter would be gone: their batch would be done, and their offsets committed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

import psycopg
import pytest

from fraud_agents.snapshots import SnapshotStore
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.migrate import migrate
from runtime.dead_letters.database import DeadLetterDatabase
from schemas.errors import Unavailable

pytestmark = pytest.mark.integration


class Held(NamedTuple):
    """A store's transactions, and how its owner's end closes its connection."""

    transaction: Callable[[], AbstractAsyncContextManager[Any]]
    close: Callable[[], Awaitable[None]]


def held(kind: str, url: str) -> Held:
    match kind:
        case "ledger":
            ledger = LedgerDatabase(url, "pitboss.test")
            return Held(ledger.transaction, ledger.close)
        case "dead letters":
            letters = DeadLetterDatabase(url, "pitboss.test")
            return Held(letters.transaction, letters.on_stop)
    snapshots = SnapshotStore(url, "fraud.detect")
    return Held(snapshots._database.transaction, snapshots.on_stop)


@pytest.mark.parametrize("kind", ["ledger", "dead letters", "snapshots"])
async def test_who_loses_the_connection_before_commit_is_told(runtime, kind):
    migrate(runtime.database_url)  # for the roles
    with psycopg.connect(runtime.database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("GRANT ALL ON kept TO PUBLIC")
    store = held(kind, runtime.database_url)

    async def write_while_it_closes() -> None:
        async with store.transaction() as connection:
            await connection.execute("INSERT INTO kept VALUES (1)")
            await store.close()

    with pytest.raises(Unavailable, match="before COMMIT"):
        await write_while_it_closes()
    async with store.transaction() as connection:
        await connection.execute("INSERT INTO kept VALUES (2)")
    await store.close()
    with psycopg.connect(runtime.database_url) as connection:
        assert connection.execute("SELECT n FROM kept").fetchall() == [(2,)]
