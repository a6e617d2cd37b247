"""The ledger of a demo as of three random moments, and after somebody has changed a row by hand.

The commands are those that a person types: `pitboss demo --keep`, then `pitboss replay ledger --to`.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pitboss.ops.periods import format_time
from pitboss.ops.provision import deprovision
from pitboss.settings import Runtime, worker_environment
from replay.log.broker import BrokerLog
from schemas.topics import TRANSACTIONS
from tests.support.fix_stack import SEED, Servers

pytestmark = [pytest.mark.integration, pytest.mark.prove]

EVENTS = int(os.environ.get("PITBOSS_TEST_DEMO_EVENTS", "3000"))
MOMENTS = 3
KEPT = re.compile(r"PITBOSS_NAMESPACE=(\w+)")
FIRST_TRANSFERS = """
    SELECT player_id, currency, version, debit, credit, event_id::text, decision, part, source_offset
      FROM transfer WHERE source_offset < %s AND player_id IS NOT NULL
     ORDER BY source_offset, player_id, currency, version
"""
TAMPER = """
    UPDATE transfer SET amount_minor = amount_minor + 1
     WHERE (player_id, currency, version, debit, credit, event_id, decision) = (%s, %s, %s, %s, %s, %s, %s)
"""
WALLETS = "SELECT player_id, currency FROM wallet ORDER BY player_id, currency"
TAMPER_WALLET = (
    "UPDATE wallet SET cash_minor = cash_minor + 1 WHERE (player_id, currency) = (%s, %s)"
)


def pitboss(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pitboss.cli.main", *arguments]
    return subprocess.run(
        command,
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


@dataclass(frozen=True)
class KeptDemo:
    runtime: Runtime
    home: Path
    first_ms: int
    last_ms: int
    """Times of the log's first and last record."""

    def replay(self, *arguments: str, code: int) -> dict[str, Any]:
        environment = {**worker_environment(self.runtime), "PITBOSS_HOME": str(self.home)}
        command = ("replay", "ledger", "--json", "--rate", "0", *arguments)
        done = pitboss(environment, *command)
        assert done.returncode == code, (done.stdout[-2_000:], done.stderr[-2_000:])
        return json.loads(done.stdout)


@pytest.fixture
def kept(stack: Servers, tmp_path: Path) -> Iterator[KeptDemo]:
    """A demo that was run to its end; its namespace is removed after the test."""
    servers = worker_environment(stack.runtime("unused"))
    environment = {**servers, "PITBOSS_HOME": str(tmp_path)}
    del environment["PITBOSS_NAMESPACE"]
    options = ("--events", str(EVENTS), "--seed", str(SEED), "--json", "--keep")
    done = pitboss(environment, "demo", *options, "--yes-use-these-servers")
    found = KEPT.search(done.stderr)
    assert found is not None, done.stderr[-2_000:]
    runtime = stack.runtime(found[1])
    try:
        assert done.returncode == 0, done.stderr[-2_000:]
        with BrokerLog(runtime.broker) as log:
            topic = runtime.topic(TRANSACTIONS)
            times = [
                time_ms
                for partition, bounds in log.bounds(topic).items()
                for block in log.read(topic, partition, *bounds)
                for time_ms in block.timestamps_ms
            ]
        yield KeptDemo(runtime, tmp_path, min(times), max(times))
    finally:
        deprovision(runtime)


@pytest.mark.timeout(900)
def test_the_ledger_of_any_moment_of_a_demo_and_a_row_changed_by_hand(kept: KeptDemo):
    rng = random.Random(SEED)
    moments = sorted(rng.randrange(kept.first_ms + 1, kept.last_ms + 1) for _ in range(MOMENTS))
    print(f"PITBOSS_TEST_SEED={SEED}: as of {', '.join(map(format_time, moments))}")
    events = []
    for at_ms in moments:
        found = kept.replay("--to", format_time(at_ms), code=0)
        assert found["identical"] is True
        events.append(found["events"])
    whole = kept.replay(code=0)
    assert 0 < events[0] <= events[1] <= events[2] <= whole["events"]
    assert whole["identical"] is True

    # A movement from before the last of the moments, and a wallet as it is now.
    with psycopg.connect(kept.runtime.database_url, autocommit=True) as connection:
        ends = found["ends"].values()
        *key, partition, offset = rng.choice(
            connection.execute(FIRST_TRANSFERS, [min(ends)]).fetchall()
        )
        assert connection.execute(TAMPER, key).rowcount == 1
    changed = kept.replay("--to", format_time(moments[-1]), code=1)
    assert changed["identical"] is False
    [difference] = changed["comparison"]["differences"]
    assert (difference["table"], difference["columns"]) == ("transfer", ["amount_minor"])
    assert [*difference["key"].values()] == key
    [behind] = changed["events_behind"]
    assert behind["place"] == f"{kept.runtime.topic(TRANSACTIONS)}-{partition}@{offset}"

    with psycopg.connect(kept.runtime.database_url, autocommit=True) as connection:
        wallet = rng.choice(connection.execute(WALLETS).fetchall())
        assert connection.execute(TAMPER_WALLET, wallet).rowcount == 1
    changed = kept.replay(code=1)
    assert changed["identical"] is False
    named = {one["table"]: one for one in changed["comparison"]["differences"]}
    assert named.keys() == {"transfer", "wallet"}
    assert tuple(named["wallet"]["key"].values()) == wallet
    assert named["wallet"]["columns"] == ["cash_minor"]
