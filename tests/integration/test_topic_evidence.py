"""What the checks know of topics they read there: one bad record is appended to a real topic, and a tick is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field

import msgspec
import psycopg
import pytest
import pytest_asyncio

from ledger_sink.book import Sourced
from ledger_sink.database import Database
from ledger_sink.migrate import migrate
from ledger_sink.positions import claim_positions
from ledger_sink.publisher import Publisher
from ledger_sink.store import PostgresLedger, Slice
from pitboss.embedded.databases import create_database, drop_database
from pitboss.settings import Runtime
from pitboss.topic_admin import create_topics, delete_topics
from replay.checks import check_offsets, check_topics
from replay.evidence import Tables, Topics, _Readers, read_all_topics, read_tables
from replay.topics import read_topics
from schemas import codec
from schemas.events import (
    Attempt,
    DeadLetter,
    MarketSettlement,
    PlayerEvent,
    Position,
    WalletBalance,
    WalletOutcome,
    WalletTransaction,
)
from schemas.topics import (
    ALERTS,
    BALANCES,
    OUTCOMES,
    PLAYER_EVENTS,
    SETTLEMENTS,
    TRANSACTIONS,
    UNRESOLVED,
    dead_letter_topic,
    raw_topic,
)
from streams.kafka.producer import BatchProducer, ProducerSettings
from tests.unit.ledger_events import bet, deposit

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

PROVIDERS = ("adyen", "hub88")
RAW = {provider: raw_topic(provider) for provider in PROVIDERS}
RECORDS = {"adyen": 4, "hub88": 6}
"""How many raw records each provider sent; the log's are as `booked` has them."""

UNREADABLE = b"\0\0\0\0\x01 no such record"


@dataclass
class Settled:
    """A namespace in which everything is settled, and a hand that appends to its topics."""

    runtime: Runtime
    database: Database
    producer: BatchProducer
    balances: dict[str, WalletBalance] = field(default_factory=dict)
    outcomes: list[WalletOutcome] = field(default_factory=list)

    async def put(self, topic: str, key: str | None, value: msgspec.Struct | bytes | None) -> Position:
        """Append one record, as whoever writes to that topic would, and say where it stands."""
        data = codec.encoder(type(value))(value) if isinstance(value, msgspec.Struct) else value
        name = self.runtime.topic(topic)
        sent = await self.producer.send(name, None if key is None else key.encode(), data)
        return Position(name, sent.partition, sent.offset)

    def attempt(self, provider: str, offset: int, index: int = 0) -> Attempt:
        return Attempt(self.runtime.topic(RAW[provider]), 0, offset, index)

    async def read_everything(self) -> tuple[Topics, Tables]:
        topics = await read_all_topics(self.runtime.bootstrap_servers, self.runtime.namespace, PROVIDERS)
        return topics, await read_tables(self.database)


@dataclass
class Look:
    """What was read of the settled namespace, for one test alone, and what that test has appended since."""

    settled: Settled
    topics: Topics
    tables: Tables

    async def put(self, topic: str, key: str | None, value: msgspec.Struct | bytes | None) -> str:
        """Append a record, read it from the broker with the reader of the checks, and say where it stands.

        Only this one is read: what other tests have appended is none of this one's business, and a whole namespace
        takes more than a second.
        """
        place = await self.settled.put(topic, key, value)
        runtime = self.settled.runtime
        async for record in read_topics(runtime.bootstrap_servers, {place.topic}):
            if record.offset == place.offset:
                _Readers(self.topics, runtime.namespace).read(record)
        return f"{place.topic}-{place.partition}@{place.offset}"

    def wrong(self) -> dict[str, str]:
        """Which checks do not hold, and what they say."""
        checks = [check_offsets(self.topics, self.tables), check_topics(self.topics, self.tables)]
        return {check.name: check.detail for check in checks if not check.holds}


def booked(scene: Settled) -> list[WalletTransaction]:
    """What is in the log: both players come to version 3, a batch of two bets, a retry, and a deposit of nobody's."""
    attempt = scene.attempt
    return [
        deposit("d", 10_000, attempt=attempt("adyen", 0)),
        deposit("d2", 5_000, attempt=attempt("adyen", 1), player="p-2"),
        deposit("nobody's", 70, attempt=attempt("adyen", 2), player=None),
        bet("b", 150, attempt=attempt("hub88", 0, 0)),
        bet("c", 50, attempt=attempt("hub88", 0, 1)),
        bet("b2", 20, attempt=attempt("hub88", 1), player="p-2"),
        bet("c2", 30, attempt=attempt("hub88", 2), player="p-2"),
        bet("b", 150, attempt=attempt("hub88", 3)),
    ]


def waiting(scene: Settled, tx_id: str = "waits", offset: int = 3) -> WalletTransaction:
    return deposit(tx_id, 5, attempt=scene.attempt("adyen", offset), player=None)


