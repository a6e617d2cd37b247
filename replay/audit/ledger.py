"""The log into an empty ledger: the same rules in the same order must give the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from ledger_sink.booking.committer import EVENTS_PER_TRANSACTION_MAX
from ledger_sink.booking.positions import claim_positions
from ledger_sink.rules.book import LogEvent
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.migrate import migrate
from runtime.postgres.statements import statements_of
from schemas.errors import UsageError
from schemas.policies import LedgerPolicy

_SQL = statements_of("replay.audit", "checks")


async def replay_ledger(
    database_url: str,
    topic: str,
    events: Mapping[int, Sequence[LogEvent]],
    batches: Sequence[tuple[int, int, int]],
    policies: Mapping[str, LedgerPolicy],
    progress: Callable[[int, int], None],
) -> None:
    """Book `events` (by partition, in offset order) into the empty database in the order of
    `batches`.

    `batches` are (partition, from offset, next offset) as the live ledger committed them: what
    crosses partitions then comes out alike. `progress` is told batches done and in all. Raises
    UsageError if the database is not empty.
    """
    migrate(database_url)
    database = LedgerDatabase(database_url, "pitboss.replay")
    ledger = PostgresLedger(database, policies, topic=topic)
    try:
        [(entries,)] = await database.query(_SQL["entries"])
        if entries:
            message = (
                f"the database to replay into already holds {entries} entries; it must be empty"
            )
            raise UsageError(message)
        claims = await claim_positions(
            database, sorted({part for part, _, _ in batches}), topic=topic
        )
        ledger.epochs.update({part: claim.epoch for part, claim in claims.items()})
        done = 0
        for group in _groups(_slices(events, batches)):
            await ledger.commit_group(group)
            done += len(group)
            progress(done, len(batches))
    finally:
        await database.close()


def _slices(
    events: Mapping[int, Sequence[LogEvent]], batches: Sequence[tuple[int, int, int]]
) -> Iterator[Slice]:
    """The batches with their events."""
    taken = dict.fromkeys(events, 0)
    for part, from_offset, next_offset in batches:
        log, start = events.get(part, ()), taken.get(part, 0)
        stop = start
        while stop < len(log) and log[stop].source.offset < next_offset:
            stop += 1
        taken[part] = stop
        yield Slice(part, from_offset, next_offset, log[start:stop])


def _groups(slices: Iterable[Slice]) -> Iterator[list[Slice]]:
    """Slices in their order, as many to a transaction as it takes; a transaction knows each
    partition once.
    """
    group: list[Slice] = []
    for slice_ in slices:
        if group and (
            any(other.partition == slice_.partition for other in group)
            or sum(len(other.events) for other in group) >= EVENTS_PER_TRANSACTION_MAX
        ):
            yield group
            group = []
        group.append(slice_)
    if group:
        yield group
