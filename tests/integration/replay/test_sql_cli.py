"""`pitboss replay sql` from a real broker: a query, a file of statements, and one that is none."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from decimal import Decimal

import pytest
from click.testing import CliRunner

from pitboss.cli.main import cli
from pitboss.settings import worker_environment
from tests.support.fix_stack import SEED
from tests.support.replay_story import tell_story

pytestmark = pytest.mark.integration

EVENTS = 150
STAKED = """
    SELECT currency, count(*) AS bets, sum(amount)::VARCHAR AS staked
      FROM legs WHERE kind = 'BET' GROUP BY currency ORDER BY currency
"""
FILE = """
CREATE TABLE answered AS
    SELECT outcome, count(*) AS records FROM outcomes GROUP BY outcome;

SELECT sum(records)::BIGINT AS records FROM answered;
SELECT t.player_id, count(*) AS refused
  FROM transactions t JOIN outcomes o USING (event_id, attempt)
 WHERE o.outcome = 'REFUSED_FUNDS' GROUP BY ALL ORDER BY ALL
"""


async def test_queries_and_a_file_of_statements(runtime):
    story = await tell_story(runtime, SEED, EVENTS)
    events = [row.event for rows in story.log.values() for row in rows]

    async def sql(*arguments: str, statements: str | None = None):
        command = ["replay", "sql", "--rate", "0", *arguments]
        env = worker_environment(runtime)
        return await asyncio.to_thread(CliRunner().invoke, cli, command, env=env, input=statements)

    done = await sql(STAKED, "--view", "transactions", "--json")
    assert done.exit_code == 0, (done.output, done.stderr, done.exception)
    bets: Counter[str] = Counter()
    staked: Counter[str] = Counter()
    for event in events:
        for leg in event.legs:
            if leg.kind == "BET" and leg.currency and leg.amount:
                bets[leg.currency] += 1
                staked[leg.currency] += leg.amount.unscaled
    scales = {leg.currency: leg.amount.scale for one in events for leg in one.legs if leg.amount}
    found = json.loads(done.stdout)
    assert {one["currency"]: one["bets"] for one in found} == bets
    assert {one["currency"]: Decimal(one["staked"]) for one in found} == {
        currency: Decimal(unscaled).scaleb(-scales[currency])
        for currency, unscaled in staked.items()
    }

    done = await sql("--json", statements=FILE)
    assert done.exit_code == 0, (done.output, done.stderr, done.exception)
    created, total, refused = map(json.loads, done.stdout.splitlines())
    assert created[0]["Count"] > 1  # DuckDB's own answer to the first statement: kinds of outcomes
    assert total == [{"records": EVENTS}]
    assert refused
    assert {one["player_id"] for one in refused} <= {one.player_id for one in events}

    # As a table, of one player; and a mistake ends the file, with what DuckDB says of it.
    done = await sql("--player", "p-1", statements="SELECT DISTINCT player_id FROM transactions;")
    assert done.exit_code == 0
    assert done.stdout.split() == ["player_id", "p-1"]
    done = await sql("--view", "outcomes", statements="SELEC 1;\nSELECT 42 AS never;")
    assert done.exit_code == 2
    assert "DuckDB does not take the statement" in done.stderr
    assert "never" not in done.stdout
