"""`pitboss alerts` about what the ledger tells, which is no detector's: a debt has no threshold and no rule to run."""

from __future__ import annotations

import json

import msgspec
import pytest
from click.testing import CliRunner

from fraud_agents.alerts import PublishedAlert
from ledger_sink.rules.debts import debt_alert
from pitboss.cli import alerts
from pitboss.cli.alert_explanations import describe_outcomes
from pitboss.cli.main import cli
from schemas.events import Position

EVENT = "01929c5e-7e3d-7000-8000-000000000001"
DEBT = debt_alert(
    EVENT,
    "acme",
    "p-1",
    "chargeback",
    "BOOKED_INTO_DEBT",
    "EUR",
    -250,
    1_760_000_000_000,
    Position("t", 0, 1),
)


@pytest.fixture
def pitboss(monkeypatch):
    monkeypatch.setattr(alerts, "_runtime", lambda: None)
    monkeypatch.setattr(alerts, "_read", lambda _: [PublishedAlert(DEBT)])
    return lambda *arguments: CliRunner().invoke(cli, ["alerts", *arguments])


def test_what_measures_against_nothing_shows_nothing_allowed(pitboss):
    listed, shown = pitboss("list").stdout, pitboss("show", DEBT.alert_id).stdout
    assert "250 minor units of EUR" in listed
    assert "250 minor units of EUR" in shown
    assert "<" not in listed
    assert "allowed" not in shown


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_an_alert_of_the_ledger_is_not_run_again_but_looked_up_there(pitboss, form):
    done = pitboss("explain", DEBT.alert_id, *form)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "L01 is raised by the ledger" in done.stderr
    assert f"pitboss ledger entry {EVENT}" in done.stderr
    assert "unknown to this release" not in done.stderr


def test_the_player_of_an_alert_is_released_under_the_alerts_brand_and_id(pitboss):
    done = pitboss(
        *("release", DEBT.alert_id[:8], "--by", "eve", "--reason", "a test card"),
        *("--dry-run", "--json"),
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {
        "operation": "player.released",
        "player_id": "p-1",
        "actor": "eve",
        "reason": "a test card",
        "alert_id": DEBT.alert_id,
    }


def test_an_alert_about_no_player_releases_none(pitboss, monkeypatch):
    about_game = msgspec.structs.replace(DEBT, player_id=None)
    monkeypatch.setattr(alerts, "_read", lambda _: [PublishedAlert(about_game)])
    done = pitboss("release", DEBT.alert_id, "--by", "eve", "--reason", "none")
    assert done.exit_code == 2
    assert "is not about a player" in done.stderr


def test_refused_bets_are_told_apart_from_booked_ones():
    outcomes = {"POSTED": 480, "REFUSED_FUNDS": 15, "REFUSED_BLOCKED": 2}
    assert describe_outcomes(outcomes, 500) == (
        "of these 500 events the ledger refused 17: REFUSED_FUNDS 15, REFUSED_BLOCKED 2, "
        "3 not decided"
    )
    assert describe_outcomes({"POSTED": 500}, 500).endswith("refused 0: none")
