"""`pitboss ledger balance|history|entry|round|report` over a ledger that has booked a little of everything."""

from __future__ import annotations

import asyncio
import csv
import io
import itertools
import json
import random
from typing import Any

import msgspec
import psycopg
import pytest
from aiokafka import AIOKafkaConsumer
from click.testing import CliRunner

from ledger_sink.booking.positions import claim_positions
from ledger_sink.queries import history
from ledger_sink.queries.report import DIMENSIONS, ReportRow, find_mismatches, make_report
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.migrate import migrate
from pitboss.cli.main import cli
from pitboss.ops.periods import format_time
from pitboss.ops.topic_admin import create_topics
from pitboss.settings import worker_environment
from schemas.events import Leg
from schemas.identity import event_id
from tests.support.fix_stack import SEED
from tests.support.ledger_events import (
    bet,
    deposit,
    house,
    leg,
    log_event,
    rollback,
    transaction,
    win,
)

pytestmark = pytest.mark.integration

FREE_WIN = Leg("WIN", leg("WIN", 70).amount, "EUR", is_free=True)
EVENTS = (
    deposit("d", 10_000),
    bet("b1", 150),
    win("w1", 400, "b1"),
    bet("b2", 2_000),
    rollback("r2", "b2"),
    bet("b3", 50),
    rollback("rw", "nothing"),
    transaction("jackpot", "j1", leg("JACKPOT_WIN", 5_000)),
    transaction("bet", "b4", leg("BET", 300), leg("JACKPOT_CONTRIBUTION", 3), decide=True),
    transaction("promo", "p1", leg("PROMO_WIN", 25)),
    transaction("win", "f1", FREE_WIN),
    house("bonus.granted", "g1", leg("BONUS_GRANT", 1_000)),
    house("withdrawal.requested", "x1", leg("WITHDRAWAL", 4_000), decide=True),
    house("adjustment", "a1", leg("ADJUSTMENT", -12)),
    transaction("rollback", "rw1", leg("ROLLBACK", None, None), reference=("win", "w1")),
    bet("b5", 999_999),
    bet("b1", 150),
)


@pytest.fixture
async def book_events(runtime):
    """A ledger with one event a transaction, and what the wallets held behind each of them."""
    migrate(runtime.database_url)
    database = LedgerDatabase(runtime.database_url, "pitboss.test")
    with psycopg.connect(runtime.database_url) as connection:
        connection.execute("INSERT INTO installation (cluster_id, partitions) VALUES ('test', 1)")
    postgres = PostgresLedger(database, {})
    claims = await claim_positions(database, [0])
    postgres.epochs.update({partition: claim.epoch for partition, claim in claims.items()})
    stood = []
    for offset, event in enumerate(EVENTS):
        # Event time does not rise with the log.
        at_ms = event.occurred_at + offset * 7 % 5 * 60_000
        placed = log_event(msgspec.structs.replace(event, occurred_at=at_ms), 0, offset)
        await postgres.commit_group([Slice(0, offset, offset + 1, [placed])])
        stood.append(await history.current_wallets(database, "p-1"))
    yield database, stood
    await database.close()


async def run(runtime, *arguments: str, code: int = 0):
    command = ["ledger", *arguments, "--json"]
    result = await asyncio.to_thread(
        CliRunner().invoke, cli, command, env=worker_environment(runtime)
    )
    assert result.exit_code == code, (result.output, result.stderr, result.exception)
    return json.loads(result.stdout) if result.stdout else None


async def test_a_balance_at_any_offset_is_what_it_was_there(book_events):
    database, stood = book_events
    assert await history.wallets_before(database, "p-1", 0) == []
    for offset, wallets in enumerate(stood):
        assert await history.wallets_before(database, "p-1", offset + 1) == wallets
    assert await history.wallets_before(database, "p-1", 10**12) == stood[-1]
    assert (
        len({wallets[0].version for wallets in stood}) > 10
    )  # a history that stands still proves nothing


async def test_the_commands_say_the_same(book_events, runtime):
    _, stood = book_events
    now = await run(runtime, "balance", "p-1")
    assert [wallet["balance_minor"] for wallet in now] == [stood[-1][0].balance_minor]
    assert (await run(runtime, "balance", "p-1", "--at", "3"))[0]["version"] == stood[3][0].version
    assert (
        await run(
            runtime, "balance", "p-1", "--at", f"{runtime.topic('wallet.transactions.v1')}-0@0"
        )
    )[0]["version"] == 1
    await run(runtime, "balance", "p-1", "--at", "wallet.transactions.v1-7@0", code=2)
    await run(runtime, "balance", "p-1", "--at", "last week", code=2)
    assert await run(runtime, "balance", "nobody", code=1) is None


