"""A ledger with its log on a real broker: events of many kinds, booked in batches and published."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from ledger_sink.booking.messages import MessageEncoder
from ledger_sink.booking.positions import claim_positions
from ledger_sink.rules.book import LogEvent
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from pitboss.ops.topic_admin import create_topics
from pitboss.settings import Runtime
from runtime.kafka.partitioner import partition_for
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas import codec
from schemas.events import Amount, Leg, Position, WalletTransaction
from schemas.policies import LedgerPolicy
from schemas.topics import OUTCOMES, TRANSACTIONS
from tests.support.ledger_events import bet, deposit, house, leg, rollback, transaction, win

PARTITIONS = 3
RAW_PARTITIONS = 2
CURRENCIES = {"EUR": 2, "JPY": 0, "KWD": 3}
START_MS = 1_790_000_000_000
POLICIES = {"hub88": LedgerPolicy(refused_id_reusable=True)}


def make_events(seed: object, count: int) -> list[WalletTransaction]:
    """Return events of nine players in three currencies: refused bets, rollbacks, repeats and all."""
    rng = random.Random(f"{seed}")
    events: list[WalletTransaction] = []
    for number in range(count):
        player = f"p-{rng.randrange(9)}"
        currency = [*CURRENCIES][int(player[2:]) % 3]
        minor = rng.choice([1, 150, 2_000, 90_000])
        earlier = f"b{rng.randrange(number + 1)}"
        made = rng.choice(
            [
                deposit(f"d{number}", minor, player=player),
                bet(f"b{number}", minor, player=player),
                bet(f"b{number}", minor // 3 + 1, player=player),
                transaction("bet", f"b{number}", leg("BET", minor), leg("WIN", 70), decide=True, player=player),
                win(f"w{number}", minor // 2 + 1, earlier, player=player),
                rollback(f"r{number}", earlier, player=player),
                house("bonus.granted", f"g{number}", leg("BONUS_GRANT", 500), player=player),
                house("adjustment", f"a{number}", leg("ADJUSTMENT", -5), player=player),
                events[rng.randrange(number)] if number else deposit("d", 5, player=player),
            ]
        )  # fmt: skip
        if made not in events:
            legs = [in_currency(one, currency) for one in made.legs]
            at_ms = START_MS + number * 1_000
            made = replace(made, legs=legs, occurred_at=at_ms, appended_at=at_ms)
        events.append(made)
    return events


def in_currency(one: Leg, currency: str) -> Leg:
    if one.amount is None:
        return one
    return replace(one, currency=currency, amount=Amount(one.amount.unscaled, CURRENCIES[currency]))


@dataclass
class ReplayStory:
    """What was appended and booked."""

    runtime: Runtime
    log: dict[int, list[LogEvent]] = field(default_factory=dict)
    batches: list[tuple[int, int, int]] = field(default_factory=list)


async def tell_story(
    runtime: Runtime,
    seed: object,
    count: int = 600,
    events: Sequence[WalletTransaction] = (),
) -> ReplayStory:
    """Append events (by default of `make_events`), book them as workers do, publish the outcomes."""
    await create_topics(runtime.broker, runtime.namespace, ["hub88"], PARTITIONS, RAW_PARTITIONS)
    topic = runtime.topic(TRANSACTIONS)
    story = ReplayStory(runtime, {number: [] for number in range(PARTITIONS)})
    encode = codec.encoder(WalletTransaction)
    encoder = MessageEncoder(topic)
    database = LedgerDatabase(runtime.database_url, "pitboss.test")
    settings = ProducerSettings(runtime.broker, "pitboss.test")
    async with BatchProducer(settings) as producer:
        for event in events or make_events(seed, count):
            key = (event.player_id or "").encode()
            rows = story.log[partition_for(key, PARTITIONS)]
            source = Position(topic, partition_for(key, PARTITIONS), len(rows))
            rows.append(LogEvent(event, source, event.appended_at))
        for partition, rows in story.log.items():
            records = [
                ((row.event.player_id or "").encode(), encode(row.event), (), row.event.appended_at)
                for row in rows
            ]
            await producer.send_batch(topic, partition, records)
        ledger = PostgresLedger(database, POLICIES, topic=topic)
        claims = await claim_positions(database, [*story.log], topic=topic)
        ledger.epochs.update({partition: claim.epoch for partition, claim in claims.items()})
        rng = random.Random(f"{seed} batches")
        reached = dict.fromkeys(story.log, 0)
        while any(reached[partition] < len(rows) for partition, rows in story.log.items()):
            group = []
            for partition in rng.sample(sorted(story.log), rng.randint(1, PARTITIONS)):
                begin = reached[partition]
                end = min(len(story.log[partition]), begin + rng.randint(1, 40))
                if begin < end:
                    rows = story.log[partition][begin:end]
                    group.append(Slice(partition, begin, end, rows, rows[-1].logged_at))
                    reached[partition] = end
            if group:
                applied = await ledger.commit_group(group)
                story.batches += [(s.partition, s.from_offset, s.next_offset) for s in group]
                outcomes = [encoder.encode_outcome(one) for one in applied.book.decisions]
                await producer.send_keyed(
                    runtime.topic(OUTCOMES), [(key, value, (), None) for key, value in outcomes]
                )
    await database.close()
    return story
