"""The fraud agent on the real broker and database: what it publishes, where it goes on, whom it gives way to."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import msgspec
import psycopg
import pytest
from psycopg import sql

from fraud_agents import snapshots as migration
from fraud_agents.activations import Marker
from fraud_agents.rule_feed import LAST_RECORDS, RuleFeed
from fraud_agents.rules import rule_set_name
from fraud_agents.snapshots import SnapshotRow, SnapshotStore
from runtime.kafka.intake.intake import Intake
from runtime.postgres.migrations import MigrationChanged, MigrationSet
from schemas import codec
from schemas.errors import Fenced, InvariantBroken, Unavailable
from schemas.events import DeadLetter, OffsetRange
from schemas.identity import alert_id
from schemas.topics import ALERTS, PLAYER_EVENTS, RULES, TRANSACTIONS
from tests.support import fraud_log
from tests.support.fraud_log import (
    HOLD_ONLY,
    T0,
    append,
    append_bytes,
    bet,
    burst,
    partition_of,
    read_alerts,
    running_agent,
    settings_of,
)

pytestmark = pytest.mark.integration
SEVEN = (TRANSACTIONS, 7)


@pytest.fixture
async def log(runtime):
    await fraud_log.make_topics(runtime)
    return runtime


def query(runtime, statement, *parameters):
    with psycopg.connect(runtime.database_url) as connection:
        return connection.execute(statement, parameters).fetchall()


async def test_bursts_on_the_log_become_alerts_on_their_topic(log):
    # Quiet players between the fast one, who plays across a minute border: 300 and 300.
    quiet = [bet(f"quiet-{n % 40}", T0 + n * 60, f"q{n}") for n in range(2_000)]
    fast = burst("fast", T0 + 30_000, 600)
    await append(log, sorted(quiet + fast, key=lambda event: event.occurred_at))
    async with running_agent(settings_of(log)):
        await fraud_log.wait_until_processed(log)
    [record] = await fraud_log.read_all(log, ALERTS)
    [alert] = await read_alerts(log)
    assert record.key == b"default:fast"
    assert alert.alert_id == alert_id("D01", HOLD_ONLY.version, "default:fast", T0 + 30_000)
    assert (alert.observed, alert.window_start, alert.window_end) == (500, T0 + 20_000, T0 + 80_000)
    assert json.loads(alert.evidence["games"]) == {"hub88/slot-1": 500}
    # The sources really are the records: the 500th bet is the last of them.
    [source] = alert.sources
    own = [
        r
        for r in await fraud_log.read_all(log, TRANSACTIONS)
        if r.partition == source.partition and r.key == b"fast"
    ]
    assert source == OffsetRange(TRANSACTIONS, partition_of("fast"), own[0].offset, own[499].offset)


async def test_an_unreadable_record_is_a_dead_letter_and_the_next_ones_are_watched(log):
    fast = burst("fast", T0, 500)
    await append(log, fast[:250])
    await append_bytes(log, [("fast", b"no avro"), ("fast", None)])
    await append_bytes(log, [("fast", b"no avro")], PLAYER_EVENTS)
    await append(log, fast[250:])
    async with running_agent(settings_of(log)):
        await fraud_log.wait_until_processed(log)

        async def is_a_letter() -> bool:
            return bool(await fraud_log.read_all(log, PLAYER_EVENTS + ".dlt"))

        await fraud_log.wait_until(is_a_letter, "a dead letter of a player event")
    assert [alert.observed for alert in await read_alerts(log)] == [500]
    letters = [
        codec.decoder(DeadLetter)(r.value)
        for r in await fraud_log.read_all(log, TRANSACTIONS + ".dlt")
    ]
    assert [(letter.code, letter.value, letter.stage) for letter in letters] == [
        ("BAD_CONTRACT", b"no avro", "fraud"),
        ("BAD_CONTRACT", None, "fraud"),
    ]


async def test_a_stopped_agent_goes_on_in_the_middle_of_a_burst(log):
    fast = burst("fast", T0, 500)
    await append(log, fast[:499])
    async with running_agent(settings_of(log)):
        await fraud_log.wait_until_processed(log)
    assert await read_alerts(log) == []
    assert fraud_log.snapshots(log) == await fraud_log.ends(log)
    await append(log, fast[499:])
    async with running_agent(settings_of(log)):
        await fraud_log.wait_until_processed(log)
    [alert] = await read_alerts(log)
    assert alert.sources == [OffsetRange(TRANSACTIONS, partition_of("fast"), 0, 499)]
    assert alert.evidence["duplicate_events"] == "0"


async def test_without_a_snapshot_the_log_is_watched_anew_whatever_the_group_has_committed(log):
    await append(log, burst("fast", T0, 500))
    async with running_agent(settings_of(log)):
        await fraud_log.wait_until_processed(log)
    query(log, "DELETE FROM fraud.snapshot RETURNING part")
    async with running_agent(settings_of(log)):

        async def twice() -> bool:
            return len(await read_alerts(log)) == 2

        await fraud_log.wait_until(twice, "the same alert again")
    first, second = await read_alerts(log)
    assert first == second


async def test_without_a_snapshot_a_log_that_was_cut_is_watched_from_where_it_begins(log):
    await append(log, burst("fast", T0 - 10_000, 10, first=900))
    async with running_agent(settings_of(log)):
        await fraud_log.wait_until_processed(log)
    await fraud_log.delete_before(log, partition_of("fast"), 7)
    query(log, "DELETE FROM fraud.snapshot RETURNING part")
    await append(log, burst("fast", T0, 497))
    async with running_agent(settings_of(log)):
        await fraud_log.wait_until(lambda: read_alerts(log), "an alert")
        await fraud_log.wait_until_processed(log)
    [alert] = await read_alerts(log)
    assert alert.sources == [OffsetRange(TRANSACTIONS, partition_of("fast"), 7, 506)]
    assert fraud_log.snapshots(log) == await fraud_log.ends(log)


async def test_snapshots_come_while_it_runs(log):
    await append(log, [bet("a", T0, "a"), bet("b", T0, "b"), bet("c", T0, "c")])
    async with running_agent(settings_of(log, snapshot_records=1)):

        async def saved() -> bool:
            return fraud_log.snapshots(log) == await fraud_log.ends(log)

        await fraud_log.wait_until(saved, "a snapshot at the end of every partition")


async def test_other_rules_go_on_from_the_snapshot_and_the_change_is_on_record(log):
    old, new = (
        (HOLD_ONLY,),
        (msgspec.structs.replace(HOLD_ONLY, version=9, threshold=400, close_below=300),),
    )
    fast = burst("fast", T0, 400)
    await append(log, fast[:399])
    async with running_agent(settings_of(log)):
        await fraud_log.wait_until_processed(log)
    await append(log, fast[399:])
    async with running_agent(settings_of(log, rules=new)):
        await fraud_log.wait_until_processed(log)
    assert [(alert.rule_version, alert.observed) for alert in await read_alerts(log)] == [(9, 400)]
    changes = query(
        log,
        "SELECT from_offset, rule_set FROM fraud.activation WHERE topic = %s AND part = %s"
        " ORDER BY from_offset",
        TRANSACTIONS,
        partition_of("fast"),
    )
    assert changes == [(0, rule_set_name(old)), (399, rule_set_name(new))]


async def test_alerts_go_out_while_the_database_is_away_until_too_much_is_unsaved(log):
    def admit(is_open: bool) -> None:
        name = sql.Identifier(log.database)
        with psycopg.connect(log.maintenance_url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(
                    name, sql.SQL(str(is_open))
                )
            )
            if not is_open:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                    (log.database,),
                )

    async with running_agent(settings_of(log, snapshot_records=100)) as app:
        await append(log, burst("fast", T0 - 100_000, 300, every_ms=300))
        await fraud_log.wait_until_processed(log)
        [intake] = [service for service in app._supervised if isinstance(service, Intake)]
        try:
            admit(False)
            await append(log, burst("fast", T0, 500, first=1_000))

            async def alerted() -> bool:
                return bool(await read_alerts(log))

            await fraud_log.wait_until(alerted, "an alert")
            await append(log, burst("fast", T0 + 100_000, 1_000, first=2_000))

            async def waits() -> bool:
                return any(
                    "UNAVAILABLE" in (status.waiting or "") for status in intake.status().values()
                )

            await fraud_log.wait_until(waits, "a partition that reports what it waits for")
            assert app.crash_reason is None
        finally:
            admit(True)
        await fraud_log.wait_until_processed(log)
        ends, saved = await fraud_log.ends(log), fraud_log.snapshots(log)
        assert all(ends[part] - saved[part] < 100 for part in ends)
    assert fraud_log.snapshots(log) == ends
    assert len(await read_alerts(log)) == 1


@pytest.fixture
async def stores(runtime):
    migration.migrate(runtime.database_url)
    pair = [SnapshotStore(runtime.database_url, "fraud.detect") for _ in range(2)]
    yield pair
    for store in pair:
        await store.on_stop()


async def test_who_has_lost_a_partition_can_write_no_snapshot(stores):
    old, new = stores
    [first] = await old.claim([SEVEN])
    assert (first.partition, first.epoch, first.next_offset, first.state) == (7, 1, 0, None)
    await old.save([SnapshotRow(TRANSACTIONS, 7, first.epoch, 10, "rules", b"ten")])
    [second] = await new.claim([SEVEN])
    assert (second.epoch, second.next_offset, second.rule_set, second.state) == (
        2,
        10,
        "rules",
        b"ten",
    )
    with pytest.raises(Fenced, match="7@99"):
        await old.save([SnapshotRow(TRANSACTIONS, 7, first.epoch, 99, "rules", b"zombie")])
    await new.save([SnapshotRow(TRANSACTIONS, 7, second.epoch, 20, "rules", b"twenty")])
    with pytest.raises(InvariantBroken, match="already at 20"):
        await new.save([SnapshotRow(TRANSACTIONS, 7, second.epoch, 19, "rules", b"back")])
    [third] = await old.claim([SEVEN])
    assert (third.next_offset, third.state) == (20, b"twenty")


async def test_only_the_owner_of_a_partition_activates_its_rules(stores):
    old, new = stores
    [first] = await old.claim([SEVEN])
    await old.activate(*SEVEN, first.epoch, Marker(0, 0, "a"))
    await old.activate(*SEVEN, first.epoch, Marker(12, 1, "b"))
    await old.activate(
        *SEVEN, first.epoch, Marker(12, 2, "c")
    )  # its reply was lost, or nothing came
    [second] = await new.claim([SEVEN])
    assert second.markers == (Marker(0, 0, "a"), Marker(12, 2, "c"))
    with pytest.raises(Fenced, match="7@99"):
        await old.activate(*SEVEN, first.epoch, Marker(99, 3, "zombie"))
    [third] = await new.claim([SEVEN])
    assert third.markers == second.markers


async def test_a_state_that_is_not_readable_is_deleted_by_its_owner(stores):
    old, new = stores
    [first] = await old.claim([SEVEN])
    await old.activate(*SEVEN, first.epoch, Marker(0, 0, "a"))
    await old.save([SnapshotRow(TRANSACTIONS, 7, first.epoch, 10, "a", b"of another release")])
    [second] = await new.claim([SEVEN])
    with pytest.raises(Fenced, match="7"):
        await old.discard([(*SEVEN, first.epoch)])
    await new.discard([(*SEVEN, second.epoch)])
    await new.save([SnapshotRow(TRANSACTIONS, 7, second.epoch, 3, "a", b"readable")])
    [third] = await old.claim([SEVEN])
    assert (third.next_offset, third.state, third.markers) == (3, b"readable", (Marker(0, 0, "a"),))


async def test_the_last_records_of_a_partition_are_read_beside_the_rules(log):
    name = log.topic(RULES)
    feed = RuleFeed(log.broker, name, log.namespace, (HOLD_ONLY,))
    place, values = (TRANSACTIONS, partition_of("fast")), [b"%d" % n for n in range(100)]
    seen: list[list[bytes]] = []

    async def look() -> None:
        seen.append([*await feed.last_values(place)])

    feed.on_poll = look
    await feed.start()
    try:

        async def has_seen(wanted: list[bytes]) -> bool:
            return bool(seen) and seen[-1] == wanted

        await fraud_log.wait_until(lambda: has_seen([]), "nothing in an empty partition")
        for until in (3, 100):
            own = values[:3] if until == 3 else values[3:]
            await append_bytes(log, [("fast", value) for value in own])
            wanted = values[max(0, until - LAST_RECORDS) : until]
            await fraud_log.wait_until(partial(has_seen, wanted), "the last records")
    finally:
        await feed.stop()


async def test_a_save_whose_reply_was_lost_can_be_repeated(stores):
    store, _ = stores
    [claim] = await store.claim([(TRANSACTIONS, 0)])
    await store.save([SnapshotRow(TRANSACTIONS, 0, claim.epoch, 5, "rules", b"five")])
    await store.save([SnapshotRow(TRANSACTIONS, 0, claim.epoch, 5, "rules", b"five")])


async def test_a_lost_connection_is_unavailable_once_and_then_opened_again(stores, runtime):
    store, _ = stores
    [claim] = await store.claim([(TRANSACTIONS, 0)])
    query(
        runtime,
        # Of this database alone: other tests have agents on the same server.
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pitboss.fraud'"
        " AND datname = current_database()",
    )
    with pytest.raises(Unavailable):
        await store.save([SnapshotRow(TRANSACTIONS, 0, claim.epoch, 5, "rules", b"five")])
    await store.save([SnapshotRow(TRANSACTIONS, 0, claim.epoch, 5, "rules", b"five")])


async def test_a_megabyte_of_state_comes_back_as_it_was(stores):
    store, other = stores
    state = bytes(range(256)) * 4_096
    [claim] = await store.claim([(TRANSACTIONS, 0)])
    await store.save([SnapshotRow(TRANSACTIONS, 0, claim.epoch, 5, "rules", state)])
    [again] = await other.claim([(TRANSACTIONS, 0)])
    assert again.state == state


async def test_claims_of_many_at_once_do_not_lock_each_other_out(stores):
    first, second = stores
    places = [(topic, part) for topic in (TRANSACTIONS, PLAYER_EVENTS) for part in range(24)]
    claims = await asyncio.gather(first.claim(places), second.claim(places[::-1]))
    assert {claim.epoch for side in claims for claim in side} == {1, 2}


def test_migrations_run_once_however_many_begin_together(empty_runtime):
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(migration.migrate, [empty_runtime.database_url] * 4))
    assert sorted(map(len, applied)) == [0, 0, 0, len(migration.TABLES.files())]
    assert migration.migrate(empty_runtime.database_url) == []


def test_a_migration_that_was_edited_is_refused(runtime, monkeypatch):
    migration.migrate(runtime.database_url)
    file, *others = migration.TABLES.files()
    edited = replace(file, sql=file.sql + "-- edited")
    monkeypatch.setattr(MigrationSet, "files", lambda _: [edited, *others])
    with pytest.raises(MigrationChanged, match=file.name):
        migration.migrate(runtime.database_url)


def test_without_a_database_the_migration_says_so():
    with pytest.raises(Unavailable):
        migration.migrate("postgresql://postgres@127.0.0.1:1/none")