async def test_a_time_is_looked_up_without_a_fetch_in_front(book_events, runtime, monkeypatch):
    """A broker answers a connection's requests in their order, and a fetch at the end waits for half a second."""

    class Watched(AIOKafkaConsumer):
        async def offsets_for_times(self, timestamps):
            assert self.assignment() == self.paused() == frozenset(timestamps)
            return await super().offsets_for_times(timestamps)

    await create_topics(
        runtime.broker, runtime.namespace, ["hub88"], partitions=1, raw_partitions=1
    )
    monkeypatch.setattr("pitboss.ops.log_positions.AIOKafkaConsumer", Watched)
    await run(runtime, "balance", "p-1", "--at", "now", code=1)  # the topic is empty


async def test_a_history_is_a_chain_that_can_be_paged(book_events, runtime):
    whole = await run(runtime, "history", "p-1")
    assert [movement["version"] for movement in whole] == list(range(len(whole), 0, -1))
    paged: list[dict[str, Any]] = []
    while page := await run(
        runtime,
        "history",
        "p-1",
        "--limit",
        "4",
        "--before-version",
        str(paged[-1]["version"] if paged else 99),
    ):
        paged += page
    assert paged == whole
    for newer, older in itertools.pairwise(whole):
        purses = ("cash_minor", "bonus_minor", "held_minor")
        changed = sum(newer[purse] - older[purse] for purse in purses)
        into = newer["credit"].startswith("player:") - newer["debit"].startswith("player:")
        assert changed == into * newer["amount_minor"]
    await run(runtime, "history", "nobody", code=1)


async def invoke(runtime, *arguments: str):
    command = ["ledger", *arguments]
    return await asyncio.to_thread(
        CliRunner().invoke, cli, command, env=worker_environment(runtime)
    )


