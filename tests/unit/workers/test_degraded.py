"""A worker that ends again and again for one reason is degraded: in `status`, with place and runbook."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pitboss.cli.main import cli
from pitboss.workers.degraded import (
    ENDS_MIN,
    RepeatedEnds,
    describe_worker,
    list_degraded,
    mark,
    unmark,
)
from pitboss.workers.role_locks import hold_roles, list_running

LOG = Path("ledger-1.log")
MISMATCH = "LOG_MISMATCH: wallet.transactions.v1-3@17: the log holds another record there"


def ended(ends: RepeatedEnds, *errors: str, code: int = 71, is_early: bool = True) -> list[bool]:
    return [
        ends.on_end(code, error, 1_000 + n, is_early=is_early) for n, error in enumerate(errors)
    ]


def test_the_third_early_end_for_one_reason_degrades_and_a_place_may_differ():
    ends = RepeatedEnds()
    assert ended(ends, MISMATCH, MISMATCH.replace("17", "18"), MISMATCH) == [False, False, True]
    assert (ends.count, ends.since_ms) == (ENDS_MIN, 1_000)


def test_another_reason_and_a_late_end_begin_anew():
    assert ended(RepeatedEnds(), MISMATCH, MISMATCH, "FENCED: other", MISMATCH) == [False] * 4
    assert ended(RepeatedEnds(), *[MISMATCH] * 5, is_early=False) == [False] * 5


@pytest.mark.parametrize("code", [0, 69])
def test_a_drain_and_a_server_that_is_away_do_not_degrade(code):
    assert ended(RepeatedEnds(), *["UNAVAILABLE: away"] * 5, code=code) == [False] * 5


@pytest.mark.parametrize("error", ["LOGIN_REFUSED", "TLS_UNKNOWN_CA", "STACK_PART_MISSING"])
def test_what_only_an_operator_repairs_degrades_though_its_exit_code_is_that_of_a_server_away(
    error,
):
    assert ended(RepeatedEnds(), *[f"{error}: b:9093"] * 3, code=69) == [False, False, True]
    away = "UNAVAILABLE: away"
    assert ended(RepeatedEnds(), *[f"{error}: b:9093", away] * 3, code=69) == [False] * 6


def test_refused_connections_lead_to_the_page_of_tls_and_logins():
    for code in ("LOGIN_REFUSED", "TLS_EXPIRED"):
        worker = describe_worker("x-1", "x", "", 69, f"{code}: b", RepeatedEnds("", 3, 9), LOG)
        page, _, anchor = worker.runbook.partition("#")
        text = (Path(__file__).parents[3] / page).read_text()
        assert f"| `{code}` |" in text.partition(f"## {anchor.replace('-', ' ').capitalize()}\n")[2]


def test_a_signal_again_and_again_degrades():
    assert ended(RepeatedEnds(), *["its last line"] * 3, code=-9)[-1]


def test_it_names_the_place_and_the_runbook_and_a_runbook_exists():
    worker = describe_worker("ledger-1", "ledger", "", 71, MISMATCH, RepeatedEnds("", 3, 9), LOG)
    assert worker.place == "wallet.transactions.v1-3@17"
    assert worker.runbook == "docs/howto/restore.md"
    other = describe_worker("x-1", "x", "", 70, "no code", RepeatedEnds("", 3, 9), LOG)
    assert other.place is None
    page, _, anchor = other.runbook.partition("#")
    text = (Path(__file__).parents[3] / page).read_text()
    assert f"## {anchor.replace('-', ' ').capitalize()}\n" in text


def test_only_workers_of_supervisors_that_run_are_listed(tmp_path):
    worker = describe_worker("ledger-1", "ledger", "a", 71, MISMATCH, RepeatedEnds("", 3, 9), LOG)
    mark(tmp_path, "ns", worker)
    assert list_degraded(tmp_path, "ns", list_running(tmp_path, "ns")) == []
    with hold_roles(tmp_path, "ns", ["ledger"], workers=1, worker_id="a"):
        assert list_degraded(tmp_path, "ns", list_running(tmp_path, "ns")) == [worker]
        unmark(tmp_path, "ns", "a", "ledger-1")
        assert list_degraded(tmp_path, "ns", list_running(tmp_path, "ns")) == []


def test_status_shows_it(tmp_path):
    worker = describe_worker("ledger-1", "ledger", "", 71, MISMATCH, RepeatedEnds("", 3, 9), LOG)
    environment = {"PITBOSS_HOME": str(tmp_path), "PITBOSS_NAMESPACE": "ns"}
    mark(tmp_path, "ns", worker)
    with hold_roles(tmp_path, "ns", ["ledger"], workers=1):
        shown = CliRunner().invoke(cli, ["status"], env=environment)
        as_json = CliRunner().invoke(cli, ["status", "--json"], env=environment)
    assert f"error: {worker}" in shown.stderr
    [found] = json.loads(as_json.stdout)["degraded"]
    assert found["place"] == worker.place
