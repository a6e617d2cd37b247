"""`pitboss replay export` from a real broker: sums equal to the ledger's, periods, masks and the record."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal

import duckdb
import psycopg
import pytest
from click.testing import CliRunner

from pitboss.cli.main import cli
from pitboss.settings import worker_environment
from schemas.events import Outcome
from schemas.topics import OUTCOMES, TRANSACTIONS
from tests.support.fix_stack import SEED
from tests.support.replay_story import START_MS, ReplayStory, tell_story

pytestmark = pytest.mark.integration

SUMS = f"""
    SELECT t.currency, t.kind, sum(t.amount)
      FROM '{{transactions}}' t
      JOIN (SELECT DISTINCT event_id, attempt, outcome FROM '{{outcomes}}') o USING (event_id, attempt)
     WHERE o.outcome = '{Outcome.POSTED.value}' AND t.kind IN ('BET', 'WIN', 'DEPOSIT')
       AND t._offset = (SELECT min(first._offset) FROM '{{transactions}}' first
                         WHERE first.event_id = t.event_id AND first.attempt = t.attempt)
     GROUP BY ALL
"""
LEDGER_SUMS = """
    SELECT t.currency,
           CASE WHEN debit LIKE 'player:%%' THEN 'BET' WHEN debit LIKE 'provider:%%' THEN 'WIN' ELSE 'DEPOSIT' END,
           sum(t.amount_minor / power(10::numeric, w.scale))
      FROM transfer t JOIN entry e USING (event_id, decision)
      JOIN wallet w ON w.player_id = t.player_id AND w.currency = t.currency
     WHERE e.kind IN ('BET', 'BET+WIN', 'WIN', 'DEPOSIT')
     GROUP BY 1, 2
"""


async def run(runtime, *arguments: str, code: int = 0, **environment: str):
    command = ["replay", "export", *arguments, "--rate", "0"]
    env = {**worker_environment(runtime), **environment}
    result = await asyncio.to_thread(CliRunner().invoke, cli, command, env=env)
    assert result.exit_code == code, (result.output, result.stderr, result.exception)
    return result


@pytest.fixture
async def story(runtime) -> ReplayStory:
    return await tell_story(runtime, SEED)


async def test_sums_over_the_files_are_the_ledgers_and_nothing_else_is_lost(story, tmp_path):
    runtime = story.runtime
    files = {"transactions": tmp_path / "t.parquet", "outcomes": tmp_path / "o.parquet"}
    await run(runtime, TRANSACTIONS, "--legs", "--out", str(files["transactions"]))
    manifest = json.loads(
        (await run(runtime, OUTCOMES, "--out", str(files["outcomes"]), "--json")).stdout
    )
    assert manifest["rows"] == sum(map(len, story.log.values()))
    with duckdb.connect() as connection:
        found = connection.execute(SUMS.format(**files)).fetchall()
    with psycopg.connect(runtime.database_url) as connection:
        expected = connection.execute(LEDGER_SUMS).fetchall()
    assert {(currency, kind): amount for currency, kind, amount in found} == {
        (currency, kind): Decimal(amount) for currency, kind, amount in expected
    }
    assert len(found) == 9

    # Refused bets are in the file with what they asked for, and in no row of the tables.
    with duckdb.connect() as connection:
        [(refused, amount)] = connection.execute(
            "SELECT count(*), sum(amount) FROM '{transactions}' JOIN '{outcomes}' o USING (event_id, attempt)"
            " WHERE kind = 'BET' AND o.outcome LIKE 'REFUSED%'".format(**files)
        ).fetchall()
    assert refused
    assert amount > 0


async def test_one_players_bets_of_a_day_are_one_command(story, tmp_path):
    runtime = story.runtime
    period = ["--clock", "event", "--since", "2026-09-21", "--until", "2026-09-22"]
    out = tmp_path / "bets.duckdb"
    arguments = [TRANSACTIONS, "--player", "p-3", "--kind", "BET", *period, "--out", str(out)]
    result = await run(runtime, *arguments)
    expected = [
        one
        for rows in story.log.values()
        for one in rows
        if one.event.player_id == "p-3" and any(leg.kind == "BET" for leg in one.event.legs)
    ]
    assert f"{len(expected)} rows of" in result.stdout
    assert START_MS // 86_400_000 == 20717  # the day of the period
    with duckdb.connect(str(out), read_only=True) as connection:
        rows = connection.execute(
            "SELECT _offset, provider_tx_id FROM wallet_transactions_v1"
        ).fetchall()
    assert rows == [(one.source.offset, one.event.provider_tx_id) for one in expected]

    lines = (await run(runtime, *arguments[:-2], "--format", "jsonl", "--limit", "2")).stdout
    assert [json.loads(line)["provider_tx_id"] for line in lines.splitlines()] == [
        one.event.provider_tx_id for one in expected[:2]
    ]
    shown = (await run(runtime, *arguments[:-2], "--where", "legs.amount > 1")).stdout
    assert "p-3" in shown


async def test_nothing_is_committed_and_what_is_unmasked_is_recorded(story, tmp_path):
    runtime = story.runtime
    result = await run(runtime, TRANSACTIONS, "--unmask", "--out", str(tmp_path / "a"), code=2)
    assert "--reason" in result.stderr
    arguments = [TRANSACTIONS, "--unmask", "--reason", "ticket 7", "--out", str(tmp_path / "a")]
    await run(runtime, *arguments)
    with psycopg.connect(runtime.database_url) as connection:
        rows = connection.execute(
            "SELECT stage, topic, reason, rows FROM unmasked_export ORDER BY id"
        ).fetchall()
    total = sum(map(len, story.log.values()))
    name = runtime.topic(TRANSACTIONS)
    assert rows == [("BEGUN", name, "ticket 7", None), ("FINISHED", name, "ticket 7", total)]
    for policy in ("masked", "off", "sometimes"):
        forbidden = [*arguments[:-1], str(tmp_path / "b")]
        await run(runtime, *forbidden, code=2, PITBOSS_EXPORT=policy)
    await run(runtime, TRANSACTIONS, code=2, PITBOSS_EXPORT="off")
    await run(runtime, "wallet.transaction.v1", code=2)
    from aiokafka.admin import AIOKafkaAdminClient

    admin = AIOKafkaAdminClient(**runtime.broker.aiokafka_options())
    await admin.start()
    groups = {group for group, *_ in await admin.list_consumer_groups()}
    await admin.close()
    assert "pitboss.replay" not in groups
