"""A block holds whatever clock wrote it, and a command that was not applied says so."""

from __future__ import annotations

import json

import msgspec
import pytest
from click.testing import CliRunner

from pitboss.cli import operator_commands
from pitboss.cli.player import block
from pitboss.ops import operator_events
from pitboss.ops.operator_events import SubmittedEvent
from pitboss.settings import runtime_of
from runtime.security import BrokerAddress
from schemas.events import Attempt, Cause, WalletOutcome
from tests.support.ledger_events import bet, book_of, deposit, house, leg, outcomes

AT_MS = 1_790_000_000_000
LATE_MS = AT_MS - 300_000
"""By a clock that is 5 minutes behind."""

ATTEMPT = Attempt("provider.house.raw.v1", 3, 41, 0)


def state_event(operation, tx_id, source, at_ms, what=None):
    what = what or leg("PLAYER_STATE", None, None)
    event = house(operation, tx_id, what, cause=Cause(source, tx_id, "kim", "a test"))
    return msgspec.structs.replace(event, provider_at=at_ms)


@pytest.mark.parametrize("source", ["operator", "alert"])
@pytest.mark.parametrize("operation", ["player.blocked", "player.held"])
def test_a_block_by_a_slow_clock_stops_the_player(source, operation):
    book = book_of(
        deposit("d", 100),
        state_event("player.released", "1", source, AT_MS),
        state_event(operation, "2", source, LATE_MS),
        bet("b", 10),
        house("withdrawal.requested", "w", leg("WITHDRAWAL", 1), decide=True),
    )
    answers = [(one.answer.outcome, one.answer.reason) for one in book.decisions]
    assert answers[2] == ("POSTED", "BOOKED")
    assert outcomes(book)[3] == ("REFUSED_BLOCKED" if operation == "player.blocked" else "POSTED")
    assert outcomes(book)[4] == "REFUSED_BLOCKED"


def test_a_release_by_a_slow_clock_releases():
    book = book_of(
        deposit("d", 100),
        state_event("player.blocked", "1", "operator", AT_MS),
        state_event("player.released", "2", "operator", LATE_MS),
        bet("b", 10),
    )
    assert outcomes(book)[3] == "POSTED"


def test_a_limit_by_a_slow_clock_limits():
    limits = [
        state_event("player.limited", "1", "operator", AT_MS, leg("PLAYER_STATE", 100)),
        state_event("player.limited", "2", "operator", LATE_MS, leg("PLAYER_STATE", 5)),
    ]
    assert outcomes(book_of(deposit("d", 100), *limits, bet("b", 10)))[3] == "REFUSED_LIMIT"


def test_an_old_verdict_of_a_kyc_provider_still_changes_nothing():
    book = book_of(
        deposit("d", 100),
        state_event("player.released", "1", "kyc", AT_MS),
        state_event("player.blocked", "2", "kyc", LATE_MS),
        bet("b", 10),
    )
    assert book.decisions[2].answer.reason == "STALE_STATE"
    assert outcomes(book)[3] == "POSTED"


@pytest.mark.parametrize(
    ("reason", "exit_code"), [("BOOKED", 0), ("STALE_STATE", 1), ("ALREADY_CLOSED", 1)]
)
def test_a_command_that_was_not_applied_ends_with_1_and_says_so(
    monkeypatch, tmp_path, reason, exit_code
):
    outcome = WalletOutcome(
        event_id="e-1",
        attempt=ATTEMPT,
        outcome="POSTED",
        reason=reason,
        message="",
        player_id="p-1",
        brand="default",
        provider="house",
        operation="player.blocked",
        provider_tx_id="x",
        currency=None,
        scale=None,
        balance_minor=None,
        version=None,
        decided_at=AT_MS,
    )

    async def submit(*_args, **_more):
        return SubmittedEvent(ATTEMPT, outcome)

    runtime = runtime_of(BrokerAddress("b:1"), "postgresql://u@h/d", "")
    monkeypatch.setattr(operator_commands, "resolve_runtime", lambda _: runtime)
    monkeypatch.setattr(operator_events, "submit", submit)
    env = {"PITBOSS_HOME": str(tmp_path), "PITBOSS_NAMESPACE": "", "PITBOSS_KEYS_FILE": ""}
    arguments = ["p-1", "--by", "kim", "--reason", "test"]
    done = CliRunner().invoke(block, arguments, env=env)
    assert done.exit_code == exit_code
    assert ("nothing was changed" in done.stdout) == bool(exit_code)
    shown = json.loads(CliRunner().invoke(block, [*arguments, "--json"], env=env).stdout)
    assert shown["applied"] is not bool(exit_code)
