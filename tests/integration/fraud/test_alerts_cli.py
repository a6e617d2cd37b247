"""`pitboss alerts` as a person uses it: over the topics of a real broker, filled by the real agent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys

import msgspec
import psycopg
import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner

from fraud_agents.detectors import DEFAULT_RULES
from pitboss.cli.main import cli
from pitboss.settings import worker_environment
from schemas import codec
from schemas.events import FraudAlert
from schemas.topics import ALERTS
from tests.support import fraud_log
from tests.support.fraud_log import T0, append, burst, read_alerts, running_agent, settings_of

pytestmark = pytest.mark.integration


async def _prepare(runtime) -> list[FraudAlert]:
    await fraud_log.make_topics(runtime)
    await append(
        runtime,
        burst("slow", T0, 110)
        + burst("fast", T0, 520)
        + burst("faster", T0 + 9_000, 600, every_ms=50),
    )
    async with running_agent(settings_of(runtime, rules=DEFAULT_RULES)):
        await fraud_log.wait_until_processed(runtime)
    alerts = await read_alerts(runtime)
    await _send(runtime, alerts[0])  # as after a kill: the same once more
    latest = {alert.alert_id: alert for alert in sorted(alerts, key=lambda one: one.revision)}
    return sorted(latest.values(), key=lambda alert: alert.occurred_at)


async def _send(runtime, alert: FraudAlert) -> None:
    producer = AIOKafkaProducer(**runtime.broker.aiokafka_options())
    await producer.start()
    try:
        await producer.send_and_wait(
            runtime.topic(ALERTS), codec.encoder(FraudAlert)(alert), alert.key.encode(), partition=0
        )
    finally:
        await producer.stop()


@pytest.fixture
def alerts(runtime):
    return asyncio.run(_prepare(runtime))


@pytest.fixture
def pitboss(runtime, monkeypatch):
    for name, value in worker_environment(runtime).items():
        if name.startswith("PITBOSS_"):
            monkeypatch.setenv(name, value)
    return lambda *arguments: CliRunner().invoke(
        cli, ["alerts", *arguments], catch_exceptions=False
    )


def test_list_show_and_explain(alerts, pitboss, runtime):
    first, second = alerts
    listed = pitboss("list")
    assert listed.exit_code == 0
    lines = listed.stdout.splitlines()
    assert [first.alert_id in lines[1], second.alert_id in lines[2], len(lines)] == [True, True, 3]
    assert listed.stderr == "2 alerts\n"
    assert json.loads(pitboss("list", "--json").stdout) == [
        msgspec.to_builtins(alert) for alert in alerts
    ]
    assert (
        json.loads(pitboss("list", "--json", "--player", "fast").stdout)[0]["key"] == "default:fast"
    )
    assert json.loads(pitboss("list", "--json", "--rule", "D02").stdout) == []

    shown = pitboss("show", first.alert_id[:8])
    assert shown.exit_code == 0
    assert "inter_arrival_p50_ms" in shown.stdout
    assert first.sample_event_ids[49] in shown.stdout
    assert json.loads(pitboss("show", first.alert_id, "--json").stdout) == msgspec.to_builtins(
        first
    )

    explained = pitboss("explain", first.alert_id)
    assert explained.exit_code == 0
    assert explained.stdout.count("█") > 100
    assert explained.stdout.count("◄ 500 reached") == 1
    assert "agrees" in explained.stdout
    assert "of these 500 events the ledger refused 0: none, 500 not decided" in explained.stdout
    explained_again = json.loads(pitboss("explain", first.alert_id, "--json").stdout)
    assert explained_again["agrees"] is True
    assert explained_again["outcomes"] == {}
    assert len(explained_again["seconds"]) == 60
    assert explained_again["seconds"][-1]["running"] == 500

    with psycopg.connect(runtime.database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE entry RENAME TO entries_of_another_release")
    without_ledger = pitboss("explain", first.alert_id)
    assert without_ledger.exit_code == 0
    assert "what the ledger decided about them is not known" in without_ledger.stderr

    # An alert that the log does not support: the output and the exit code show it.
    asyncio.run(_send(runtime, msgspec.structs.replace(first, alert_id="f" * 36, observed=777)))
    false = pitboss("explain", "ffff")
    assert false.exit_code == 1
    assert "DOES NOT AGREE" in false.stdout

    asyncio.run(_send(runtime, msgspec.structs.replace(first, observed=501)))
    assert "copies of this alert differ" in pitboss("show", first.alert_id).stderr


def test_what_cannot_be_found_is_reported_with_a_way_out(alerts, pitboss, runtime):
    missing = pitboss("show", "zzzz")
    assert missing.exit_code == 2
    assert "pitboss alerts list" in missing.stderr
    assert "2 alerts begin with" in pitboss("show", "").stderr


def test_without_topics_it_says_how_to_make_them(pitboss):
    result = pitboss("list")
    assert result.exit_code == 2
    assert "pitboss topics create" in result.stderr


def test_watch_shows_each_alert_once_and_ends_with_ctrl_c(alerts, runtime):
    # A test session in a shell's background has SIGINT ignored, and so would its children.
    ctrl_c = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [
        sys.executable,
        "-c",
        f"{ctrl_c}; from pitboss.cli.main import main; main()",
        "alerts",
        "watch",
        "--json",
    ]
    environment = {**os.environ, **worker_environment(runtime), "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        [*command, "--from-start", "--count", "4"],  # two records an alert
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["alert_id"] for line in lines} == {alert.alert_id for alert in alerts}
    with subprocess.Popen(
        [*command, "--from-start"], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(4):
            assert json.loads(process.stdout.readline())["rule_id"] == "D01"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == ""
        assert process.wait(60) == 0


def test_a_case_is_assigned_and_closed_with_a_verdict(alerts, pitboss):
    alert_id = alerts[0].alert_id
    by = ("--by", "kim", "--reason", "a streamer we know")
    would = pitboss("assign", alert_id[:8], "--assignee", "lee", *by, "--dry-run")
    assert would.exit_code == 0
    assert "would be" in would.stdout
    assert "assigned to" not in pitboss("show", alert_id).stdout
    assert pitboss("assign", alert_id[:8], "--assignee", "lee", *by).exit_code == 0
    closed = json.loads(pitboss("close", alert_id, "--verdict", "no-fraud", *by, "--json").stdout)
    assert (closed["alert_id"], closed["value"]) == (alert_id, "no-fraud")
    shown = pitboss("show", alert_id).stdout.splitlines()
    assert [line.split("  ", 1)[1] for line in shown if " by kim: " in line] == [
        "assigned to lee by kim: a streamer we know",
        "closed as no-fraud by kim: a streamer we know",
    ]
    assert pitboss("close", alert_id, "--verdict", "maybe", *by).exit_code == 2
    assert pitboss("assign", alert_id, "--assignee", " ", *by).exit_code == 2
