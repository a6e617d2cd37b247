"""Events without a player: found, waiting, or final, on the real database."""

from __future__ import annotations

import asyncio

import msgspec
import psycopg
import pytest

from ledger_sink.booking.positions import claim_positions
from ledger_sink.resolve.barriers import has_passed
from ledger_sink.resolve.resolver import CONSUMER, ParkedEvent, Resolver
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.migrate import migrate
from ledger_sink.store.statements import statements
from schemas import codec
from schemas.errors import Fenced, OffsetHole, Unavailable
from schemas.events import WalletTransaction
from schemas.topics import TRANSACTIONS, UNRESOLVED, raw_topic
from tests.support.ledger_events import deposit, house, leg, log_event, transaction

pytestmark = pytest.mark.integration


PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
RAW = f"{raw_topic('adyen')}-0"


class Log:
    """Progress as the test sets it, and the records that were appended."""

    def __init__(self) -> None:
        self.raw, self.done, self.log = {RAW: 5}, {RAW: 0}, {f"{TRANSACTIONS}-0": 1}
        self.unresolved = {f"{UNRESOLVED}-0": 1}
        self.records: list[tuple[str, WalletTransaction]] = []
        self.while_reading_raw_ends = None

    async def append(self, records):
        self.records += [
            (key.decode(), codec.decoder(WalletTransaction)(value)) for key, value in records
        ]

    async def raw_ends(self):
        answer = dict(self.raw)
        if self.while_reading_raw_ends:
            await self.while_reading_raw_ends()
        return answer

    async def raw_bounds(self, topics):
        return {name: (0, end) for name, end in self.raw.items()}

    async def normalised_offsets(self):
        return self.done

    async def log_ends(self):
        return self.log

    async def unresolved_ends(self):
        return self.unresolved


@pytest.fixture
async def roles(runtime):
    migrate(runtime.database_url)
    database = LedgerDatabase(runtime.database_url, "pitboss.resolve")
    ledger = PostgresLedger(LedgerDatabase(runtime.database_url, "pitboss.ledger"), {})
    claims = await claim_positions(ledger.database, [0])
    ledger.epochs.update({0: claims[0].epoch})
    log = Log()
    resolver = Resolver(
        database, log.append, log, topic=UNRESOLVED, log_topic=TRANSACTIONS, min_age_ms=0
    )
    claims = await claim_positions(database, [0], consumer=CONSUMER, topic=UNRESOLVED)
    resolver.epochs[0] = claims[0].epoch
    yield resolver, ledger, log
    await database.close()
    await ledger.database.close()


def notice(tx_id="psp-1", of="dep-1"):
    return deposit(tx_id, 2_500, player=None, reference=("deposit.opened", of))


def opened_deposit(tx_id="dep-1"):
    return house("deposit.opened", tx_id, leg("INFORMATIONAL", 2_500))


def refund(tx_id="ref-1", of="psp-1"):
    return transaction(
        "REFUND",
        tx_id,
        leg("DEPOSIT_REVERSAL", 2_500),
        provider="adyen",
        player=None,
        reference=("AUTHORISATION", of),
        round_id=None,
    )


def parked_events(*events, start=0):
    return [
        ParkedEvent(n, event, codec.encoder(WalletTransaction)(event))
        for n, event in enumerate(events, start)
    ]


async def sweep(resolver, times=4):
    for _ in range(times):
        await resolver.sweep()


async def book(ledger, *events, start=0):
    rows = [log_event(event, 0, start + n) for n, event in enumerate(events)]
    await ledger.commit_group([Slice(0, start, start + len(events), rows)])


async def test_a_notice_is_appended_under_the_player_who_opened_the_deposit(roles):
    resolver, ledger, log = roles
    await book(ledger, opened_deposit())
    await resolver.park(0, 0, 1, parked_events(notice()))
    await resolver.sweep()
    assert [(key, event.player_id, event.event_id) for key, event in log.records] == [
        ("p-1", "p-1", notice().event_id)
    ]
    await resolver.sweep()
    assert len(log.records) == 1


async def test_a_notice_that_comes_first_waits_for_its_deposit(roles):
    resolver, ledger, log = roles
    await resolver.park(0, 0, 1, parked_events(notice()))
    assert await resolver.sweep() == 1
    assert log.records == []
    await book(ledger, opened_deposit())
    await resolver.sweep()
    assert [key for key, _ in log.records] == ["p-1"]


