"""The log into an empty ledger: the same rules in the same order must give the same rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ledger_sink.book import Sourced
from ledger_sink.database import Database
from ledger_sink.migrate import migrate
from ledger_sink.positions import claim_positions
from ledger_sink.store import PostgresLedger, Slice
from schemas.errors import UsageError
from schemas.policies import LedgerPolicy


async def replay_ledger(
    database_url: str,
    topic: str,
    events: Mapping[int, Sequence[Sourced]],
    batches: Sequence[tuple[int, int, int]],
    policies: Mapping[str, LedgerPolicy],
    progress: Callable[[int, int], None],
) -> None:
    """Book `events` (by partition, in offset order) into the empty database in the order of `batches`.

    `batches` are (partition, from offset, next offset) as the live ledger committed them: what crosses partitions then
    comes out alike. `progress` is told batches done and in
    all. Raises UsageError if the database is not empty.
    """
    migrate(database_url)
    database = Database(database_url, "pitboss.replay")
    ledger = PostgresLedger(database, policies, topic=topic)
    try:
        [(entries,)] = await database.query("SELECT count(*) FROM entry")
        if entries:
            message = f"the database to replay into already holds {entries} entries; it must be empty"
            raise UsageError(message)
        claims = await claim_positions(database, sorted({part for part, _, _ in batches}), topic=topic)
        ledger.epochs.update({part: claim.epoch for part, claim in claims.items()})
        taken = dict.fromkeys(events, 0)
        for number, (part, from_offset, next_offset) in enumerate(batches, start=1):
            log, start = events.get(part, ()), taken.get(part, 0)
            stop = start
            while stop < len(log) and log[stop].source.offset < next_offset:
                stop += 1
            taken[part] = stop
            await ledger.apply([Slice(part, from_offset, next_offset, log[start:stop])])
            progress(number, len(batches))
    finally:
        await database.close()
