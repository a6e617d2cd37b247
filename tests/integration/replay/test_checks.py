"""Each check can fail: one row or record is spoiled, and its tick is gone; the others keep theirs where they should."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import psycopg
import pytest

from ledger_sink.booking.positions import claim_positions
from ledger_sink.booking.publisher import Publisher
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.migrate import migrate
from pitboss.embedded.databases import create_database, drop_database
from pitboss.settings import runtime_of
from replay.audit.checks import check_offsets, check_replay, check_tables, check_topics
from replay.audit.evidence import TopicEvidence, read_tables
from schemas import codec
from schemas.events import DeadLetter, Position, WalletBalance, WalletOutcome
from schemas.topics import BALANCES, OUTCOMES, TRANSACTIONS, UNRESOLVED
from tests.support.ledger_events import bet, deposit, house, leg, log_event, rollback, win

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
    deposit("nobody's", 70, player=None),
    house("player.blocked", "x", leg("PLAYER_STATE", None, None), player="p-2"),
    # A brand may be called anything: its account is not a player's.
    msgspec.structs.replace(
        house("bonus.granted", "g2", leg("BONUS_GRANT", 5), player="p-2"), brand="acme:bonus"
    ),
)


@pytest.fixture
async def story(runtime):
    """A ledger that has booked some events, and topics as its workers would have left them."""
    migrate(runtime.database_url)
    database = LedgerDatabase(runtime.database_url, "pitboss.test")
    ledger = PostgresLedger(database, {})
    claims = await claim_positions(database, [0])
    ledger.epochs[0] = claims[0].epoch
    log = [log_event(event, 0, offset) for offset, event in enumerate(EVENTS)]
    applied = await ledger.commit_group([Slice(0, 0, len(log), log)])
    topics = TopicEvidence(
        raw={Position(e.attempt.topic, e.attempt.partition, e.attempt.offset) for e in EVENTS}
        | {Position("raw", 0, 7)},
        log={0: log},
        log_offsets={line.source for line in log},
        unresolved={Position(UNRESOLVED, 0, 0)},
        attempts={event.attempt for event in EVENTS},
        dead_letters=[
            DeadLetter(
                Position("raw", 0, 7),
                None,
                None,
                None,
                [],
                0,
                "MALFORMED",
                "",
                "normalise",
                "0",
                None,
            )
        ],
    )

    async def keep(topic, records):
        for key, value in records:
            if topic == BALANCES:
                balance = topics.balances[key.decode()] = codec.decoder(WalletBalance)(value)
                topics.balance_history.setdefault(key.decode(), []).append((balance.version, 0))
            else:
                outcome = codec.decoder(WalletOutcome)(value)
                topics.outcomes[outcome.event_id, outcome.attempt] = outcome

    publisher = Publisher(
        database,
        keep,
        ledger.epochs,
        log_topic=TRANSACTIONS,
        balances_topic=BALANCES,
        outcomes_topic=OUTCOMES,
    )
    await publisher._publish([applied])
    tables = await read_tables(database)
    tables.parked.add((0, 0))
    yield database, topics, tables
    await database.close()


async def ticks(database):
    return {check.name: check.holds for check in await check_tables(database)}


async def test_everything_holds_before_anything_is_spoiled(story):
    database, topics, tables = story
    assert await ticks(database) == {
        "conserved": True,
        "balances_match": True,
        "versions_gapless": True,
    }
    assert check_offsets(topics, tables).holds, check_offsets(topics, tables).detail
    assert check_topics(topics, tables).holds, check_topics(topics, tables).detail


@pytest.mark.parametrize(
    ("spoil", "fallen"),
    [
        (
            "UPDATE wallet SET cash_minor = cash_minor + 1 WHERE player_id = 'p-1'",
            {"conserved", "balances_match"},
        ),
        (
            "UPDATE transfer SET amount_minor = amount_minor + 1 WHERE version = 2 AND player_id = 'p-1'",
            {"conserved", "balances_match"},
        ),
        (
            "DELETE FROM transfer WHERE version = 3",
            {"conserved", "balances_match", "versions_gapless"},
        ),
        ("UPDATE transfer SET cash_minor = cash_minor + 1 WHERE version = 3", {"balances_match"}),
        (
            "UPDATE transfer SET credit = 'provider:other' WHERE version = 2 AND player_id = 'p-1'",
            set(),
        ),
        ("UPDATE entry SET transfers = transfers + 1 WHERE source_offset = 4", {"conserved"}),
        ("DELETE FROM transfer WHERE player_id IS NULL", {"conserved"}),
        ("DELETE FROM entry WHERE source_offset = 1", {"conserved"}),
        ("UPDATE wallet SET version = version + 1 WHERE player_id = 'p-2'", {"versions_gapless"}),
        ("UPDATE transfer SET version = 9 WHERE version = 4", {"versions_gapless"}),
        (
            "DELETE FROM wallet WHERE player_id = 'p-2'",
            {"conserved", "balances_match", "versions_gapless"},
        ),
    ],
)
async def test_a_spoiled_row_takes_the_tick_away(story, runtime, spoil, fallen):
    database, _, _ = story
    with psycopg.connect(runtime.database_url) as connection:
        assert connection.execute(spoil).rowcount == 1
    assert {name for name, holds in (await ticks(database)).items() if not holds} == fallen


async def test_a_version_that_is_there_twice_does_not_hide_one_that_is_missing(story, runtime):
    """No key forbids it in two months; count, first and last version are those of a chain without gaps."""
    database, _, _ = story
    with psycopg.connect(runtime.database_url) as connection:
        assert (
            connection.execute(
                "UPDATE transfer SET version = 2, month = 0 WHERE version = 3"
            ).rowcount
            == 1
        )
    assert not (await ticks(database))["versions_gapless"]


@pytest.mark.parametrize("lost", ["attempts", "dead", "log_offsets", "unresolved"])
async def test_an_offset_that_vanished_is_noticed(story, lost):
    _, topics, tables = story
    if lost == "attempts":
        topics.attempts.remove(EVENTS[1].attempt)
    elif lost == "dead":
        topics.dead_letters.clear()
    elif lost == "log_offsets":
        topics.log_offsets.add(Position(TRANSACTIONS, 0, 99))
    else:
        topics.unresolved.add(Position(UNRESOLVED, 0, 1))
    assert not check_offsets(topics, tables).holds


async def test_a_raw_record_that_waits_behind_a_dead_letter_is_accounted_for(story, runtime):
    database, topics, _ = story
    topics.raw.add(Position("raw", 0, 8))
    with psycopg.connect(runtime.database_url) as connection:
        connection.execute(
            "INSERT INTO dead_letters.parked (topic, part, source_offset, jam_from, timestamp_ms, body, headers)"
            " VALUES ('raw', 0, 8, 7, 0, '', '')"
        )
    tables = await read_tables(database)
    tables.parked.add((0, 0))
    assert check_offsets(topics, tables).holds
    with psycopg.connect(runtime.database_url) as connection:
        connection.execute("UPDATE dead_letters.parked SET released_at = now()")
    tables = await read_tables(database)
    tables.parked.add((0, 0))
    assert "raw-0@8 is neither normalised nor a dead letter" in check_offsets(topics, tables).detail


async def test_an_item_of_a_batch_that_vanished_is_noticed(story):
    _, topics, tables = story
    topics.attempts.add(msgspec.structs.replace(EVENTS[1].attempt, record_index=2))
    assert "has items [0, 2]" in check_offsets(topics, tables).detail


async def test_the_last_item_of_a_batch_is_missed_and_a_letter_speaks_for_its_own_item_only(story):
    _, topics, tables = story
    first = EVENTS[1].attempt
    source = Position(first.topic, first.partition, first.offset)
    letter = DeadLetter(source, 2, None, None, [], 0, "MALFORMED", "", "normalise", "0", None)
    topics.item_counts[source] = 3
    topics.attempts.add(msgspec.structs.replace(first, record_index=1))
    assert "has items [0, 1] of 3" in check_offsets(topics, tables).detail
    assert check_offsets(replace(topics, dead_letters=[*topics.dead_letters, letter]), tables).holds
    topics.attempts -= {first, msgspec.structs.replace(first, record_index=1)}
    of_first = msgspec.structs.replace(letter, record_index=0)
    assert (
        "has items [0] of 3"
        in check_offsets(
            replace(topics, dead_letters=[*topics.dead_letters, of_first]), tables
        ).detail
    )


async def test_a_letter_of_the_whole_record_speaks_for_what_has_nothing_of_its_own(story):
    """Of many rejected items one letter reports, the first of each code has its own, and good ones were booked."""
    _, topics, tables = story
    first = EVENTS[1].attempt
    source = Position(first.topic, first.partition, first.offset)
    letter = DeadLetter(source, None, None, None, [], 0, "MALFORMED", "", "normalise", "0", None)
    topics.item_counts[source] = 40
    topics.dead_letters += [letter, msgspec.structs.replace(letter, record_index=7)]
    assert check_offsets(topics, tables).holds


async def test_a_wrong_or_missing_record_on_a_topic_is_noticed(story):
    _, topics, tables = story
    key, balance = next(iter(topics.balances.items()))
    changed = msgspec.structs.replace(balance, available_minor=balance.available_minor + 1)
    assert not check_topics(
        replace(topics, balances={**topics.balances, key: changed}), tables
    ).holds
    missing = {other: value for other, value in topics.balances.items() if other != key}
    assert not check_topics(replace(topics, balances=missing), tables).holds
    place, outcome = next(iter(topics.outcomes.items()))
    lied = msgspec.structs.replace(outcome, outcome="REFUSED_FUNDS")
    assert not check_topics(
        replace(topics, outcomes={**topics.outcomes, place: lied}), tables
    ).holds
    assert not check_topics(replace(topics, contradictions=["two answers"]), tables).holds


async def test_what_is_told_of_another_event_or_player_is_noticed(story):
    _, topics, tables = story
    place, outcome = next(iter(topics.outcomes.items()))
    for field in ("player_id", "provider_tx_id", "operation", "provider", "brand"):
        lied = msgspec.structs.replace(outcome, **{field: "other"})
        assert not check_topics(
            replace(topics, outcomes={**topics.outcomes, place: lied}), tables
        ).holds, field
    key, balance = next(iter(topics.balances.items()))
    elsewhere = msgspec.structs.replace(balance, source=Position(TRANSACTIONS, 0, 99))
    assert not check_topics(
        replace(topics, balances={**topics.balances, key: elsewhere}), tables
    ).holds


async def test_an_older_balance_that_came_last_is_noticed(story):
    """Compaction keeps the last record of a key, whatever its version: a reader that begins then gets a wrong balance."""
    _, topics, tables = story
    topics.balance_history["p-1:EUR"].append((1, 0))
    assert "the last record says version 1, an earlier one 4" in check_topics(topics, tables).detail


async def test_what_was_resolved_and_never_came_into_the_log_is_noticed(story):
    _, topics, tables = story
    place = Position(UNRESOLVED, 0, 0)
    topics.without_player[place] = ("event", EVENTS[0].attempt)
    assert "no longer waits, but is not in the log" in check_offsets(topics, tables).detail
    tables.unappended.add((0, 0))
    assert check_offsets(topics, tables).holds
    tables.unappended.clear()
    topics.without_player[place] = (EVENTS[0].event_id, EVENTS[0].attempt)
    assert check_offsets(topics, tables).holds


@pytest.fixture
def empty(runtime):
    other = runtime_of(runtime.broker, runtime.database_url, f"{runtime.namespace}_r")
    create_database(other)
    yield other.database_url
    drop_database(other)


async def replayed(empty, topics, tables):
    return await check_replay(empty, TRANSACTIONS, topics, tables, {}, lambda _done, _total: None)


async def test_a_log_without_a_record_is_noticed(story, empty):
    _, topics, tables = story
    assert (await replayed(empty, topics, tables)).holds
    with psycopg.connect(empty) as connection:
        connection.execute(
            "TRUNCATE entry, repeat, transfer, wallet, closing, player_state, batch, stream_position"
        )
    del topics.log[0][2]
    assert not (await replayed(empty, topics, tables)).holds


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE wallet SET cash_minor = 0 WHERE player_id = 'p-1'",
        "UPDATE wallet SET source_offset = 1 WHERE player_id = 'p-1'",
        "UPDATE entry SET outcome = 'REFUSED_LIMIT' WHERE source_offset = 1",
        "UPDATE entry SET fingerprint = 'other' WHERE source_offset = 1",
        "UPDATE entry SET occurred_at_ms = 0 WHERE source_offset = 1",
        (  # a second row for a record that has one
            "INSERT INTO entry SELECT gen_random_uuid(), 0, brand, provider, provider_version, region, operation,"
            " provider_tx_id, kind, player_id, round_id, game_id, reference_event_id, fingerprint, attempt_topic,"
            " attempt_part, attempt_offset, attempt_index, part, source_offset, occurred_at_ms, outcome, reason, currency,"
            " available_minor, version, transfers FROM entry WHERE source_offset = 4"
        ),
        "UPDATE transfer SET credit = 'provider:other' WHERE version = 2 AND player_id = 'p-1'",
        "UPDATE transfer SET credit = 'suspense:other' WHERE player_id IS NULL",
        "UPDATE repeat SET redelivered = NOT redelivered WHERE source_offset = 3",
        "DELETE FROM closing WHERE action = 'REVERSED' AND source_offset = 5",
        "UPDATE player_state SET standings = '{}'",
        "DELETE FROM batch",
    ],
)
async def test_a_row_that_the_log_does_not_say_is_noticed_by_the_replay(
    story, runtime, empty, spoil
):
    database, topics, _ = story
    with psycopg.connect(runtime.database_url) as connection:
        assert connection.execute(spoil).rowcount == 1
    assert not (await replayed(empty, topics, await read_tables(database))).holds


async def test_a_batch_that_is_missing_in_the_middle_is_a_failed_check_and_no_crash(
    story, runtime, empty
):
    database, topics, _ = story
    with psycopg.connect(runtime.database_url) as connection:
        connection.execute("UPDATE batch SET from_offset = 3")
    check = await replayed(empty, topics, await read_tables(database))
    assert "cannot be replayed" in check.detail