async def test_not_found_is_final_only_behind_both_barriers(roles):
    resolver, ledger, log = roles
    await resolver.park(0, 0, 1, parked_events(notice()))
    for _ in range(3):
        await resolver.sweep()
    assert log.records == []  # the raw records are not normalised yet
    log.done[RAW] = 5
    for _ in range(3):
        await resolver.sweep()
    assert log.records == []  # the log is not booked yet
    await book(ledger, deposit("other", 100))
    await resolver.sweep()
    assert [(key, event.player_id) for key, event in log.records] == [("psp-1", None)]


async def test_a_refund_waits_while_its_payment_waits_and_until_it_is_booked(roles):
    resolver, ledger, log = roles
    log.done[RAW] = 5
    await resolver.park(0, 0, 2, parked_events(refund(), notice()))
    await book(ledger, opened_deposit())
    await sweep(resolver)
    # The payment is in the log and the ledger lags: every barrier is passed, and still nothing is final.
    assert [key for key, _ in log.records] == ["p-1"]
    await book(ledger, log.records[0][1], start=1)
    await resolver.sweep()
    assert [(key, event.operation) for key, event in log.records] == [
        ("p-1", "AUTHORISATION"),
        ("p-1", "REFUND"),
    ]


async def test_a_refund_waits_for_a_payment_that_is_not_parked_yet(roles):
    resolver, ledger, log = roles
    log.done[RAW] = 5
    claims = await claim_positions(resolver._database, [1], consumer=CONSUMER, topic=UNRESOLVED)
    resolver.epochs[1] = claims[1].epoch
    log.unresolved[f"{UNRESOLVED}-1"] = 1
    await book(ledger, opened_deposit())
    await resolver.park(0, 0, 1, parked_events(refund()))
    await sweep(resolver)
    assert log.records == []
    await resolver.park(1, 0, 1, parked_events(notice()))
    await sweep(resolver)
    await book(ledger, log.records[0][1], start=1)
    await sweep(resolver)
    assert [(key, event.operation) for key, event in log.records] == [
        ("p-1", "AUTHORISATION"),
        ("p-1", "REFUND"),
    ]


async def test_a_refund_of_a_payment_without_a_player_is_final_after_it(roles):
    resolver, ledger, log = roles
    log.done[RAW] = 5
    await resolver.park(0, 0, 2, parked_events(refund(), notice()))
    await book(ledger, deposit("other", 100))
    await sweep(resolver)
    assert [(key, event.operation) for key, event in log.records] == [("psp-1", "AUTHORISATION")]
    await book(ledger, log.records[0][1], start=1)
    await sweep(resolver)
    assert [(key, event.player_id) for key, event in log.records] == [
        ("psp-1", None),
        ("ref-1", None),
    ]


async def test_what_is_parked_while_the_ends_are_read_gets_a_barrier_of_its_own(roles):
    resolver, ledger, log = roles
    log.done[RAW] = 5
    await book(ledger, deposit("other", 100))

    async def the_deposit_is_opened_and_its_notice_overtakes_it():
        log.while_reading_raw_ends = None
        log.raw[RAW] = 9
        await resolver.park(0, 1, 2, parked_events(notice(), start=1))

    log.while_reading_raw_ends = the_deposit_is_opened_and_its_notice_overtakes_it
    await resolver.park(0, 0, 1, parked_events(notice("psp-0", "nothing")))
    await sweep(resolver)
    # The first is final behind offset 5 of the raw topic; the second stands behind offset 9.
    assert [key for key, _ in log.records] == ["psp-0"]
    await book(ledger, opened_deposit(), start=1)
    await sweep(resolver)
    assert [key for key, _ in log.records] == ["psp-0", "p-1"]


async def test_the_same_notice_parked_twice_is_one_payment(roles, runtime):
    resolver, ledger, log = roles
    await book(ledger, opened_deposit())
    await resolver.park(0, 0, 2, parked_events(notice(), notice()))
    await sweep(resolver)
    await book(ledger, *[event for _, event in log.records], start=1)
    with psycopg.connect(runtime.database_url) as connection:
        assert connection.execute("SELECT cash_minor, version FROM wallet").fetchall() == [
            (2_500, 1)
        ]
        assert connection.execute("SELECT outcome FROM repeat").fetchall() == [("EXISTS",)]


