"""Each check can fail: one row or record is spoiled, and its tick is gone; the others keep theirs where they should."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import psycopg
import pytest

from ledger_sink.database import Database
from ledger_sink.migrate import migrate
from ledger_sink.positions import claim_positions
from ledger_sink.publisher import Publisher
from ledger_sink.store import PostgresLedger, Slice
from pitboss.embedded.databases import create_database, drop_database
from pitboss.settings import runtime_of
from replay.checks import check_offsets, check_replay, check_tables, check_topics
from replay.evidence import Topics, read_tables
from schemas import codec
from schemas.events import DeadLetter, Position, WalletBalance, WalletOutcome
from schemas.topics import BALANCES, OUTCOMES, TRANSACTIONS, UNRESOLVED
from tests.unit.ledger_events import bet, deposit, house, leg, rollback, sourced, win

pytestmark = pytest.mark.integration

EVENTS = (
    deposit("d", 10_000),
    bet("b", 150),
    win("w", 400, "b"),
    bet("b", 150),
    bet("b2", 20_000),
    rollback("r0", "b3"),
    bet("b3", 50),
    house("bonus.granted", "g", leg("BONUS_GRANT", 500), player="p-2"),
    rollback("r", "b"),
)


@pytest.fixture
async def story(runtime):
    """A ledger that has booked some events, and topics as its workers would have left them."""
    migrate(runtime.database_url)
    database = Database(runtime.database_url, "pitboss.test")
    ledger = PostgresLedger(database, {})
    claims = await claim_positions(database, [0])
    ledger.epochs[0] = claims[0].epoch
    log = [sourced(event, 0, offset) for offset, event in enumerate(EVENTS)]
    applied = await ledger.apply([Slice(0, 0, len(log), log)])
    topics = Topics(
        raw={Position(e.attempt.topic, e.attempt.partition, e.attempt.offset) for e in EVENTS}
        | {Position("raw", 0, 7)},
        log={0: log},
        log_offsets={line.source for line in log},
        unresolved={Position(UNRESOLVED, 0, 0)},
        attempts={event.attempt for event in EVENTS},
        dead=[DeadLetter(Position("raw", 0, 7), None, None, None, [], 0, "MALFORMED", "", "normalise", "0", None)],
    )

    async def keep(topic, records):
        for key, value in records:
            if topic == BALANCES:
                topics.balances[key.decode()] = codec.decoder(WalletBalance)(value)
            else:
                outcome = codec.decoder(WalletOutcome)(value)
                topics.outcomes[outcome.event_id, outcome.attempt] = outcome

    publisher = Publisher(
        database, keep, ledger.epochs, log_topic=TRANSACTIONS, balances_topic=BALANCES, outcomes_topic=OUTCOMES
    )
    await publisher._publish(applied)
    tables = await read_tables(database)
    tables.parked.add((0, 0))
    yield database, topics, tables
    await database.close()


async def ticks(database):
    return {check.name: check.holds for check in await check_tables(database)}


async def test_everything_holds_before_anything_is_spoiled(story):
    database, topics, tables = story
    assert await ticks(database) == {"conserved": True, "balances_match": True, "versions_gapless": True}
    assert check_offsets(topics, tables).holds, check_offsets(topics, tables).detail
    assert check_topics(topics, tables).holds, check_topics(topics, tables).detail


@pytest.mark.parametrize(
    ("spoil", "fallen"),
    [
        ("UPDATE wallet SET cash_minor = cash_minor + 1 WHERE player_id = 'p-1'", {"conserved", "balances_match"}),
        ("UPDATE transfer SET amount_minor = amount_minor + 1 WHERE version = 2", {"conserved", "balances_match"}),
        ("DELETE FROM transfer WHERE version = 3", {"conserved", "balances_match", "versions_gapless"}),
        ("UPDATE transfer SET cash_minor = cash_minor + 1 WHERE version = 2", {"balances_match"}),
        ("UPDATE transfer SET credit = 'provider:other' WHERE version = 2", set()),
        ("UPDATE wallet SET version = version + 1 WHERE player_id = 'p-2'", {"versions_gapless"}),
        ("UPDATE transfer SET version = 9 WHERE version = 4", {"versions_gapless"}),
        ("DELETE FROM wallet WHERE player_id = 'p-2'", {"conserved", "balances_match", "versions_gapless"}),
    ],
)
async def test_a_spoiled_row_takes_the_tick_away(story, runtime, spoil, fallen):
    database, _, _ = story
    with psycopg.connect(runtime.database_url) as connection:
        assert connection.execute(spoil).rowcount == 1
    assert {name for name, holds in (await ticks(database)).items() if not holds} == fallen


@pytest.mark.parametrize("lost", ["attempts", "dead", "log_offsets", "unresolved"])
async def test_an_offset_that_vanished_is_noticed(story, lost):
    _, topics, tables = story
    if lost == "attempts":
        topics.attempts.remove(EVENTS[1].attempt)
    elif lost == "dead":
        topics.dead.clear()
    elif lost == "log_offsets":
        topics.log_offsets.add(Position(TRANSACTIONS, 0, 99))
    else:
        topics.unresolved.add(Position(UNRESOLVED, 0, 1))
    assert not check_offsets(topics, tables).holds


async def test_an_item_of_a_batch_that_vanished_is_noticed(story):
    _, topics, tables = story
    topics.attempts.add(msgspec.structs.replace(EVENTS[1].attempt, record_index=2))
    assert "has items [0, 2]" in check_offsets(topics, tables).detail


async def test_a_wrong_or_missing_record_on_a_topic_is_noticed(story):
    _, topics, tables = story
    key, balance = next(iter(topics.balances.items()))
    changed = msgspec.structs.replace(balance, available_minor=balance.available_minor + 1)
    assert not check_topics(replace(topics, balances={**topics.balances, key: changed}), tables).holds
    missing = {other: value for other, value in topics.balances.items() if other != key}
    assert not check_topics(replace(topics, balances=missing), tables).holds
    place, outcome = next(iter(topics.outcomes.items()))
    lied = msgspec.structs.replace(outcome, outcome="REFUSED_FUNDS")
    assert not check_topics(replace(topics, outcomes={**topics.outcomes, place: lied}), tables).holds
    assert not check_topics(replace(topics, contradictions=["two answers"]), tables).holds


@pytest.mark.parametrize("spoil", [None, "wallet", "answer", "log"])
async def test_a_replay_that_differs_is_noticed(story, runtime, spoil):
    _, topics, tables = story
    empty = runtime_of(runtime.bootstrap_servers, runtime.database_url, f"{runtime.namespace}_r")
    create_database(empty)
    try:
        if spoil == "wallet":
            tables.wallets["p-1:EUR"] = (*tables.wallets["p-1:EUR"][:1], 0, *tables.wallets["p-1:EUR"][2:])
        elif spoil == "answer":
            tables.answers[1] = msgspec.structs.replace(tables.answers[1], outcome="REFUSED_LIMIT")
        elif spoil == "log":
            del topics.log[0][2]
        check = await check_replay(empty.database_url, TRANSACTIONS, topics, tables, {}, lambda _done, _total: None)
    finally:
        drop_database(empty)
    assert check.holds == (spoil is None), check.detail