def player_event(attempt: Attempt) -> PlayerEvent:
    return PlayerEvent(
        "event", "acme", "hub88", "1", "MT", "login", "l", attempt, "p-1", "LOGIN", {}, 0, "BROKER", None, None, 0, "VALID",
    )  # fmt: skip


def settlement(attempt: Attempt) -> MarketSettlement:
    return MarketSettlement(
        "event", "acme", "hub88", "1", "MT", "settle", "s", attempt, "match", "market", "", "home", "SETTLED", "WON", None,
        None, None, None, None, 0, "BROKER", None, None, 0, "VALID",
    )  # fmt: skip


def dead_letter(source: Position, index: int | None = None) -> DeadLetter:
    return DeadLetter(source, index, None, b"{", [], 0, "MALFORMED", "", "normalise", "0", None)


@asynccontextmanager
async def settled(runtime: Runtime) -> AsyncIterator[Settled]:
    """Raw records, and what the workers would have made of them: the real ledger and publisher wrote it."""
    migrate(runtime.database_url)
    await create_topics(runtime.bootstrap_servers, runtime.namespace, PROVIDERS, partitions=1)
    async with (
        BatchProducer(ProducerSettings(runtime.bootstrap_servers, "pitboss.test")) as producer,
        aclosing_database(runtime) as database,
    ):
        scene = Settled(runtime, database, producer)
        for provider, count in RECORDS.items():
            await producer.send_batch(runtime.topic(RAW[provider]), 0, [(b"k", b"{}", (), None)] * count)
        await scene.put(PLAYER_EVENTS, "p-1", player_event(scene.attempt("hub88", 4)))
        await scene.put(SETTLEMENTS, "match", settlement(scene.attempt("hub88", 5, 0)))
        last = Position(runtime.topic(RAW["hub88"]), 0, 5)
        await scene.put(dead_letter_topic(RAW["hub88"]), "k", dead_letter(last, index=1))
        await _park(scene)
        await _book(scene)
        for topic in (TRANSACTIONS, UNRESOLVED):
            await scene.put(dead_letter_topic(topic), "k", dead_letter(await scene.put(topic, "k", UNREADABLE)))
        yield scene


@asynccontextmanager
async def aclosing_database(runtime: Runtime) -> AsyncIterator[Database]:
    database = Database(runtime.database_url, "pitboss.test")
    try:
        yield database
    finally:
        await database.close()


async def _park(scene: Settled) -> None:
    event = waiting(scene)
    await scene.put(UNRESOLVED, event.provider_tx_id, event)
    with psycopg.connect(scene.runtime.database_url) as connection:
        connection.execute(
            "INSERT INTO parked (part, source_offset, event_id, body) VALUES (0, 0, %s, '')", (event.event_id,)
        )


async def _book(scene: Settled) -> None:
    name, events = scene.runtime.topic(TRANSACTIONS), booked(scene)
    for event in events:
        await scene.put(TRANSACTIONS, event.player_id or event.provider_tx_id, event)
    log = [Sourced(event, Position(name, 0, offset)) for offset, event in enumerate(events)]
    ledger = PostgresLedger(scene.database, {})
    ledger.epochs[0] = (await claim_positions(scene.database, [0]))[0].epoch
    applied = await ledger.apply([Slice(0, 0, len(log), log)])

    async def send(topic, records):
        await scene.producer.send_keyed(topic, [(key, value, (), None) for key, value in records])
        for key, value in records:
            if topic.endswith(BALANCES):
                scene.balances[key.decode()] = codec.decoder(WalletBalance)(value)
            else:
                scene.outcomes.append(codec.decoder(WalletOutcome)(value))

    topics = [scene.runtime.topic(topic) for topic in (TRANSACTIONS, BALANCES, OUTCOMES)]
    publisher = Publisher(
        scene.database, send, ledger.epochs, log_topic=topics[0], balances_topic=topics[1], outcomes_topic=topics[2]
    )
    await publisher._publish(applied)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def everything(stack, namespaces):
    runtime = stack.runtime(namespaces())
    create_database(runtime)
    async with settled(runtime) as scene:
        yield scene, await scene.read_everything()
    drop_database(runtime)
    await delete_topics(runtime.bootstrap_servers, runtime.namespace)


@pytest.fixture
def look(everything):
    scene, (topics, tables) = everything
    return Look(scene, deepcopy(topics), deepcopy(tables))


async def test_everything_holds_before_anything_bad_is_appended(look):
    assert look.wrong() == {}
    assert (len(look.topics.raw), len(look.topics.balances), len(look.topics.outcomes)) == (10, 2, 8)
    assert [line.event for line in look.topics.log[0]] == booked(look.settled)


