"""A real ledger or resolver worker that freezes itself at one named point, as a scheduler might, once a file demands it.

`python -m tests.faults.ledger_worker ROLE SETTINGS POINT ARM_FILE`. The test then kills it, or lets it go on later.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection, AsyncCopy

from lab.simulator.bundle import Bundle
from ledger_sink.booking import positions
from ledger_sink.booking.handler import create_ledger_app
from ledger_sink.booking.publisher import Publisher
from ledger_sink.booking.settings import LedgerSettings
from ledger_sink.resolve import resolver
from ledger_sink.resolve.handler import create_resolve_app
from ledger_sink.resolve.resolver import Resolver
from ledger_sink.resolve.settings import ResolveSettings
from ledger_sink.store import transaction as transaction_module
from ledger_sink.store import writing
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.statements import statements
from runtime.kafka.intake.client import ConsumerThread
from runtime.kafka.process import run_worker
from runtime.postgres.database import TransactionTrips
from runtime.security import BrokerAddress, SecurityProtocol
from schemas.errors import SendFailed
from streams.normalise.handler import create_worker
from streams.normalise.settings import NormaliseSettings
from streams.providers.registry import by_provider, policies
from tests.support import newer_release


def freeze_around(owner: Any, name: str, arm: Path, *, before: bool) -> None:
    """Freeze just before or just after an async function; only once, and only while the file is there."""
    original = getattr(owner, name)

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        if before:
            freeze(arm)
        result = await original(*args, **kwargs)
        if not before:
            freeze(arm)
        return result

    setattr(owner, name, wrapped)


def freeze_before(name: str, arm: Path) -> None:
    """Freeze just before a method of the consumer's thread, in that thread."""
    original = getattr(ConsumerThread, name)

    def wrapped(self: ConsumerThread, *args: Any) -> Any:
        freeze(arm)
        return original(self, *args)

    setattr(ConsumerThread, name, wrapped)


def freeze(arm: Path) -> None:
    if arm.exists():
        arm.unlink()
        os.kill(os.getpid(), signal.SIGSTOP)


def freeze_after(file: str, name: str, arm: Path) -> None:
    """Freeze behind one statement, with its transaction open.

    What goes out at once goes out one by one here, so that there is a moment behind each.
    """
    original, wanted = AsyncConnection.execute, statements(file)[name]

    async def wrapped(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        cursor = await original(self, query, *args, **kwargs)
        if query == wanted:
            freeze(arm)
        return cursor

    async def commit_one_by_one(self: TransactionTrips, together: Any) -> None:
        async with self.trip(is_last=True):
            for statement, parameters in together:
                await self.connection.execute(statement, parameters)

    AsyncConnection.execute = wrapped  # type: ignore[method-assign]
    TransactionTrips.commit_all = commit_one_by_one  # type: ignore[assignment]  # in this process alone


def fail_sending(arm: Path) -> None:
    original = Publisher._publish

    async def wrapped(self: Publisher, groups: Any) -> None:
        if arm.exists():  # noqa: ASYNC240  # a test's process
            raise SendFailed("a test demands it")
        await original(self, groups)

    Publisher._publish = wrapped  # type: ignore[method-assign]


def write_all_by(few_events_max: int) -> None:
    """Leave no choice of how rows are written: what was rolled back before is written again with what came since."""
    original = PostgresLedger.__init__

    def init(self: PostgresLedger, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **{**kwargs, "few_events_max": few_events_max})

    PostgresLedger.__init__ = init  # type: ignore[method-assign]  # in this process alone


def freeze_inserting(arm: Path) -> None:
    write_all_by(sys.maxsize)
    freeze_after("ledger", "insert_entries", arm)


def freeze_copying(arm: Path) -> None:
    write_all_by(0)
    copying: Any = writing
    copying._COPY_BYTES = 1_000  # small chunks, so that there is a row to freeze behind
    freeze_around(AsyncCopy, "write", arm, before=False)


def freeze_marking(arm: Path) -> None:
    original = resolver.Resolver._append_decided

    async def wrapped(self: Resolver, rows: Any) -> int:
        append = self._append

        async def append_and_freeze(records: Any) -> None:
            await append(records)
            freeze(arm)

        self._append = append_and_freeze
        try:
            return await original(self, rows)
        finally:
            self._append = append

    resolver.Resolver._append_decided = wrapped  # type: ignore[method-assign]


POINTS: dict[str, Callable[[Path], None]] = {
    "none": lambda arm: None,
    newer_release.POINT: lambda arm: newer_release.upgrade(),
    "before the transaction": lambda arm: freeze_around(
        PostgresLedger, "commit_group", arm, before=True
    ),
    "nothing can be sent": fail_sending,
    "between two rows": freeze_copying,
    "between two tables": freeze_inserting,
    "inside the transaction": lambda arm: freeze_around(
        transaction_module, "write_book", arm, before=False
    ),
    "after the commit": lambda arm: freeze_around(
        PostgresLedger, "commit_group", arm, before=False
    ),
    "before it is published": lambda arm: freeze_around(Publisher, "_publish", arm, before=True),
    "after it is published": lambda arm: freeze_around(Publisher, "_publish", arm, before=False),
    "before the commit": lambda arm: freeze_after("ledger", "advance_positions", arm),
    "behind the lock": lambda arm: freeze_after("ledger", "demand_positions", arm),
    "behind the only write": lambda arm: freeze_after("ledger", "write_unread", arm),
    "before the offsets are committed": lambda arm: freeze_before("_commit", arm),
    "after the offsets are committed": lambda arm: freeze_before("_on_commit", arm),
    "inside the claim": lambda arm: freeze_after("positions", "claim", arm),
    "after the claim": lambda arm: freeze_around(positions, "claim_positions", arm, before=False),
    "before it is sent again": lambda arm: freeze_around(Publisher, "resend", arm, before=True),
    "after it is sent again": lambda arm: freeze_around(Publisher, "resend", arm, before=False),
    "before it is parked": lambda arm: freeze_around(Resolver, "park", arm, before=True),
    "after it is parked": lambda arm: freeze_around(Resolver, "park", arm, before=False),
    "before it is appended": lambda arm: freeze_around(
        Resolver, "_append_decided", arm, before=True
    ),
    "after it is appended": freeze_marking,
}


def main() -> int:
    role, settings, point, arm = sys.argv[1:]
    logging.basicConfig(level=logging.INFO)
    POINTS[point](Path(arm))
    settings_fields = json.loads(settings)
    address = settings_fields["broker"]
    protocol = SecurityProtocol(address["protocol"])
    settings_fields["broker"] = BrokerAddress(**{**address, "protocol": protocol})
    if role == "ledger":
        return run_worker(lambda: create_ledger_app(LedgerSettings(**settings_fields), policies()))
    if role == "bundle":  # the normaliser of a provider whose one call holds several transactions
        bundle = by_provider([Bundle()])
        return run_worker(lambda: create_worker(NormaliseSettings(**settings_fields), bundle).app)
    return run_worker(lambda: create_resolve_app(ResolveSettings(**settings_fields)))


if __name__ == "__main__":
    sys.exit(main())