async def test_a_history_of_a_period_and_of_kinds_is_those_movements_of_the_whole(
    book_events, runtime
):
    whole = await run(runtime, "history", "p-1")
    times = sorted({movement["occurred_at"] for movement in whole})
    middle = times[len(times) // 2]
    assert times[0] < middle < times[-1], "a span that takes all or nothing proves nothing"
    at = format_time(middle)
    late = await run(runtime, "history", "p-1", "--since", at)
    assert late == [movement for movement in whole if movement["occurred_at"] >= middle]
    early = await run(runtime, "history", "p-1", "--until", at)
    assert early == [movement for movement in whole if movement["occurred_at"] < middle]
    kinds = ("--kind", "bet", "--kind", "DEPOSIT")
    chosen = await run(runtime, "history", "p-1", *kinds)
    assert chosen == [movement for movement in whole if movement["kind"] in {"BET", "DEPOSIT"}]
    assert {movement["kind"] for movement in chosen} == {"BET", "DEPOSIT"}
    both = await run(runtime, "history", "p-1", *kinds, "--since", at)
    assert both == [movement for movement in chosen if movement in late]
    # b5 was refused: it moved nothing, and what it would have been is not in the tables.
    assert "b5" not in {movement["provider_tx_id"] for movement in whole}


async def test_an_unknown_transaction_is_answered_as_it_was_typed(book_events, runtime):
    """It was "no entry bf235f36-…", an id that the operator had never typed (issue 12)."""
    done = await invoke(
        runtime, "entry", "b1", "--provider", "hub88", "--operation", "bte", "--brand", "acme"
    )
    assert done.exit_code == 1
    assert "no entry of hub88 bte b1, brand acme (its event id would be " in done.stderr
    assert "operations of hub88 there: bet, " in done.stderr
    assert done.stderr.endswith(": did you mean 'bet'?\n")


async def test_what_was_refused_of_a_player_has_a_list_of_its_own(book_events, runtime):
    """`history` leaves out what moved nothing, and no other command finds it by player (issue 12)."""
    database, _ = book_events
    found = await history.refused_events(database, "p-1")
    assert [(one.provider_tx_id, one.reason) for one in found] == [
        ("a1", "SECOND_PERSON_REQUIRED"),
        ("b5", "NOT_ENOUGH_MONEY"),
    ]
    [refused] = await history.refused_events(database, "p-1", kinds=["BET"])
    assert (refused.provider_tx_id, refused.outcome) == ("b5", "REFUSED_FUNDS")
    assert await history.refused_events(database, "p-1", kinds=["WITHDRAWAL"]) == []
    assert await history.refused_events(database, "p-1", currency="USD") == []
    assert await history.refused_events(database, "p-1", until_ms=refused.occurred_at) == []
    assert await history.refused_events(database, "nobody") == []
    await run(runtime, "history", "p-1", "--refused", "--before-version", "3", code=2)


async def test_a_history_as_csv_has_the_rows_of_json_and_its_times(book_events, runtime):
    whole = await run(runtime, "history", "p-1", "--kind", "BET")
    done = await invoke(runtime, "history", "p-1", "--kind", "BET", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == len(whole) > 2
    for row, movement in zip(rows, whole, strict=True):
        assert row.pop("time") == format_time(movement["occurred_at"])
        assert row.pop("player_id") == "p-1"
        assert row == {
            name: "" if value is None else str(value) for name, value in movement.items()
        }
    both = await invoke(runtime, "history", "p-1", "--format", "csv", "--json")
    assert both.exit_code == 2


async def test_a_history_that_is_cut_says_how_to_go_on(book_events, runtime):
    whole = await run(runtime, "history", "p-1")
    cut = await invoke(runtime, "history", "p-1", "--limit", "3", "--format", "json")
    assert json.loads(cut.stdout) == whole[:3]
    assert f"--before-version {whole[2]['version']}" in cut.stderr
    uncut = await invoke(runtime, "history", "p-1", "--limit", str(len(whole)))
    assert "--before-version" not in uncut.stderr


async def test_every_place_is_written_so_that_another_command_reads_it(book_events, runtime):
    shown = await invoke(runtime, "history", "p-1", "--limit", "1")
    place = f"{runtime.topic('wallet.transactions.v1')}-0@14"
    assert place in shown.stdout
    assert (await run(runtime, "balance", "p-1", "--at", place)) == (
        await run(runtime, "balance", "p-1")
    )


async def test_an_entry_tells_what_it_moved_and_what_became_of_it(book_events, runtime):
    found = await run(
        runtime,
        "entry",
        "b2",
        "--brand",
        "acme",
        "--provider",
        "hub88",
        "--operation",
        "bet",
    )
    assert [moved["amount_minor"] for moved in found["decisions"][0]["moved"]] == [2_000]
    assert [closing["action"] for closing in found["closed_by"]] == ["REVERSED"]
    assert found["closed_by"][0]["by_event_id"] == event_id("acme", "hub88", "rollback", "r2")
    again = await run(runtime, "entry", event_id("acme", "hub88", "bet", "b1"))
    assert [repeat["outcome"] for repeat in again["repeats"]] == ["EXISTS"]
    both = (await run(runtime, "entry", event_id("acme", "hub88", "bet", "b4")))["decisions"][0][
        "moved"
    ]
    assert sum(moved["amount_minor"] for moved in both) == 300
    await run(runtime, "entry", "00000000-0000-4000-8000-000000000000", code=1)
    former = ("--brand", "acme", "--provider", "hub88", "--operation", "bet", "--tx", "b2")
    assert await run(runtime, "entry", *former) == found
    await run(runtime, "entry", "b1", code=2)
    await run(runtime, "entry", "b1", "--provider", "hub88", code=2)
    await run(runtime, "entry", code=2)


async def test_a_round_shows_its_events(book_events, runtime):
    rows = await run(runtime, "round", "r-1", "--provider", "hub88")
    assert {row["operation"] for row in rows} == {"bet", "win", "rollback", "jackpot", "promo"}
    assert next(row for row in rows if row["provider_tx_id"] == "b2")["closed"] == "REVERSED"
    assert await run(runtime, "round", "r-1", "--player", "somebody else") == []
    his = await run(runtime, "round", "r-1", "--player", "p-1")
    assert his == [row for row in await run(runtime, "round", "r-1") if row["transfers"]]


async def test_a_report_is_the_ledgers_to_the_cent(book_events, runtime):
    report = await run(runtime, "report", "--by", "provider")
    assert report["mismatches"] == []
    hub88 = next(row for row in report["rows"] if row["provider"] == "hub88")
    # b1, b3 and b4 were bet; w1 was taken back and so is no win; the free win and the promotion are the house's gifts.
    assert (hub88["bets_minor"], hub88["wins_minor"], hub88["contributions_minor"]) == (500, 0, 3)
    assert (hub88["ggr_minor"], hub88["jackpot_wins_minor"], hub88["bonus_cost_minor"]) == (
        497,
        5_000,
        95,
    )
    assert (
        next(row for row in report["rows"] if row["provider"] == "house")["bonus_cost_minor"]
        == 1_000
    )
    for by in (",".join(DIMENSIONS), "", "day", "game,region"):
        other = await run(runtime, "report", "--by", by)
        assert other["mismatches"] == []
        assert sum(row["ggr_minor"] for row in other["rows"]) == 497
    assert (await run(runtime, "report", "--until", "2020-01-01"))["rows"] == []
    whole = await run(runtime, "report")
    for former_or_new in ("--from", "--since"):
        assert await run(runtime, "report", former_or_new, "1970-01-01") == whole
    await run(runtime, "report", "--by", "colour", code=2)


async def test_a_report_of_random_histories_has_the_ledgers_sums(runtime):
    migrate(runtime.database_url)
    database = LedgerDatabase(runtime.database_url, "pitboss.test")
    postgres = PostgresLedger(database, {})
    claims = await claim_positions(database, [0])
    postgres.epochs.update({partition: claim.epoch for partition, claim in claims.items()})
    rng = random.Random(SEED)
    events = [deposit(f"d{n}", 5_000, player=f"p-{n}") for n in range(5)]
    for n in range(400):
        player, of = f"p-{rng.randrange(5)}", f"b{rng.randrange(n + 1)}"
        amount = rng.randrange(1, 900)
        events.append(
            rng.choice(
                (
                    bet(f"b{n}", amount, player=player),
                    transaction(
                        "bet",
                        f"b{n}",
                        leg("BET", amount),
                        leg("JACKPOT_CONTRIBUTION", 1),
                        decide=True,
                        player=player,
                    ),
                    win(f"w{n}", amount, of, player=player),
                    rollback(f"r{n}", of, player=player),
                    transaction(
                        "rollback",
                        f"rw{n}",
                        leg("ROLLBACK", None, None),
                        reference=("win", f"w{n - 1}"),
                        player=player,
                    ),
                    house("bonus.granted", f"g{n}", leg("BONUS_GRANT", amount), player=player),
                    house("bonus.forfeited", f"o{n}", leg("BONUS_FORFEIT", amount), player=player),
                    transaction("jackpot", f"j{n}", leg("JACKPOT_WIN", amount), player=player),
                    transaction(
                        "contribution", f"c{n}", leg("JACKPOT_CONTRIBUTION", amount), player=player
                    ),
                )
            )
        )
    unbillable: Any = {"provider": "pgsoft", "player": "p-1", "is_billable": False}
    events += [
        deposit("last", 5_000, player="p-1"),
        bet("u1", 300, **unbillable),
        bet("u2", 50, **unbillable),
        win("u3", 120, "u1", **unbillable),
        rollback("u4", "u2", **{**unbillable, "is_billable": True}),
        bet("u5", 40, provider="pgsoft", player="p-1"),
    ]
    placed = [log_event(event, 0, offset) for offset, event in enumerate(events)]
    await postgres.commit_group([Slice(0, 0, len(placed), placed)])
    try:
        report = await make_report(database, DIMENSIONS)
        by_provider = await make_report(database, ["provider"])
    finally:
        await database.close()
    assert (report.mismatches, by_provider.mismatches) == ((), ())
    # What the provider does not bill is left out, and stated; the bet that was rolled back is in neither.
    [pgsoft] = [row for row in by_provider.rows if row.provider == "pgsoft"]
    assert (pgsoft.bets_minor, pgsoft.wins_minor, pgsoft.ggr_minor) == (40, 0, 40)
    assert (pgsoft.unbillable_bets_minor, pgsoft.unbillable_wins_minor) == (300, 120)
    assert pgsoft.unbillable_ggr_minor == 180
    assert all(
        sum(getattr(row, name) for row in report.rows)
        for name in ("bets_minor", "wins_minor", "jackpot_wins_minor")
    )


def test_a_sum_that_differs_from_the_ledgers_is_reported():
    row = ReportRow("hub88", None, None, None, None, "EUR", 500, 100, 3, 0, 25, 9)
    right = {("provider", "EUR"): 397, ("jackpot", "EUR"): 3, ("promotions", "EUR"): -25}
    assert find_mismatches([row], right) == []
    assert [
        wrong.account for wrong in find_mismatches([row], {**right, ("jackpot", "EUR"): 4})
    ] == ["jackpot"]
    assert [
        wrong.currency for wrong in find_mismatches([row], {**right, ("provider", "USD"): 1})
    ] == ["USD"]
