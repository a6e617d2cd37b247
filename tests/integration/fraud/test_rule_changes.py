"""A rule published, tried, activated and paused while the real worker runs and is killed: as in a replay."""

from __future__ import annotations

import asyncio
import json
import signal

import psycopg
import pytest
from click.testing import CliRunner

from fraud_agents.activations import rerun_shard
from ledger_sink.store.database import LedgerDatabase
from pitboss.cli.main import cli
from pitboss.ops.rule_changes import read_book, read_timelines
from pitboss.settings import worker_environment
from replay.audit.rerun import name_record
from schemas import codec
from schemas.events import FraudAlert, WalletTransaction
from schemas.topics import TRANSACTIONS
from tests.faults.test_fraud_kill import EXIT_WITHIN_S, by_id, production_worker, running
from tests.support import fraud_log
from tests.support.fraud_log import PARTITIONS, T0, append, bet, burst, read_alerts

pytestmark = [pytest.mark.integration, pytest.mark.faults, pytest.mark.prove]

RULE = {
    "rule": "D01",
    "version": 3,
    "detector": "D01",
    "severity": "block",
    "owner": "risk",
    "reason": "a burst of 200 in a minute is a machine already",
    "parameters": {"threshold": 200, "limits": {"warn": 60}},
}


@pytest.fixture
def pitboss(runtime, monkeypatch):
    for name, value in worker_environment(runtime).items():
        if name.startswith("PITBOSS_"):
            monkeypatch.setenv(name, value)

    async def run(*arguments: str) -> dict:
        by = ("--by", "kim", "--reason", "a test") if arguments[0] != "status" else ()
        command = ["rules", *arguments, *by, "--json"]
        result = await asyncio.to_thread(CliRunner().invoke, cli, command, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run


async def replay(runtime) -> list[FraudAlert]:
    """What the log, the changes and the markers make of each other, without the worker."""
    decode, book = codec.decoder(WalletTransaction), await read_book(runtime)
    database = LedgerDatabase(runtime.database_url, "test")
    try:
        timelines = await read_timelines(database)
    finally:
        await database.close()
    records = await fraud_log.read_all(runtime, TRANSACTIONS)
    alerts: list[FraudAlert] = []
    for partition in timelines[TRANSACTIONS]:
        own = [(r.offset, decode(r.value)) for r in records if r.partition == partition]
        of_partition = {topic: by_number[partition] for topic, by_number in timelines.items()}
        found = rerun_shard({TRANSACTIONS: own}, partition, of_partition, book.rule_set_at)
        alerts += [alert for alert, _ in found]
    return alerts


async def test_a_rule_goes_through_its_life_while_the_worker_is_killed(runtime, pitboss, tmp_path):
    await fraud_log.make_topics(runtime)
    file = tmp_path / "rule.json"
    file.write_text(json.dumps(RULE))
    output, start = tmp_path / "worker.log", T0

    async def play(name: str) -> None:
        """Append bursts over every partition, a quarter of an hour after those before."""
        nonlocal start
        start += 900_000
        events = [bet(f"quiet-{n % 9}", start + n * 400, f"{name}-q{n}") for n in range(150)]
        for number in range(2 * PARTITIONS):
            events += burst(f"{name}-{number}", start, 150 + 30 * number)
        await append(runtime, sorted(events, key=lambda event: event.occurred_at))

    await play("first")
    would = await pitboss("publish", str(file), "--dry-run")
    assert would["dry_run"] is True
    with running(production_worker(runtime), output) as process:
        await fraud_log.wait_until_processed(runtime)
        assert (await pitboss("publish", str(file)))["offset"] == 0
        for arguments in (
            ("activate", "D01:3", "--state", "shadow"),
            ("activate", "D01:3", "--state", "canary:25"),
            ("activate", "D01:3"),
        ):
            changed = await pitboss(*arguments, "--wait", "60")
            assert None not in changed["from_offsets"].values()
            assert len(changed["from_offsets"]) == PARTITIONS
            await play(arguments[-1].replace(":", "-"))
        process.send_signal(signal.SIGKILL)
        process.wait(EXIT_WITHIN_S)
    # While no worker runs: the next one takes the change up.
    changed = await pitboss("pause", "D01:3", "--wait", "0")
    await play("paused-while-away")
    with running(production_worker(runtime), output) as process:
        await pitboss("snooze", "D02", "--player", "p", "--until", "2030-01-01", "--wait", "60")
        await play("paused")
        process.send_signal(signal.SIGKILL)
        process.wait(EXIT_WITHIN_S)
    with running(production_worker(runtime), output) as process:
        await fraud_log.wait_until_processed(runtime)
        process.send_signal(signal.SIGTERM)
        assert process.wait(EXIT_WITHIN_S) == 0

    published = by_id(await read_alerts(runtime))
    assert published == {name_record(alert): alert for alert in await replay(runtime)}
    found = {(alert.rule_version, alert.handling) for alert in published.values()}
    assert found == {(2, "normal"), (3, "shadow"), (3, "normal")}
    status = await pitboss("status")
    [own] = [one for one in status["versions"] if (one["rule"], one["version"]) == ("D01", 3)]
    assert (own["state"], own["by"]) == ("paused", "kim")
    with psycopg.connect(runtime.database_url) as connection:
        [(count,)] = connection.execute(
            "SELECT count(*) FROM fraud.activation WHERE topic = %s",
            [TRANSACTIONS],
        ).fetchall()
    # Of changes with no record between them the last one stays: the pause and the snooze may be one,
    # and a topic without records has one in all.
    assert count >= 4 * PARTITIONS