async def test_a_deposit_opened_after_its_notice_was_final_moves_no_money_twice(roles, runtime):
    resolver, ledger, log = roles
    log.done[RAW] = 5
    await resolver.park(0, 0, 1, parked_events(notice()))
    await book(ledger, deposit("other", 100))
    await sweep(resolver)
    await book(ledger, log.records[0][1], opened_deposit(), start=1)
    await resolver.park(
        0, 1, 2, parked_events(notice(), start=1)
    )  # the provider sends it once more
    await sweep(resolver)
    await book(ledger, log.records[1][1], start=3)
    with psycopg.connect(runtime.database_url) as connection:
        assert connection.execute("SELECT outcome, reason FROM repeat").fetchall() == [
            ("UNRESOLVED", "PLAYER_UNKNOWN")
        ]
        assert connection.execute(
            "SELECT debit, credit, amount_minor FROM transfer WHERE version IS NULL"
        ).fetchall() == [("psp:adyen", "suspense:adyen", 2_500)]


async def test_an_attempt_that_comes_again_goes_where_it_went_before(roles):
    """The deposit is opened between the two: one attempt cannot be both without a player and with one. A further one can."""
    resolver, ledger, log = roles
    attempt, further = notice(), notice()
    await resolver.park(0, 0, 1, parked_events(attempt))
    await passed_by_all(resolver, log)
    await ledger.commit_group([Slice(0, 0, 1, [log_event(opened_deposit(), offset=0)])])
    await resolver.park(0, 1, 3, parked_events(attempt, further, start=1))
    await passed_by_all(resolver, log)
    assert [(key, event.player_id, event.attempt.offset) for key, event in log.records] == [
        ("psp-1", None, attempt.attempt.offset),
        ("psp-1", None, attempt.attempt.offset),
        ("p-1", "p-1", further.attempt.offset),
    ]


async def test_the_age_of_not_found_counts_from_the_first_attempt(roles, runtime):
    """A caller waits a few seconds and asks again: an age of each attempt's own would never be reached in time."""
    resolver, _, log = roles
    resolver._min_age_ms = 60_000
    first, further, other = notice(), notice(), notice("psp-2")
    await resolver.park(0, 0, 1, parked_events(first))
    with psycopg.connect(runtime.database_url) as connection:
        connection.execute("UPDATE parked SET parked_at = parked_at - interval '61 s'")
    await resolver.park(0, 1, 3, parked_events(further, other, start=1))
    await passed_by_all(resolver, log)
    assert [(key, event.attempt.offset) for key, event in log.records] == [
        ("psp-1", first.attempt.offset),
        ("psp-1", further.attempt.offset),
    ]


async def passed_by_all(resolver, log):
    """As often as it takes."""
    log.done = dict(log.raw)
    log.log = log.unresolved = {}
    for _ in range(4):
        await resolver.sweep()


async def test_an_event_that_refers_to_itself_does_not_wait_for_itself(roles):
    resolver, ledger, log = roles
    log.done[RAW] = 5
    itself = transaction(
        "X",
        "x",
        leg("DEPOSIT", 1),
        provider="adyen",
        player=None,
        reference=("X", "x"),
        round_id=None,
    )
    await resolver.park(0, 0, 1, parked_events(itself))
    await book(ledger, deposit("other", 100))
    await sweep(resolver)
    assert [key for key, _ in log.records] == ["x"]


async def test_a_zombie_that_appends_again_appends_the_same(roles, runtime):
    resolver, ledger, log = roles
    await book(ledger, opened_deposit())
    await resolver.park(0, 0, 1, parked_events(notice()))
    zombie = Resolver(
        resolver._database, log.append, log, topic=UNRESOLVED, log_topic=TRANSACTIONS, min_age_ms=0
    )
    zombie.epochs[0] = 0
    marked = resolver._database.query

    async def die_before_it_is_marked(statement, parameters=None):
        if "SET appended" in statement:
            raise Unavailable("killed here")
        return await marked(statement, parameters)

    resolver._database.query = die_before_it_is_marked
    with pytest.raises(Unavailable):
        await resolver.sweep()
    resolver._database.query = marked
    await asyncio.gather(resolver.sweep(), zombie.sweep())
    assert len({event.event_id for _, event in log.records}) == 1 < len(log.records)
    await book(ledger, *[event for _, event in log.records], start=1)
    with psycopg.connect(runtime.database_url) as connection:
        assert connection.execute("SELECT cash_minor, version FROM wallet").fetchall() == [
            (2_500, 1)
        ]
        assert connection.execute("SELECT count(*) FROM barrier").fetchone() == (0,)


