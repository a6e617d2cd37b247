"""Changes of the detectors' rules: reading those so far, appending one, and where they apply."""

from __future__ import annotations

import time
import uuid
from typing import Any

from fraud_agents.activations import Marker, Timeline
from fraud_agents.detectors import DEFAULT_RULES, DETECTORS
from fraud_agents.detectors.catalogue import SIGNAL_DETECTORS
from fraud_agents.detectors.signal_base import Scope
from fraud_agents.rule_book import RuleBook, encode_rule
from fraud_agents.rules import Rule
from fraud_agents.settings import GROUP
from ledger_sink.store.database import LedgerDatabase
from pitboss.settings import Runtime
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.kafka.topic_reader import read_topics
from runtime.postgres.statements import statements_of
from schemas import codec
from schemas.errors import Rejected, UsageError
from schemas.rule_changes import RuleChange, RuleChangeKind
from schemas.topics import RULES, SIGNALS, TRANSACTIONS


def make_change(
    kind: RuleChangeKind, rule_id: str, version: int, *, actor: str, reason: str, **fields: Any
) -> RuleChange:
    """Make a change by a person, of now. Raises UsageError without a name or a reason."""
    if not actor.strip() or not reason.strip():
        raise UsageError("a change of the rules carries a person's name and a reason")
    return RuleChange(
        change_id=str(uuid.uuid4()),
        kind=kind.value,
        rule_id=rule_id,
        rule_version=version,
        actor=actor,
        reason=reason,
        made_at=time.time_ns() // 1_000_000,
        **fields,
    )


def publish_change(rule: Rule, *, actor: str, reason: str) -> RuleChange:
    """Make the change that publishes a version."""
    kind = RuleChangeKind.PUBLISHED
    return make_change(
        kind, rule.rule_id, rule.version, actor=actor, reason=reason, rule=encode_rule(rule)
    )


async def read_book(runtime: Runtime) -> RuleBook:
    """Return the rules after all changes so far. Raises UsageError without a topic, Unavailable."""
    book, decode = RuleBook(DEFAULT_RULES), codec.decoder(RuleChange)
    async for record in read_topics(runtime.broker, [runtime.topic(RULES)]):
        try:
            change = decode(record.value or b"")
        except Rejected:
            book.skip(record.offset)
        else:
            book.apply(change, record.offset)
    return book


async def append_change(runtime: Runtime, change: RuleChange) -> int:
    """Append a change, and return its offset once all readers follow it.

    Raises UsageError for one that contradicts those before it, also one that came meanwhile.
    """
    (await read_book(runtime)).check(change)
    producer = BatchProducer(ProducerSettings(runtime.broker, "pitboss.rules"))
    await producer.start()
    try:
        value = codec.encoder(RuleChange)(change)
        key = change.rule_id.encode()
        offset = (await producer.send(runtime.topic(RULES), key, value, partition=0)).offset
    finally:
        await producer.stop()
    for refused in (await read_book(runtime)).refused:
        if refused.change.change_id == change.change_id:
            raise UsageError(f"another change came first: {refused.reason}")
    return int(offset)


def topic_of(rule: Rule) -> str:
    """Return the topic at whose offsets a version of a rule takes effect."""
    classes = DETECTORS[rule.detector_id]
    over_signals = SIGNAL_DETECTORS.get(rule.detector_id)
    if over_signals is not None:
        return SIGNALS if over_signals.scope is Scope.ALL else TRANSACTIONS
    return classes[0].topic


async def applied_from(
    database: LedgerDatabase, position: int, topic: str = TRANSACTIONS
) -> dict[int, int | None]:
    """Return by partition the first offset that the rules as of `position` judge, None: none yet.

    Empty where no fraud worker has run.
    """
    statement = statements_of("fraud_agents", "activations")["applied_from"]
    where = {"consumer": GROUP, "topic": topic, "position": position}
    return dict(await database.query(statement, where))


async def read_timelines(database: LedgerDatabase) -> dict[str, dict[int, Timeline]]:
    """Return the activation markers of every partition that is watched, by topic."""
    statement = statements_of("fraud_agents", "activations")["markers"]
    timelines: dict[str, dict[int, Timeline]] = {}
    for topic, partition, from_offset, position, rule_set, _ in await database.query(
        statement, {"consumer": GROUP}
    ):
        own = timelines.setdefault(topic, {}).setdefault(partition, Timeline())
        own.add(Marker(from_offset, position, rule_set))
    return timelines
