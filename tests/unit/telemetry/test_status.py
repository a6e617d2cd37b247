"""`pitboss status`: its exit code is that of the worst it found, without servers."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner

from pitboss.cli import stack
from pitboss.cli.main import cli
from pitboss.cli.stack import UNHELD_AFTER_S, list_state_troubles, list_unheld
from pitboss.embedded.stack import ServerStatus, Stack
from pitboss.ops.installation import InstallationState, RolePartition, RoleState, list_retiring
from pitboss.ops.unbooked import OldBarrier
from pitboss.workers.degraded import DegradedWorker, mark
from pitboss.workers.role_locks import hold_roles
from runtime.kafka.control import Pause
from streams.providers.versions import VersionRow, VersionState

PAGE = Path(__file__).parents[3] / "docs" / "howto" / "telemetry.md"
TODAY = date(2026, 12, 1)
WAITS = "UNAVAILABLE: the database is away"


def role(name="ledger", *, topic="t", lag=1, age_s=UNHELD_AFTER_S, is_held=True, waits=None):
    return RoleState(name, [RolePartition(topic, 0, 0, lag, age_s, is_held, waits)], {})


def version(day=TODAY, state=VersionState.DEPRECATED):
    return VersionRow(
        provider="hub88", version="1", adapter="m:C", state=state, source="s", retires_on=day
    )


def retired(*rows, topic="ns.provider.hub88.raw.v1"):
    retiring = list_retiring(rows, TODAY)
    return InstallationState([role("normalise", topic=topic, lag=0)], retiring=retiring)


UNSEALED = InstallationState([], never_sealed=2, sealed=0)
PAUSE = Pause("ledger", "2026-12-01T00:00:00Z", "kim", "audit")
BARRIER = OldBarrier(3, 720.0, ["t-0 (booked up to 1 of 2)"], "3 events have waited for 12 min")


@pytest.fixture
def pitboss(monkeypatch, tmp_path):
    """Both servers answer, and `state` is that of the installation."""
    for name in ("PITBOSS_KAFKA", "PITBOSS_DATABASE", "PITBOSS_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PITBOSS_HOME", str(tmp_path))
    monkeypatch.setenv("PITBOSS_DISK_FREE_MIN_MB", "1")
    answering = [ServerStatus(name, True, 7, "a:1", None) for name in ("kafka", "postgres")]
    monkeypatch.setattr(Stack, "status", lambda _: answering)

    def run(state=None, barriers=(), pauses=()):
        monkeypatch.setattr(stack, "_installation", lambda _: state or InstallationState([]))
        monkeypatch.setattr(stack, "_old_barriers", lambda _: list(barriers))
        monkeypatch.setattr(stack, "_pauses", lambda _: list(pauses))
        shown = CliRunner().invoke(cli, ["status"], catch_exceptions=False)
        as_json = CliRunner().invoke(cli, ["status", "--json"], catch_exceptions=False)
        assert shown.exit_code == as_json.exit_code
        return shown, json.loads(as_json.stdout)

    return run


def test_an_installation_without_a_trouble_ends_with_0(pitboss):
    shown, row = pitboss(InstallationState([role()], never_sealed=1, sealed=1))
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert (row["degraded"], row["old_barriers"], row["roles"][0]["lag_records"]) == ([], [], 1)


def test_the_page_lists_every_key(pitboss):
    text = PAGE.read_text().partition("| key of `pitboss status --json`")[2].partition("\n\n")[0]
    keys = {
        key for line in text.splitlines()[2:] for key in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    _, row = pitboss()
    assert keys == row.keys()


def test_a_degraded_worker_ends_it_with_1(pitboss, tmp_path):
    worker = DegradedWorker(
        "fraud-1", "fraud", "", 70, "BROKEN: x", None, 3, 0, "/log", "runbooks.md"
    )
    with hold_roles(tmp_path, "", ["fraud"], workers=1):
        mark(tmp_path, "", worker)
        shown, row = pitboss()
    assert shown.exit_code == 1
    assert "error: fraud-1 is DEGRADED: it ended 3 times in a row: BROKEN: x" in shown.stderr
    assert row["degraded"][0]["worker"] == "fraud-1"
    assert pitboss()[0].exit_code == 0, "its supervisor has ended"


def test_old_barriers_end_it_with_1(pitboss):
    shown, row = pitboss(barriers=[BARRIER])
    assert shown.exit_code == 1
    assert f"error: {BARRIER.sentence}" in shown.stderr
    assert row["old_barriers"][0]["waits_for"] == BARRIER.waits_for


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (InstallationState([role(waits=WAITS)]), f"ledger waits: {WAITS}"),
        (InstallationState([role(is_held=False)]), "no worker of ledger reads 1 partition"),
        (retired(version()), "hub88 1 has retired (2026-12-01)"),
        (UNSEALED, "nothing is sealed though the ledger has entries"),
    ],
)
def test_each_trouble_of_roles_and_ledger_ends_it_with_1(pitboss, state, sentence):
    shown, _ = pitboss(state)
    assert shown.exit_code == 1
    assert f"error: {sentence}" in shown.stderr


def test_a_paused_role_needs_no_worker(pitboss):
    state = InstallationState([role(is_held=False, waits="paused since 2026 by kim")])
    assert pitboss(state, pauses=[PAUSE])[0].exit_code == 0
    assert pitboss(state)[0].exit_code == 1


def test_records_without_a_worker_count_from_an_age_on():
    partitions = [
        RolePartition("t", number, 0, 1_000, age_s, is_held, None)
        for number, (age_s, is_held) in enumerate([(31.0, False), (90.0, False), (95.0, True)])
    ]
    [sentence] = list_unheld([RoleState("drift", partitions, {})], ())
    assert (
        "no worker of drift reads 2 partitions: 2,000 records wait there, the oldest for 90 s"
        in (sentence)
    )
    for young in (role(is_held=False, age_s=UNHELD_AFTER_S - 1), role(is_held=False, age_s=None)):
        assert list_unheld([young], ()) == []


@pytest.mark.parametrize(
    "state",
    [
        retired(version(date(2026, 12, 2))),
        retired(version(state=VersionState.RETIRED)),
        retired(version(), topic="provider.camt.raw.v1"),
        InstallationState([], never_sealed=2, sealed=1),
        InstallationState([], never_sealed=0, sealed=0),
        InstallationState(),
    ],
    ids=["not yet", "marked", "of another provider", "one is sealed", "no entries", "not known"],
)
def test_what_needs_nobody_is_no_trouble(state):
    assert list_state_troubles(state, []) == []


def test_a_near_retirement_is_listed_with_its_days():
    [row] = list_retiring([version(date(2026, 12, 22)), version(date(2027, 6, 1))], TODAY)
    assert (row["days"], row["state"], row["retires_on"]) == (21, "deprecated", "2026-12-22")
