"""Sums of a million exported events are those of the events, and those of the ledger that books them.

`PITBOSS_TEST_EXPORT_EVENTS` and `PITBOSS_TEST_BOOKED_EVENTS` set other numbers.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import duckdb
import psycopg
import pytest
from msgspec.structs import replace

from pitboss.ops.provision import provision
from pitboss.workers.supervisor import WorkerProcess
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.kafka.topic_reader import read_topics
from schemas import codec
from schemas.events import Amount, WalletTransaction
from schemas.topics import OUTCOMES, TRANSACTIONS
from tests.integration.replay.test_export_cli import LEDGER_SUMS, SUMS, run
from tests.support.fix_stack import SEED
from tests.support.ledger_events import bet, deposit, win
from tests.support.replay_story import CURRENCIES, START_MS

pytestmark = [
    pytest.mark.integration,
    pytest.mark.prove,
    pytest.mark.timeout(1_800),
]

EXPORTED = int(os.environ.get("PITBOSS_TEST_EXPORT_EVENTS", "1000000"))
BOOKED = int(os.environ.get("PITBOSS_TEST_BOOKED_EVENTS", "200000"))
PARTITIONS, PLAYERS, CHUNK = 8, 2_000, 20_000
MORE_DIGITS = 3
"""Of some amounts: providers send more decimals than the currency has, as in Hub88's 1/100000."""
ENDED_MAX_S = 900.0

Sums = Counter[tuple[str, str]]
"""Minor units by currency and kind."""


def make_events(count: int, sums: Sums) -> Iterator[WalletTransaction]:
    """Yield deposits, then bets and wins of all players; add each amount to the sums."""
    rng = random.Random(f"{SEED} sums")
    for number in range(count):
        place = number % PLAYERS
        player, currency = f"p-{place}", [*CURRENCIES][place % len(CURRENCIES)]
        minor = rng.randrange(1, 10 ** rng.randrange(1, 7))
        if number < PLAYERS:
            minor *= 100
            made = deposit(f"d{number}", minor, player=player)
        elif number // PLAYERS % 2:
            made = bet(f"b{number}", minor, player=player)
        else:
            made = win(f"w{number}", minor, f"b{number - PLAYERS}", player=player)
        [leg] = made.legs
        more = rng.choice([0, 0, MORE_DIGITS])
        amount = Amount(minor * 10**more, CURRENCIES[currency] + more)
        sums[currency, leg.kind] += minor
        legs = [replace(leg, currency=currency, amount=amount)]
        at_ms = START_MS + number
        yield replace(made, legs=legs, occurred_at=at_ms, appended_at=at_ms)


async def append(runtime, count: int) -> Sums:
    sums, encode, records = Counter[tuple[str, str]](), codec.encoder(WalletTransaction), []
    async with BatchProducer(ProducerSettings(runtime.broker, "pitboss.test")) as producer:
        for number, event in enumerate(make_events(count, sums), 1):
            records.append(((event.player_id or "").encode(), encode(event), (), event.appended_at))
            if len(records) == CHUNK or number == count:
                await producer.send_keyed(runtime.topic(TRANSACTIONS), records)
                records = []
    return sums


def make_log(runtime, count: int) -> Sums:
    provision(runtime, partitions=PARTITIONS, raw_partitions=1, providers=["hub88", "house"])
    return asyncio.run(append(runtime, count))


def export(runtime, topic: str, file: Path, *options: str) -> dict[str, object]:
    command = (topic, *options, "--out", str(file), "--json")
    return json.loads(asyncio.run(run(runtime, *command)).stdout)


def test_sums_of_the_file_are_those_of_the_events(runtime, tmp_path):
    sums, file = make_log(runtime, EXPORTED), tmp_path / "legs.parquet"
    manifest = export(runtime, TRANSACTIONS, file, "--legs")
    assert (manifest["records"], manifest["rows"]) == (EXPORTED, EXPORTED)
    assert manifest["inexact_amounts"] == 0
    with duckdb.connect() as connection:
        found = connection.execute(
            f"SELECT currency, kind, sum(amount) FROM '{file}' GROUP BY ALL"
        ).fetchall()
    assert {(currency, kind): amount for currency, kind, amount in found} == {
        (currency, kind): Decimal(minor).scaleb(-CURRENCIES[currency])
        for (currency, kind), minor in sums.items()
    }
    assert len(found) == 3 * len(CURRENCIES)


async def count_answers(runtime) -> int:
    count = 0
    async for _ in read_topics(runtime.broker, {runtime.topic(OUTCOMES)}):
        count += 1
    return count


def book(runtime, home: Path, count: int) -> None:
    """Have a ledger worker book the log and publish what it decided."""
    worker = WorkerProcess("ledger", runtime, home=home)
    worker.start()
    try:
        deadline, booked = time.monotonic() + ENDED_MAX_S, 0
        with psycopg.connect(runtime.database_url, autocommit=True) as connection:
            while booked < count:
                assert worker.is_alive, worker.log.read_text()[-2_000:]
                assert time.monotonic() < deadline, booked
                time.sleep(0.5)
                [(booked,)] = connection.execute(
                    "SELECT coalesce(sum(next_offset), 0)::bigint FROM stream_position"
                ).fetchall()
        assert worker.stop(), "it did not drain"
    finally:
        worker.kill()


def test_sums_of_what_was_posted_are_the_ledgers(runtime, tmp_path):
    make_log(runtime, BOOKED)
    book(runtime, tmp_path, BOOKED)
    assert asyncio.run(count_answers(runtime)) == BOOKED
    files = {"transactions": tmp_path / "t.parquet", "outcomes": tmp_path / "o.parquet"}
    export(runtime, TRANSACTIONS, files["transactions"], "--legs")
    assert export(runtime, OUTCOMES, files["outcomes"])["rows"] == BOOKED
    with duckdb.connect() as connection:
        found = connection.execute(SUMS.format(**files)).fetchall()
        [(refused,)] = connection.execute(
            f"SELECT count(*) FROM '{files['outcomes']}' WHERE outcome LIKE 'REFUSED%'"
        ).fetchall()
    with psycopg.connect(runtime.database_url) as connection:
        expected = connection.execute(LEDGER_SUMS).fetchall()
    assert {(currency, kind): amount for currency, kind, amount in found} == {
        (currency, kind): Decimal(amount) for currency, kind, amount in expected
    }
    assert len(found) == 3 * len(CURRENCIES)
    assert 0 < refused < BOOKED  # the sums are not simply those of all events
