"""What a command that submits an operator's event prints, and with which code it ends."""

from __future__ import annotations

import json
import uuid

import pytest
from click.testing import CliRunner

from ledger_sink.queries.open_items import OpenEntry
from pitboss.cli import ledger_corrections, ledger_open, operator_commands
from pitboss.cli.main import cli
from pitboss.ops import operator_events
from pitboss.ops.operator_events import UNSIGNED, SubmittedEvent
from pitboss.settings import runtime_of
from pitboss.workers.role_locks import hold_roles
from runtime.security import BrokerAddress
from schemas.errors import UsageError
from schemas.events import Attempt, DeadLetter, Position

ATTEMPT = Attempt("provider.house.raw.v1", 14, 39, 0)
LETTER = DeadLetter(
    source=Position(ATTEMPT.topic, ATTEMPT.partition, ATTEMPT.offset),
    record_index=None,
    key=b"p-1",
    value=b"{}",
    headers=[],
    source_timestamp=1,
    code="MISSING_SIGNATURE",
    detail="the header x-house-signature is missing",
    stage="normalise",
    code_version="0.1.0",
    player_id=None,
)


@pytest.fixture
def run(monkeypatch, tmp_path):
    def invoke(found: SubmittedEvent, *options: str, env: dict[str, str] | None = None):
        async def submit(_runtime, _worker, _event, _brand, _wait_s, warn, log_partition):
            warn(UNSIGNED)
            return found

        runtime = runtime_of(BrokerAddress("b:1"), "postgresql://u@h/d", "")
        monkeypatch.setattr(operator_commands, "resolve_runtime", lambda _: runtime)
        monkeypatch.setattr(operator_events, "submit", submit)
        monkeypatch.setattr(ledger_corrections, "query_ledger", lambda _: {})
        arguments = ["p-1", "5", "EUR", "--by", "kim", "--reason", "test", *options]
        home = {"PITBOSS_HOME": str(tmp_path), "PITBOSS_NAMESPACE": "", "PITBOSS_KEYS_FILE": ""}
        none = {"PITBOSS_ADJUST_ALONE": "", "PITBOSS_KAFKA": "", "PITBOSS_DATABASE": "", **home}
        return CliRunner().invoke(cli, ["ledger", "adjust", *arguments], env=none | (env or {}))

    return invoke


def test_a_limit_in_the_environment_decides_nothing_and_is_refused(run):
    done = run(SubmittedEvent(ATTEMPT), env={"PITBOSS_ADJUST_ALONE": "EUR:9999"})
    assert done.exit_code == 2
    assert "pitboss ledger limit set" in done.stderr


def test_what_the_normaliser_would_reject_is_not_appended():
    event = {"operation": "adjustment", "player_id": "p", "amount": "1", "currency": "EUR"}
    event |= {"actor": "e\x1b[31mvil", "reason": "a test"}
    body, _ = operator_events.build_record(event, None, "default", 1)
    with pytest.raises(UsageError, match=r"actor.*nothing was appended"):
        operator_events.check_event(body)
    body, _ = operator_events.build_record(event | {"actor": "ann"}, None, "default", 1)
    operator_events.check_event(body)


def test_a_dead_letter_ends_the_command_with_its_code_and_without_an_id_to_approve(run):
    done = run(SubmittedEvent(ATTEMPT, letter=LETTER))
    assert done.exit_code == 1
    assert done.stdout.startswith("REJECTED MISSING_SIGNATURE: the header x-house-signature")
    assert "pitboss dlt show provider.house.raw.v1-14@39" in done.stdout
    assert "approve" not in done.stdout
    assert "set PITBOSS_KEYS_FILE" in done.stderr


def test_with_json_a_dead_letter_stands_beside_the_outcome(run):
    done = run(SubmittedEvent(ATTEMPT, letter=LETTER), "--json")
    assert done.exit_code == 1
    shown = json.loads(done.stdout)
    assert shown["outcome"] is None
    assert shown["dead_letter"] == {"code": LETTER.code, "detail": LETTER.detail}


def test_no_answer_promises_nothing_and_names_the_id_to_approve(run):
    done = run(SubmittedEvent(ATTEMPT), "--wait", "0.5")
    assert done.exit_code == 0
    assert "no outcome within 0.5 s: it comes once the workers have read it" in done.stdout
    assert "pitboss dlt list" in done.stdout
    assert "pitboss ledger approve" in done.stdout


def test_the_command_to_approve_names_a_brand_only_if_it_was_given(run):
    whoever = run(SubmittedEvent(ATTEMPT)).stdout
    assert "--brand" not in whoever
    assert "--brand zeta --by" in run(SubmittedEvent(ATTEMPT), "--brand", "zeta").stdout


@pytest.mark.parametrize(
    ("options", "submitted"), [((), None), (("--brand", "acme"), "acme"), (("--brand", "b"), None)]
)
def test_suspense_of_one_brand_goes_to_a_player_of_another_only_where_that_is_said(
    monkeypatch, options, submitted
):
    """Two brands may both have a player of this id: the person may mean the other one."""
    item = OpenEntry(
        kind="suspense",
        reason="PLAYER_UNKNOWN",
        event_id=str(uuid.uuid4()),
        provider="adyen",
        brand="zeta",
        operation="AUTHORISATION",
        provider_tx_id="d-1",
        player_id=None,
        currency="EUR",
        amount_minor=500,
        since_ms=1,
        partition=0,
        source_offset=7,
    )
    brands = []
    monkeypatch.setattr(ledger_open, "_read_suspense", lambda _: item)
    monkeypatch.setattr(ledger_open, "query_ledger", lambda _: {})
    monkeypatch.setattr(ledger_open, "find_brand", lambda _: "acme", raising=False)
    monkeypatch.setattr(
        ledger_open, "submit_and_print", lambda _, brand, **__: brands.append(brand)
    )
    arguments = ["assign", item.event_id, "p-1", "--by", "kim", "--reason", "test", *options]
    done = CliRunner().invoke(cli, ["ledger", "suspense", *arguments])
    assert brands == ([] if submitted is None else [submitted])
    assert done.exit_code == (2 if submitted is None else 0)
    assert submitted or "player p-1 is of brand acme" in done.stderr


def test_a_shell_without_the_key_of_the_running_workers_is_warned_with_their_file(run, tmp_path):
    keys = tmp_path / "keys.json"
    keys.touch(mode=0o600)
    keys.write_text(json.dumps({"house": {"hmac_hex": "aa" * 32}}))
    with hold_roles(tmp_path, "", ["normalise"], workers=1, keys_file=keys):
        done = run(SubmittedEvent(ATTEMPT))
    assert f"set PITBOSS_KEYS_FILE={keys}\n" in done.stderr
    assert done.stderr.count("warning: ") == 1
    keys.write_text("{}")
    with hold_roles(tmp_path, "", ["normalise"], workers=1, keys_file=keys):
        assert f"PITBOSS_KEYS_FILE={keys}" not in run(SubmittedEvent(ATTEMPT)).stderr