async def test_no_query_of_a_sweep_reads_what_is_long_settled(roles, runtime):
    with psycopg.connect(runtime.database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO parked (part, source_offset, event_id, reference_event_id, body, state, appended)"
            " SELECT 0, n, gen_random_uuid(), gen_random_uuid(), 'x', 'RESOLVED', true FROM generate_series(1, 50000) n"
        )
        connection.execute("INSERT INTO barrier (raw_ends) VALUES ('{}')")
        connection.execute(
            "INSERT INTO parked (part, source_offset, event_id, reference_event_id, body, barrier)"
            " SELECT 0, n, gen_random_uuid(), gen_random_uuid(), 'x', 1 FROM generate_series(50001, 50003) n"
        )
        connection.execute("ANALYZE parked")
        sql = statements("resolver")
        known = {"parts": [0], "barriers": [1], "min_age_ms": 0}
        for name in (
            "match",
            "waiting",
            "unappended",
            "open_barriers",
            "finalise",
            "drop_barriers",
        ):
            plan = "\n".join(row[0] for row in connection.execute("EXPLAIN " + sql[name], known))
            assert "Seq Scan on parked" not in plan, (name, plan)


async def test_parking_twice_is_parking_once_and_a_zombie_parks_nothing(roles, runtime):
    resolver, _, _ = roles
    await resolver.park(0, 0, 1, parked_events(notice()))
    await resolver.park(0, 0, 1, parked_events(notice()))
    with pytest.raises(OffsetHole):
        await resolver.park(0, 4, 5, ())
    with psycopg.connect(runtime.database_url) as connection:
        assert connection.execute("SELECT count(*) FROM parked").fetchone() == (1,)
        connection.execute("UPDATE stream_position SET epoch = epoch + 1")
    with pytest.raises(Fenced):
        await resolver.park(0, 1, 2, ())
    resolver.epochs.clear()
    with pytest.raises(Unavailable, match="revoked while"):
        await resolver.park(0, 1, 2, ())


def test_a_barrier_is_passed_when_every_partition_has_reached_it():
    assert has_passed({"a-0": 3, "b-0": 0}, {"a-0": 3})
    assert not has_passed({"a-0": 3}, {"a-0": 2})
    assert not has_passed({"a-0": 3}, {})


def traced(parked, *parents):
    return [
        msgspec.structs.replace(one, traceparent=parent)
        for one, parent in zip(parked, parents, strict=True)
    ]


async def test_an_event_keeps_its_trace_while_it_waits(roles):
    resolver, ledger, _ = roles
    sent = []

    async def append(records):
        sent.extend(records)

    resolver._append = append
    await book(ledger, opened_deposit())
    await resolver.park(0, 0, 2, traced(parked_events(notice("a"), notice("b")), PARENT, None))
    await sweep(resolver)
    assert [record[2:] for record in sent] == [((("traceparent", PARENT),),), ()]
    assert not resolver._parents


@pytest.mark.parametrize("is_away", [False, True])
async def test_the_trace_of_what_another_worker_has_parked_is_read_from_its_record(roles, is_away):
    resolver, ledger, log = roles
    sent, asked = [], []

    async def append(records):
        sent.extend(records)

    async def read_parents(places):
        asked.append(places)
        if is_away:
            raise Unavailable("no broker")
        return {(0, 0): PARENT}

    await book(ledger, opened_deposit())
    await resolver.park(0, 0, 1, traced(parked_events(notice("a")), PARENT))
    later = Resolver(
        resolver._database,
        append,
        log,
        topic=UNRESOLVED,
        log_topic=TRANSACTIONS,
        min_age_ms=0,
        read_parents=read_parents,
    )
    later.take_over(resolver.epochs)
    await later.park(0, 1, 2, traced(parked_events(notice("b"), start=1), PARENT))
    await sweep(later)
    assert asked == [[(0, 0)]]
    with_trace = ((("traceparent", PARENT),),)
    assert [record[2:] for record in sent] == [() if is_away else with_trace, with_trace]
