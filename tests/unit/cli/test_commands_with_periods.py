"""`--since` and `--until` of the commands that read topics: the first is in the period, the last is not."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from fraud_agents.alerts import PublishedAlert
from pitboss.cli import alerts, dlt
from pitboss.ops import dead_letters
from pitboss.settings import runtime_of
from runtime.dead_letters.letters import Action, DeadLetterCase, Letter
from runtime.security import BrokerAddress
from schemas.errors import UsageError
from schemas.events import DeadLetter, FraudAlert, OffsetRange, Position
from tests.support.command_line import filled

RUNTIME = runtime_of(BrokerAddress("b:1"), "postgresql://u@h/d", "")


def run(command, *arguments):
    return CliRunner().invoke(command, arguments, catch_exceptions=False).stdout


TIMES = (0, 86_399_999, 86_400_000, 172_799_999, 172_800_000)
DAY = ("--since", "1970-01-02", "--until", "1970-01-03")
WITHIN = [
    ((), list(TIMES)),
    (DAY, [86_400_000, 172_799_999]),
    (("--since", "1970-01-02"), [86_400_000, 172_799_999, 172_800_000]),
    (("--until", "1970-01-03"), [0, 86_399_999, 86_400_000, 172_799_999]),
    (("--since", "1h"), []),
]


@pytest.mark.parametrize(("options", "expected"), WITHIN)
def test_alerts_of_a_period(monkeypatch, options, expected):
    found = [
        PublishedAlert(
            filled(
                FraudAlert,
                sources=[OffsetRange("t", 0, 1, 2)],
                sample_event_ids=[],
                evidence={},
                occurred_at=at,
            )
        )
        for at in TIMES
    ]
    monkeypatch.setattr(alerts, "_runtime", lambda: None)
    monkeypatch.setattr(alerts, "_read", lambda _runtime: found)
    shown = json.loads(run(alerts.alerts, "list", *options, "--json"))
    assert [alert["occurred_at"] for alert in shown] == expected


def case(number: int, at_ms: int) -> DeadLetterCase:
    place = Position("t", 0, number)
    letter = filled(
        DeadLetter, headers=[], source=place, source_timestamp=at_ms, code=f"CODE_{number}"
    )
    action = filled(Action, id=number, requested_at=at_ms, appended_at=None)
    return DeadLetterCase(place, (Letter(place, letter),), (action,))


@pytest.mark.parametrize(("options", "expected"), WITHIN)
@pytest.mark.parametrize(("command", "name"), [("list", "first_at"), ("history", "at")])
def test_dead_letters_and_actions_of_a_period(monkeypatch, command, name, options, expected):
    found = dead_letters.DeadLetterSnapshot([case(*pair) for pair in enumerate(TIMES)])

    async def load_snapshot(*_arguments):
        return found

    monkeypatch.setattr(dlt, "_runtime", lambda: RUNTIME)
    monkeypatch.setattr(dead_letters, "load_snapshot", load_snapshot)
    shown = json.loads(run(dlt.dlt, command, *options, "--json"))
    assert sorted(row[name] for row in shown) == expected


@pytest.mark.parametrize("command", [(alerts.alerts, "list"), (dlt.dlt, "list")])
def test_an_empty_period_is_refused_before_anything_is_read(command):
    group, name = command
    with pytest.raises(UsageError, match="the period is empty"):
        run(group, name, "--since", "today", "--until", "yesterday")