# Each of these is noticed by one line alone: where a balance is under the wrong key or does not add up, it has the
# version that is the last one anyway, and what answers an attempt twice has the right answer before it.


def balance(look: Look, **changes) -> WalletBalance:
    return msgspec.structs.replace(look.settled.balances["p-1:EUR"], **changes)


def outcome(look: Look, tx_id: str, **changes) -> WalletOutcome:
    first = next(outcome for outcome in look.settled.outcomes if outcome.provider_tx_id == tx_id)
    return msgspec.structs.replace(first, **changes)


async def another_players_balance(look):
    place = await look.put(BALANCES, "p-1:EUR", look.settled.balances["p-2:EUR"])
    return f"{place}: under the key p-1:EUR stands the balance of p-2:EUR"


async def a_balance_in_another_currency(look):
    place = await look.put(BALANCES, "p-1:EUR", balance(look, currency="SEK"))
    return f"{place}: under the key p-1:EUR stands the balance of p-1:SEK"


async def a_balance_of_more_than_its_parts(look):
    more = look.settled.balances["p-1:EUR"].balance_minor + 1
    place = await look.put(BALANCES, "p-1:EUR", balance(look, balance_minor=more))
    return f"{place}: balance v3 of p-1:EUR does not add up"


async def a_hold_that_the_balance_does_not_have(look):
    place = await look.put(BALANCES, "p-1:EUR", balance(look, held_minor=1))
    return f"{place}: balance v3 of p-1:EUR does not add up"


async def an_older_balance_that_comes_last(look):
    await look.put(BALANCES, "p-1:EUR", balance(look, version=1))
    return "wallet p-1:EUR: the last record says version 1, an earlier one 3"


async def a_newer_balance_than_the_ledger_has(look):
    await look.put(BALANCES, "p-1:EUR", balance(look, version=4))
    return "wallet p-1:EUR: the topic says"


async def the_balance_of_a_wallet_that_is_none(look):
    await look.put(BALANCES, "p-9:EUR", balance(look, player_id="p-9"))
    return "wallet p-9:EUR: the topic says"


async def a_second_outcome_that_differs(look):
    other = outcome(look, "b", outcome="REFUSED_FUNDS")
    place = await look.put(OUTCOMES, "p-1", other)
    return f"{place}: {other.attempt} was told POSTED and REFUSED_FUNDS"


async def a_second_outcome_with_another_message(look):
    other = outcome(look, "b", message="something else")
    place = await look.put(OUTCOMES, "p-1", other)
    return f"{place}: {other.attempt} was told POSTED and POSTED"


async def an_outcome_under_another_players_key(look):
    same = outcome(look, "b")
    place = await look.put(OUTCOMES, "p-2", same)
    return f"{place}: the outcome of {same.attempt} stands under the key b'p-2'"


async def an_outcome_of_a_player_under_its_transaction(look):
    same = outcome(look, "b")
    place = await look.put(OUTCOMES, "b", same)
    return f"{place}: the outcome of {same.attempt} stands under the key b'b'"


async def an_outcome_of_nobodys_under_another_key(look):
    same = outcome(look, "nobody's")
    place = await look.put(OUTCOMES, "None", same)
    return f"{place}: the outcome of {same.attempt} stands under the key b'None'"


async def an_outcome_of_an_attempt_that_nobody_made(look):
    made_up = outcome(look, "b", attempt=look.settled.attempt("hub88", 99))
    await look.put(OUTCOMES, "p-1", made_up)
    return f"event {made_up.event_id} of {made_up.attempt}: the topic says"


@pytest.mark.parametrize(
    "spoil",
    [
        another_players_balance,
        a_balance_in_another_currency,
        a_balance_of_more_than_its_parts,
        a_hold_that_the_balance_does_not_have,
        an_older_balance_that_comes_last,
        a_newer_balance_than_the_ledger_has,
        the_balance_of_a_wallet_that_is_none,
        a_second_outcome_that_differs,
        a_second_outcome_with_another_message,
        an_outcome_under_another_players_key,
        an_outcome_of_a_player_under_its_transaction,
        an_outcome_of_nobodys_under_another_key,
        an_outcome_of_an_attempt_that_nobody_made,
    ],
)
async def test_a_bad_balance_or_outcome_takes_the_tick_away(look, spoil):
    expected = await spoil(look)
    wrong = look.wrong()
    assert wrong.keys() == {"topic_equals_database"}
    assert wrong["topic_equals_database"].startswith(expected)


async def a_raw_record_that_nobody_read(look):
    place = await look.put(RAW["hub88"], "k", b"{}")
    return f"{place} is neither normalised nor a dead letter"


async def an_event_that_nobody_booked(look):
    place = await look.put(TRANSACTIONS, "p-1", booked(look.settled)[0])
    return f"{place} has no entry"


async def a_record_of_the_log_that_nobody_can_read(look):
    place = await look.put(TRANSACTIONS, "p-1", UNREADABLE)
    return f"{place} has no entry"


