"""A whole run on real servers: worker processes, traffic, and checks of all topics and tables."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from lab.sandbox.actions import PROVIDERS
from lab.sandbox.feeder import feed_records
from lab.sandbox.keys import SandboxKeys
from lab.sandbox.records import RawEvent
from lab.sandbox.scenario import Scenario, duration_ms, generate
from ledger_sink.rules.debts import RULE as DEBT_RULE
from ledger_sink.store.database import LedgerDatabase
from pitboss.embedded.databases import create_database, drop_database
from pitboss.settings import Runtime, runtime_of
from replay.audit.checks import Check, check_offsets, check_replay, check_tables, check_topics
from replay.audit.evidence import TopicEvidence, raised_again, read_all_topics, read_tables
from replay.audit.rerun import differing_alerts, name_record
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.kafka.topic_reader import read_topics
from schemas import codec
from schemas.errors import SendFailed, Unavailable
from schemas.events import FraudAlert
from schemas.topics import ALERTS, TRANSACTIONS
from streams.providers.registry import policies

SECOND_APPEND_S = 0.2


def make_traffic(seed: int, events: int, keys: SandboxKeys) -> list[RawEvent]:
    """Return raw records up to now, with retries, poison, and a player that bets too fast."""
    scenario = Scenario(
        seed=seed, start_ms=0, events=events, retry_share=0.03, reorder_share=0.03, speeders=1
    )
    start_ms = int(time.time() * 1000) - duration_ms(scenario)
    return generate(msgspec.structs.replace(scenario, start_ms=start_ms), keys)


async def feed_all(
    records: Sequence[RawEvent],
    runtime: Runtime,
    *,
    rate: float | None,
    before_phase: Callable[[int], Awaitable[None]],
) -> int:
    """Append all records as a connector does, and return how often it had to send again.

    It sends again what was not acknowledged.
    """
    fed, again = 0, 0
    while fed < len(records):
        rest, before = records[fed:], fed

        def progress(done: int, _: int, before: int = before) -> None:
            nonlocal fed
            fed = before + done

        try:
            async with BatchProducer(ProducerSettings(runtime.broker, "pitboss.test")) as producer:
                await feed_records(
                    rest,
                    producer,
                    namespace=runtime.namespace,
                    rate=rate,
                    before_phase=before_phase,
                    progress=progress,
                )
        except (SendFailed, Unavailable):
            again += 1
            await asyncio.sleep(SECOND_APPEND_S)
    return again


async def check_everything(
    runtime: Runtime, providers: Sequence[str] = PROVIDERS
) -> tuple[list[Check], TopicEvidence]:
    """Read everything and run the six checks of `replay` and three more.

    The three are: alerts, single decisions, movements.
    """
    topics = await read_all_topics(runtime.broker, runtime.namespace, providers)
    database = LedgerDatabase(runtime.database_url, "pitboss.test")
    try:
        tables = await read_tables(database)
        checks = await check_tables(database)
        checks += [check_offsets(topics, tables), check_topics(topics, tables)]
        checks += [await _check_single_decisions(database), await _check_movements(database)]
    finally:
        await database.close()
    checks.append(await _check_alerts(runtime, topics))
    empty = runtime_of(runtime.broker, runtime.database_url, f"{runtime.namespace}_replay")
    create_database(empty)
    try:
        log = runtime.topic(TRANSACTIONS)
        checks.append(
            await check_replay(empty.database_url, log, topics, tables, policies(), lambda *_: None)
        )
    finally:
        drop_database(empty)
    return checks, topics


def failures(checks: Sequence[Check]) -> dict[str, str]:
    """Return names and details of the checks that do not hold."""
    return {check.name: check.detail for check in checks if not check.holds}


async def _check_single_decisions(database: LedgerDatabase) -> Check:
    # A win that came before its bet is refused, and decided again when it comes again. So is an event
    # without a player that has moved nothing. All decisions but the last are of these two sorts.
    rows = await database.query(
        """
        SELECT brand, provider, operation, provider_tx_id, count(*)
          FROM entry
         WHERE outcome NOT LIKE 'REFUSED%' AND NOT (reason = 'PLAYER_UNKNOWN' AND transfers = 0)
         GROUP BY 1, 2, 3, 4 HAVING count(*) > 1
        """
    )
    return Check("decided_once", not rows, f"{rows[:3]}")


async def _check_movements(database: LedgerDatabase) -> Check:
    rows = await database.query(
        """
        SELECT e.event_id::text, e.transfers, count(t.event_id)
          FROM entry e LEFT JOIN transfer t USING (event_id, decision)
         GROUP BY e.event_id, e.decision, e.transfers HAVING e.transfers <> count(t.event_id)
        """
    )
    return Check("movements_of_entries", not rows, f"{rows[:3]}")


async def _check_alerts(runtime: Runtime, topics: TopicEvidence) -> Check:
    """Check that the topic has exactly the alerts that the detectors raise over the log."""
    decode = codec.decoder(FraudAlert)
    published: dict[str, FraudAlert] = {}
    contradictions = []
    async for record in read_topics(runtime.broker, {runtime.topic(ALERTS)}):
        alert = decode(record.value)
        if alert.rule_id == DEBT_RULE:
            continue  # the ledger raises it, not a detector
        if published.setdefault(name_record(alert), alert) != alert:
            contradictions.append(alert.alert_id)
    wrong = [*contradictions, *differing_alerts(published, raised_again(topics))]
    return Check("alerts_equal", not wrong, f"{len(published)} alerts; differing: {wrong[:3]}")
