"""The log run again, through an empty ledger and through the detectors.

The same rules in the same order must give the same rows and the same alerts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from fraud_agents.activations import Timeline, rerun_shard, rerun_signals
from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.rule_book import RuleBook
from ledger_sink.booking.committer import EVENTS_PER_TRANSACTION_MAX
from ledger_sink.booking.positions import claim_positions
from ledger_sink.rules.book import LogEvent
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.migrate import migrate
from runtime.postgres.statements import statements_of
from schemas.errors import UsageError
from schemas.events import FraudAlert
from schemas.policies import LedgerPolicy
from schemas.topics import SIGNALS, TRANSACTIONS

_SQL = statements_of("replay.audit", "checks")


async def replay_ledger(
    database_url: str,
    topic: str,
    events: Mapping[int, Sequence[LogEvent]],
    batches: Sequence[tuple[int, int, int]],
    policies: Mapping[str, LedgerPolicy],
    progress: Callable[[int, int], None],
) -> None:
    """Book `events` into the empty database in the order of `batches`.

    `events` are by partition, in offset order.

    `batches` are (partition, from offset, next offset) as the live ledger committed them, so that
    effects across partitions come out alike. `progress` is called with the batches completed and
    their total. Raises UsageError if the database is not empty.
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
            database, sorted({partition for partition, _, _ in batches}), topic=topic
        )
        ledger.epochs.update({partition: claim.epoch for partition, claim in claims.items()})
        done = 0
        for group in group_slices(_slices(events, batches)):
            await ledger.commit_group(group)
            done += len(group)
            progress(done, len(batches))
    finally:
        await database.close()


def _slices(
    events: Mapping[int, Sequence[LogEvent]], batches: Sequence[tuple[int, int, int]]
) -> Iterator[Slice]:
    """Yield the batches with their events."""
    next_index = dict.fromkeys(events, 0)
    for partition, from_offset, next_offset in batches:
        log, start = events.get(partition, ()), next_index.get(partition, 0)
        stop = start
        while stop < len(log) and log[stop].source.offset < next_offset:
            stop += 1
        next_index[partition] = stop
        yield Slice(partition, from_offset, next_offset, log[start:stop])


def group_slices(slices: Iterable[Slice]) -> Iterator[list[Slice]]:
    """Yield slices in order, in groups as large as one transaction may be, each partition once."""
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


def rerun_detectors(
    log: Mapping[int, Iterable[LogEvent]],
    book: RuleBook | None = None,
    timelines: Mapping[str, Mapping[int, Timeline]] | None = None,
    others: Mapping[str, Mapping[int, Iterable[tuple[int, Any]]]] | None = None,
    *,
    partitions: int = 0,
) -> dict[str, FraudAlert]:
    """Return the alerts that the rules raise over a whole log by partition.

    `others` are the records of the other watched topics by topic and partition, with their offsets;
    for those of `risk.signals.v1` the log has `partitions`. `timelines` say by topic and partition
    from which offsets on which rules of the `book` apply; without them it is the rules of the
    release. Each record of an alert is a value of its own: see `name_record`.
    """
    book, others, timelines = book or RuleBook(DEFAULT_RULES), others or {}, timelines or {}
    watched: dict[int, dict[str, Iterable[tuple[int, Any]]]] = {
        partition: {TRANSACTIONS: ((one.source.offset, one.event) for one in records)}
        for partition, records in log.items()
    }
    for topic, own in others.items():
        for partition, records in own.items() if topic != SIGNALS else ():
            watched.setdefault(partition, {})[topic] = records
    found: dict[str, FraudAlert] = {}
    for partition, by_topic in watched.items():
        own_timelines = {
            topic: of_topic[partition]
            for topic, of_topic in timelines.items()
            if partition in of_topic
        }
        for alert, _ in rerun_shard(by_topic, partition, own_timelines, book.rule_set_at):
            found[name_record(alert)] = alert
    for partition, signals in others.get(SIGNALS, {}).items():
        timeline = timelines.get(SIGNALS, {}).get(partition, Timeline())
        for alert in rerun_signals(signals, partition, partitions, timeline, book.rule_set_at):
            found[name_record(alert)] = alert
    return found


def name_record(alert: FraudAlert) -> str:
    """Return a name of one record of an alert: its id, and the revision where it is not the first.

    Copies of a record after a restart have one name, and must be equal.
    """
    return alert.alert_id if alert.revision == 1 else f"{alert.alert_id}/{alert.revision}"


def differing_alerts(
    published: Mapping[str, FraudAlert], raised: Mapping[str, FraudAlert]
) -> Sequence[str]:
    """Return the ids under which two sets of alerts differ."""
    return sorted(
        name for name in published.keys() | raised.keys() if published.get(name) != raised.get(name)
    )