async def an_event_without_player_that_nobody_parked(look):
    place = await look.put(UNRESOLVED, "waits", waiting(look.settled))
    return f"{place} is not parked"


async def an_unreadable_event_without_player(look):
    place = await look.put(UNRESOLVED, "waits", UNREADABLE)
    return f"{place} is not parked"


async def a_parked_event_that_never_came_into_the_log(look):
    look.tables.unappended.clear()  # as the resolver leaves it once it has appended it
    return f"{look.settled.runtime.topic(UNRESOLVED)}-0@0 waits no more and never came into the log"


async def a_player_event_whose_neighbour_is_gone(look):
    await look.put(PLAYER_EVENTS, "p-1", player_event(look.settled.attempt("hub88", 4, 2)))
    return f"{look.settled.runtime.topic(RAW['hub88'])}-0@4 has items [0, 2]"


async def a_settlement_whose_neighbour_is_gone(look):
    await look.put(SETTLEMENTS, "match", settlement(look.settled.attempt("hub88", 5, 3)))
    return f"{look.settled.runtime.topic(RAW['hub88'])}-0@5 has items [0, 1, 3]"


async def a_dead_letter_whose_neighbour_is_gone(look):
    source = Position(look.settled.runtime.topic(RAW["hub88"]), 0, 4)
    await look.put(dead_letter_topic(RAW["hub88"]), "k", dead_letter(source, index=2))
    return f"{source.topic}-0@4 has items [0, 2]"


@pytest.mark.parametrize(
    "spoil",
    [
        a_raw_record_that_nobody_read,
        an_event_that_nobody_booked,
        a_record_of_the_log_that_nobody_can_read,
        an_event_without_player_that_nobody_parked,
        an_unreadable_event_without_player,
        a_parked_event_that_never_came_into_the_log,
        a_player_event_whose_neighbour_is_gone,
        a_settlement_whose_neighbour_is_gone,
        a_dead_letter_whose_neighbour_is_gone,
    ],
)
async def test_a_record_that_leads_nowhere_takes_the_tick_away_and_is_named(look, spoil):
    expected = await spoil(look)
    wrong = look.wrong()
    assert wrong.keys() == {"offsets_accounted"}
    assert wrong["offsets_accounted"].startswith(expected)


async def test_a_parked_event_that_came_into_the_log_is_not_lost_on_the_way(look):
    look.tables.unappended.clear()
    place = await look.put(TRANSACTIONS, "waits", waiting(look.settled))
    assert look.wrong() == {"offsets_accounted": f"{place} has no entry"}


async def test_what_has_its_dead_letter_is_accounted_for_on_every_topic(look):
    for topic in (RAW["hub88"], TRANSACTIONS, UNRESOLVED):
        name, _, offset = (await look.put(topic, "k", UNREADABLE)).rpartition("-0@")
        assert look.wrong().keys() == {"offsets_accounted"}
        await look.put(dead_letter_topic(topic), "k", dead_letter(Position(name, 0, int(offset))))
        assert look.wrong() == {}


@pytest.mark.parametrize("value", [UNREADABLE, None], ids=["no bytes of ours", "no value"])
@pytest.mark.parametrize(
    "topic", [BALANCES, OUTCOMES, PLAYER_EVENTS, SETTLEMENTS, ALERTS, dead_letter_topic(RAW["hub88"])]
)
async def test_a_record_that_nobody_can_read_is_named(look, topic, value):
    # Our own workers alone write to these topics; none of them would bury what nobody can read there.
    place = await look.put(topic, "p-1:EUR", value)
    assert look.wrong().keys() == {"topic_equals_database"}
    assert look.wrong()["topic_equals_database"].startswith(f"{place}: nobody can read it: BAD_CONTRACT")


async def test_an_outcome_in_other_decimals_than_its_wallets_is_noticed(look):
    known = outcome(look, "b")
    look.topics.outcomes[known.event_id, known.attempt] = msgspec.structs.replace(known, scale=known.scale + 1)
    assert "decimals" in look.wrong()["topic_equals_database"]


async def test_a_version_that_repeats_with_other_content_is_noticed(look):
    # Compaction leaves the second, so whoever begins to read later is told another balance than the ledger's.
    last = look.settled.balances["p-1:EUR"]
    more = balance(look, balance_minor=last.balance_minor + 1, available_minor=last.available_minor + 1)
    await look.put(BALANCES, "p-1:EUR", more)
    assert look.wrong().keys() == {"topic_equals_database"}


async def test_an_outcome_without_a_key_is_noticed(look):
    # Of a balance the broker itself refuses it: its topic is compacted.
    await look.put(OUTCOMES, None, outcome(look, "b"))
    assert look.wrong().keys() == {"topic_equals_database"}
